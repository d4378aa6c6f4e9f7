"""Glyphs of fonts: their outlines, how far they lead on, and how pairs of them are kerned."""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal

from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont

from pds_nerfstudio.vector.svg.fonts import font_options
from pds_nerfstudio.vector.svg.numbers import format_number

_GENERIC = {"serif": "serif_family", "sans-serif": "sans_serif_family", "monospace": "monospace_family"}


class Face:
    """One font.

    Args:
        path: Its file. Of a collection it is the first one.
    """

    def __init__(self, path: str) -> None:
        self._font: Any = TTFont(path, fontNumber=0, lazy=True)
        self._names: dict[int, str] = self._font.getBestCmap() or {}
        self._glyphs: Any = self._font.getGlyphSet()
        self.units: int = self._font["head"].unitsPerEm
        """Units of the font in one em."""

    def glyph(self, char: str) -> str | None:
        """Return the name of a character's glyph, if there is one."""
        return self._names.get(ord(char))

    def advance(self, glyph: str) -> float:
        """Return how far a glyph leads on, in em."""
        return float(self._glyphs[glyph].width) / self.units

    def outline(self, glyph: str, x: float, y: float, size: float, decimals: int) -> str:
        """Return a glyph as path data.

        Args:
            glyph: Its name.
            x: Where it begins.
            y: Where its base line is.
            size: 1 em.
            decimals: Of the numbers.
        """
        pen = SVGPathPen(self._glyphs, ntos=lambda value: format_number(value, decimals))
        scale = size / self.units
        self._glyphs[glyph].draw(TransformPen(pen, (scale, 0, 0, -scale, x, y)))
        return str(pen.getCommands())

    def kerning(self, left: str, right: str) -> float:
        """Return by how much a pair of glyphs is set wider, in em."""
        for subtables in self._pairs:
            for subtable in subtables:
                value = _pair_value(subtable, left, right)
                if value is not None:
                    return value / self.units
        return 0.0

    @cached_property
    def _pairs(self) -> list[list[Any]]:
        """The lookups of pairs that the feature `kern` has, each with its subtables."""
        if "GPOS" not in self._font:
            return []
        table = self._font["GPOS"].table
        if table.FeatureList is None or table.LookupList is None:
            return []
        features = [r.Feature for r in table.FeatureList.FeatureRecord if r.FeatureTag == "kern"]
        indices = sorted({index for feature in features for index in feature.LookupListIndex})
        lookups = [table.LookupList.Lookup[index] for index in indices]
        return [list(_pair_subtables(lookup)) for lookup in lookups]


def _pair_subtables(lookup: Any) -> Iterator[Any]:
    for subtable in lookup.SubTable:
        inner = subtable.ExtSubTable if subtable.LookupType == 9 else subtable
        if inner.LookupType == 2:
            yield inner


def _pair_value(subtable: Any, left: str, right: str) -> float | None:
    """Return the kerning that a subtable has for a pair; None if it has none, so that the next one counts."""
    if left not in subtable.Coverage.glyphs:
        return None
    if subtable.Format == 1:
        pairs = subtable.PairSet[subtable.Coverage.glyphs.index(left)].PairValueRecord
        record = next((pair for pair in pairs if pair.SecondGlyph == right), None)
    else:
        first, second = (
            table.classDefs.get(name, 0) for table, name in ((subtable.ClassDef1, left), (subtable.ClassDef2, right))
        )
        record = subtable.Class1Record[first].Class2Record[second]
    if record is None:
        return None
    return float(getattr(record.Value1, "XAdvance", 0) or 0) if record.Value1 is not None else 0.0


@lru_cache(maxsize=64)
def face_of(families: Sequence[str], weight: str, style: str) -> Face:
    """Return the font that text is drawn in.

    Args:
        families: Names of families, the first one that there is; without one the font that stands for all others.
        weight: Value of `font-weight`.
        style: Value of `font-style`.
    """
    from matplotlib.font_manager import FontProperties, findfont

    options = font_options()
    heavy: str | int = {"bolder": "bold", "lighter": "light"}.get(weight, weight)
    slant: Literal["normal", "italic", "oblique"] = "italic" if style.startswith(("italic", "oblique")) else "normal"
    heavy = int(heavy) if isinstance(heavy, str) and heavy.isdigit() else heavy
    for name in (*families, options["font_family"]):
        family = options.get(_GENERIC.get(name.lower(), ""), name)
        try:
            properties = FontProperties(family=[family], weight=heavy, style=slant)
            return Face(findfont(properties, fallback_to_default=False))
        except ValueError:
            continue
    return Face(findfont(FontProperties()))
