"""Text, embedded pictures, and what has filters that are not drawn here: drawn by resvg where it stands."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

import numpy as np
import resvg_py
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Picture
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.context import Box, Context
from pds_nerfstudio.vector.svg.fonts import font_options
from pds_nerfstudio.vector.svg.import_record import FileIndex
from pds_nerfstudio.vector.svg.properties import INHERITED
from pds_nerfstudio.vector.svg.regions import corners
from pds_nerfstudio.vector.svg.tag_edits import TagEdit, replacements
from pds_nerfstudio.vector.svg.xml_source import SVG, Element, XmlSource

SIDE = 2048
"""Pixels along the larger side of the whole drawing, of which pictures have as many as they need."""
MOST = 1024
"""Most pixels along a side of a picture."""
ROUGH = 256
"""Pixels along the larger side of the drawing where it is to be found out what shows."""
MAX_PICTURES = 500
"""Bound on pictures in a file."""
_MULTIPLE = 8
"""Sides are so many pixels or a multiple of that, so that pixels can be averaged."""
_NAME = "pds-picture-"
_PLAIN = {
    "transform": "none", "opacity": "1", "clip-path": "none", "mask": "none", "filter": "none", "display": "inline",
}  # fmt: skip
"""Properties of the outermost element that are drawn elsewhere."""


@dataclass
class PictureImporter:
    """The pictures of one file."""

    source: XmlSource
    """The file."""
    file: FileIndex
    """Gets what cannot be drawn."""
    builder: SceneBuilder
    """Gets the boxes around them."""
    _known: dict[tuple, Picture | None] = field(default_factory=dict)

    def read(self, elements: Sequence[Element], context: Context) -> Picture | None:
        """Return elements that stand next to each other as they look, with all of their own properties.

        Args:
            elements: The elements.
            context: What holds where they stand.

        Returns:
            None where nothing shows.
        """
        names = sorted({element.tag for element in elements})
        key = (*elements, context.transform, *sorted(context.style.items()))
        if key not in self._known:
            if len(self._known) >= MAX_PICTURES:
                self.file.undrawn.update(names)
                return None
            try:
                self._known[key] = self._drawn(elements, context)
            except ValueError:  # resvg cannot read what is read here
                self.file.undrawn.update(names)
                return None
        self.file.held.update(names)
        return self._known[key]

    def _drawn(self, elements: Sequence[Element], context: Context) -> Picture | None:
        whole = context.extent
        fineness = SIDE / max(whole[2:])
        # a small picture says where something shows
        rough = _Window(whole, ROUGH / max(whole[2:]))
        seen = (rough.draw(self.source, elements, context)[3] > 0).nonzero()
        if not len(seen):
            return None
        low, high = ((seen.amin(0) - 1) / rough.fineness).tolist(), ((seen.amax(0) + 2) / rough.fineness).tolist()
        left, top = (max(value, 0.0) for value in low[::-1])
        right, bottom = (min(value, side) for value, side in zip(high[::-1], whole[2:], strict=True))
        fineness = min(fineness, MOST / max(right - left, bottom - top))
        window = _Window((whole[0] + left, whole[1] + top, right - left, bottom - top), fineness)
        pixels, box = window.draw(self.source, elements, context), window.filled
        return Picture(pixels, box, self.builder.add_polygon(corners(box)))


@dataclass(frozen=True)
class _Window:
    """A part of a drawing."""

    box: Box
    """x, y, width and height in its units."""
    fineness: float
    """Pixels of one unit."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        across, down = (math.ceil(side * self.fineness / _MULTIPLE) for side in self.box[2:])
        return max(across, 1) * _MULTIPLE, max(down, 1) * _MULTIPLE

    @property
    def filled(self) -> Box:
        """The box of all pixels, which may be a little larger than the part."""
        width, height = self.size
        return self.box[0], self.box[1], width / self.fineness, height / self.fineness

    def draw(self, source: XmlSource, elements: Sequence[Element], context: Context) -> Float[Tensor, "4 h w"]:
        """Return some elements of a file as resvg draws them, premultiplied."""
        svg = _alone(source, elements, context, self)
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, dpi=96, **font_options()))
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
        rgba = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
        return torch.cat([rgba[:3] * rgba[3:], rgba[3:]])


def _alone(source: XmlSource, elements: Sequence[Element], context: Context, window: _Window) -> str:
    """Return a file that draws some elements of another one, and nothing else."""
    (x, y, _, _), scale, (width, height) = window.box, window.fineness, window.size
    view = context.viewport
    placed: Affine = affine.compose(affine.scaling(scale, scale), affine.translation(-x, -y))
    placed = affine.compose(affine.scaling(view.width / width, view.height / height), placed)
    placed = affine.compose(placed, context.transform)
    edits = {source.root: TagEdit(properties=dict(_PLAIN))}
    edits[source.root].attributes = {
        "width": str(width),
        "height": str(height),
        "viewBox": f"0 0 {view.width} {view.height}",
        "preserveAspectRatio": "none",
    }
    uses = []
    for number, element in enumerate(elements):
        name = element.attributes.get("id") or f"{_NAME}{number}"
        edits.setdefault(element, TagEdit()).attributes["id"] = name
        uses.append(f"<pds:use href={quoteattr('#' + name)}/>")
    inherited = " ".join(
        f"{name}={quoteattr(value)}" for name, value in sorted(context.style.items()) if name in INHERITED
    )
    opening = f'<pds:defs xmlns:pds="{SVG}">'
    matrix = " ".join(str(number) for number in placed)
    closing = f'</pds:defs><pds:g xmlns:pds="{SVG}" transform="matrix({matrix})" {inherited}>{"".join(uses)}</pds:g>'
    _, start = source.tag_span(source.root)
    changes = [(start, start, opening.encode()), (source.root.end, source.root.end, closing.encode())]
    for element, edit in edits.items():
        changes += replacements(source, element, edit)
    parts, position = [], 0
    for first, last, text in sorted(changes):
        parts += [source.data[position:first], text]
        position = last
    return b"".join([*parts, source.data[position:]]).decode()
