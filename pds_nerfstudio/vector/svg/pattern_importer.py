"""Patterns: pictures in the place of colours (SVG 2, section 14.3)."""

from dataclasses import dataclass, field

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.scene import Group, Pattern
from pds_nerfstudio.vector.svg.context import Context, DrawChildren
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex, PathSlot
from pds_nerfstudio.vector.svg.numbers import Viewport, parse_length
from pds_nerfstudio.vector.svg.outline_importer import OutlineImporter, is_degenerate, viewport_of
from pds_nerfstudio.vector.svg.regions import BOX
from pds_nerfstudio.vector.svg.transforms import read_transform
from pds_nerfstudio.vector.svg.viewbox import fit_view_box, parse_view_box
from pds_nerfstudio.vector.svg.xml_source import Element

HELD = "patterns"
"""What is said of them."""
BOXED = "what is painted with patterns in units of a box"
"""What is said of it: the pattern is as large as the box is at import."""


@dataclass
class PatternImporter:
    """The patterns of one file. What is in them stays as it is."""

    file: FileIndex
    """Where they are looked up."""
    outlines: OutlineImporter
    """Has the boxes that they refer to."""
    draw: DrawChildren
    """Draws what is in a tile."""
    _open: list[Element] = field(default_factory=list)
    """Those that are being read."""
    _known: dict[tuple, Pattern | None] = field(default_factory=dict)

    def read(self, element: Element, viewport: Viewport, slot: PathSlot) -> Pattern | None:
        """Return a pattern as it paints a path; None for one that paints nothing.

        Args:
            element: The pattern.
            viewport: What lengths refer to.
            slot: The path.
        """
        if element in self._open:
            self.file.undrawn.add(TO_ITSELF)
            return None
        chain = [element]
        while (following := self.file.reference(chain[-1])) is not None and following.tag == "pattern":
            if following in chain:
                self.file.undrawn.add(TO_ITSELF)
                break
            chain.append(following)
        given = {name: value for link in reversed(chain) for name, value in link.attributes.items()}
        content = next((link for link in chain if link.children), None)
        boxed = given.get("patternUnits", BOX) != "userSpaceOnUse"
        scaled = given.get("patternContentUnits") == BOX and "viewBox" not in given
        box = None
        if boxed or scaled:
            box = self.outlines.box(((slot.path, IDENTITY),))
            self.outlines.lock({slot.path})
            self.file.held.add(BOXED)
            if box is None:
                return None
        if content is None:
            return None
        self.file.held.add(HELD)
        key = (element, viewport, box)
        if key not in self._known:
            self._open.append(element)
            try:
                self._known[key] = self._read(given, content, viewport, box if boxed else None, box if scaled else None)
            finally:
                self._open.pop()
        return self._known[key]

    def _read(
        self,
        given: dict[str, str],
        content: Element,
        viewport: Viewport,
        around: tuple[float, float, float, float] | None,
        unit: tuple[float, float, float, float] | None,
    ) -> Pattern | None:
        """Return a pattern.

        Args:
            given: Its attributes, with those that it has from others.
            content: The element whose children it draws.
            viewport: What lengths refer to.
            around: The box that the tile refers to, if it does.
            unit: The box that what is in it refers to, if it does.
        """
        left, top, across, down = around or (0.0, 0.0, 1.0, 1.0)

        def side(name: str, whole: float, scale: float) -> float:
            text = given.get(name, "0")
            value = viewport.length(text, whole) if around is None else parse_length(text, 1.0)
            return (value or 0.0) * (1.0 if around is None else scale)

        x, width = side("x", viewport.width, across), side("width", viewport.width, across)
        y, height = side("y", viewport.height, down), side("height", viewport.height, down)
        if around is not None:
            x, y = x + left, y + top
        if width <= 0 or height <= 0:
            return None
        transform = read_transform(given.get("patternTransform"), viewport)
        if transform is None:
            self.file.note_unread("patternTransform", given["patternTransform"])
            transform = IDENTITY
        inner: Affine = IDENTITY
        box = parse_view_box(given.get("viewBox"))
        view = viewport
        if box is not None:
            inner = fit_view_box(box, width, height, given.get("preserveAspectRatio"))
            view = viewport_of(box[2], box[3], viewport)
        elif unit is not None:
            inner = affine.scaling(unit[2], unit[3])
        if is_degenerate(transform) or is_degenerate(inner):
            return None
        style = self.file.cascade.own_style(content)
        placed = affine.compose(affine.translation(x, y), inner)
        inside = Context(style, placed, view, (x, y, width, height), (content,), locked=True)
        rows, before = self.outlines.rows, self.outlines.rows.locked
        rows.locked = True
        try:
            children = self.draw(content.children, inside)
        finally:
            rows.locked = before
        return Pattern(Group(tuple(children)), (x, y, width, height), transform) if children else None
