"""A file that draws some elements of another one, and nothing else."""

import re
from collections.abc import Sequence
from functools import cached_property
from xml.sax.saxutils import quoteattr

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY
from pds_nerfstudio.vector.svg.context import Context
from pds_nerfstudio.vector.svg.properties import INHERITED
from pds_nerfstudio.vector.svg.tag_edits import TagEdit, replacements
from pds_nerfstudio.vector.svg.xml_source import SVG, Element, XmlSource

_NAME = "pds-picture-"
_PLAIN = {
    "transform": "none", "opacity": "1", "clip-path": "none", "mask": "none", "filter": "none", "display": "inline",
}  # fmt: skip
"""Properties of the outermost element that are drawn elsewhere."""
_DRAWN = frozenset((*GEOMETRY, "g", "a", "svg", "use", "switch", "text", "image"))
_REFERENCE = re.compile(rb"#([^\s\"')<>]+)")
_BY_PLACE = re.compile(r"[+~]|:(?:first|last|nth|only|empty)")


class Pruned:
    """A file of which what draws by itself can be left out.

    Args:
        source: The file.
    """

    def __init__(self, source: XmlSource) -> None:
        self.source = source

    @cached_property
    def first_of(self) -> dict[str, Element]:
        """The first element of each id, which is the one that it refers to."""
        found: dict[str, Element] = {}
        for element in self.source.root.walk():
            found.setdefault(element.attributes.get("id", ""), element)
        found.pop("", None)
        return found

    @cached_property
    def _needed(self) -> set[Element]:
        """What others refer to, and what that is in."""
        names = {match.decode() for match in _REFERENCE.findall(self.source.data)}
        found: set[Element] = set()
        for element in self.source.root.walk():
            if element.attributes.get("id") in names:
                found |= set(_lineage(element))
        return found

    @cached_property
    def _by_place(self) -> bool:
        """Whether a style sheet picks elements by their neighbours, so that all must stay."""
        return any(_BY_PLACE.search(element.text) for element in self.source.root.walk() if element.tag == "style")

    def spans(self, kept: Sequence[Element]) -> list[tuple[int, int]]:
        """Return the bytes that can go when some elements are all that is to be drawn."""
        if self._by_place:
            return []
        around = {ancestor for element in kept for ancestor in _lineage(element)}
        found, stack = [], [self.source.root]
        while stack:
            for child in stack.pop().children:
                if child in around:
                    if child not in kept:
                        stack.append(child)
                elif child.tag in _DRAWN and child not in self._needed:
                    found.append(self._span(child))
        return found

    def _span(self, element: Element) -> tuple[int, int]:
        start, end = self.source.tag_span(element)
        if self.source.data[end - 2 : end] != b"/>":
            end = self.source.data.index(b">", element.end) + 1
        return start, end


def _lineage(element: Element) -> list[Element]:
    """Return an element and all that it is in."""
    found = [element]
    while found[-1].parent is not None:
        found.append(found[-1].parent)
    return found


def alone(
    pruned: Pruned, elements: Sequence[Element], context: Context, to_pixels: Affine, size: tuple[int, int]
) -> str:
    """Return a file that draws some elements, and nothing else.

    Args:
        pruned: The file that they are in.
        elements: The elements, lowest first.
        context: What holds where they stand.
        to_pixels: From the drawing's units to pixels of the picture.
        size: Its width and height in pixels.
    """
    source, view, (width, height) = pruned.source, context.viewport, size
    placed = affine.compose(affine.scaling(view.width / width, view.height / height), to_pixels)
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
        name = element.attributes.get("id", "")
        if pruned.first_of.get(name) is not element:
            name = f"{_NAME}{number}"
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
    changes += [(first, last, b"") for first, last in pruned.spans(elements)]
    for element, edit in edits.items():
        changes += replacements(source, element, edit)
    parts, position = [], 0
    for first, last, text in sorted(changes):
        parts += [source.data[position:first], text]
        position = last
    return b"".join([*parts, source.data[position:]]).decode()
