"""Markers on the vertices of paths (SVG 2, section 13.7)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Group, Node, Shape
from pds_nerfstudio.vector.svg.context import Context, DrawChildren
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex, PathSlot
from pds_nerfstudio.vector.svg.numbers import Viewport, parse_length
from pds_nerfstudio.vector.svg.outline_importer import is_degenerate, viewport_of
from pds_nerfstudio.vector.svg.paint_importer import PaintImporter
from pds_nerfstudio.vector.svg.path_grammar import Outline, Point
from pds_nerfstudio.vector.svg.tile import cut_to
from pds_nerfstudio.vector.svg.transforms import parse_transform
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.viewbox import fit_view_box, parse_view_box
from pds_nerfstudio.vector.svg.xml_source import Element

MARKERS = ("marker", "marker-start", "marker-mid", "marker-end")
"""The properties that put markers on paths."""
HELD = "paths with markers, and markers"
"""What is said of them."""

_MARKED = ("path", "line", "polyline", "polygon")
_SIDES = {"left": 0.0, "top": 0.0, "center": 0.5, "right": 1.0, "bottom": 1.0}


@dataclass(frozen=True)
class _Vertex:
    """Where a marker may stand."""

    point: Point
    """Its place."""
    angle: float
    """Direction of the path there, in degrees."""


@dataclass
class MarkerImporter:
    """The markers of one file. They stand where the path is at import, so the path must stay as it is."""

    file: FileIndex
    """Where they are looked up."""
    paints: PaintImporter
    """Paints them, and holds their numbers."""

    def read(
        self, element: Element, context: Context, slot: PathSlot, shape: Shape, draw: DrawChildren
    ) -> Group | None:
        """Return an element's markers; None for none.

        Args:
            element: The element.
            context: What holds inside of it.
            slot: Its points.
            shape: How it is painted.
            draw: Draws what is in a marker.
        """
        style, drawn = context.style, list[Node]()
        if element.tag not in _MARKED:
            return None
        vertices = _vertices(slot.source.outline)
        kinds = ["start", *["mid"] * (len(vertices) - 2), "end"]
        for vertex, kind in zip(vertices, kinds, strict=True):
            marker = self._marker(style.get(f"marker-{kind}", style.get("marker", "none")))
            if marker is None:
                continue
            if marker in context.chain:
                self.file.undrawn.add(TO_ITSELF)
                continue
            turn = vertex.angle + (180 if kind == "start" and _orient(marker) == "auto-start-reverse" else 0)
            drawn += self._at(marker, context, shape, replace(vertex, angle=turn), draw)
        if not drawn:
            return None
        self.file.held.add(HELD)
        self.paints.outlines.locked.add(element)
        width = self.paints.rows.slots.get(("widths", element, "stroke-width"))
        if width is not None:
            width.editable = False
        return Group(tuple(drawn))

    def _marker(self, value: str) -> Element | None:
        url = parse_url(value)
        target = None if url is None else self.file.target(url[0])
        return target if target is not None and target.tag == "marker" else None

    def _at(self, marker: Element, context: Context, shape: Shape, vertex: _Vertex, draw: DrawChildren) -> list[Node]:
        """Return what a marker draws at a vertex."""
        style = self.file.cascade.own_style(marker)
        get, view = marker.attributes.get, context.viewport
        width = _length(get("markerWidth"), view, view.width)
        height = _length(get("markerHeight"), view, view.height)
        scale = 1.0
        if get("markerUnits") != "userSpaceOnUse":
            row = None if shape.stroke is None else shape.stroke.width
            length = view.length(context.style.get("stroke-width"), view.diagonal)
            scale = self.paints.rows.builder.widths[row] if row is not None else 1.0 if length is None else length
        if width <= 0 or height <= 0 or scale <= 0:
            return []
        box = parse_view_box(get("viewBox"))
        fitted = affine.IDENTITY if box is None else fit_view_box(box, width, height, get("preserveAspectRatio"))
        x, y, inner_width, inner_height = (0.0, 0.0, width, height) if box is None else box
        reference = affine.apply(
            fitted, _reference(get("refX"), x, inner_width), _reference(get("refY"), y, inner_height)
        )
        angle = vertex.angle if _orient(marker).startswith("auto") else _angle(_orient(marker))
        placed: Affine = affine.compose(context.transform, affine.translation(*vertex.point))
        for step in (parse_transform(f"rotate({angle:f})"), affine.scaling(scale, scale)):
            placed = affine.compose(placed, step)
        placed = affine.compose(placed, affine.translation(-reference[0], -reference[1]))
        inside = Context(
            style, affine.compose(placed, fitted), viewport_of(inner_width, inner_height, view),
            context.extent, (*context.chain, marker), locked=True,
        )  # fmt: skip
        if is_degenerate(inside.transform):
            return []
        children = self._draw(marker, inside, shape, draw)
        opacities = self.paints.opacity_rows(marker, style) if children else ()
        group = Group(tuple(children), opacities)
        if children and style.get("overflow", "hidden") not in ("visible", "auto"):
            group = replace(group, clip=cut_to((0.0, 0.0, width, height), group, placed, self.paints.outlines))
        return [group] if children else []

    def _draw(self, marker: Element, inside: Context, shape: Shape, draw: DrawChildren) -> list[Node]:
        """Return the contents of a marker, locked, in the colours of the marked element where they ask for them."""
        paints, rows = self.paints, self.paints.rows
        before = paints.around, rows.locked
        parts = {"context-fill": shape.fill, "context-stroke": shape.stroke}
        paints.around = {name: None if part is None else (part.paint, part.opacities) for name, part in parts.items()}
        rows.locked = True
        try:
            return draw(marker.children, inside)
        finally:
            paints.around, rows.locked = before


def _orient(marker: Element) -> str:
    return marker.attributes.get("orient", "0").strip()


def _angle(text: str) -> float:
    """Return an angle in degrees."""
    for unit, degrees in (("deg", 1.0), ("grad", 0.9), ("rad", 180 / math.pi), ("turn", 360.0)):
        if text.endswith(unit):
            return (parse_length(text.removesuffix(unit), 1.0) or 0.0) * degrees
    return parse_length(text, 1.0) or 0.0


def _length(text: str | None, view: Viewport, reference: float) -> float:
    value = view.length(text, reference)
    return 3.0 if value is None else value


def _reference(text: str | None, start: float, side: float) -> float:
    """Return a coordinate of the point that is put on the vertex."""
    word = (text or "0").strip()
    if word in _SIDES:
        return start + _SIDES[word] * side
    return parse_length(word, side) or 0.0


def _direction(points: list[Point]) -> Point | None:
    """Return the direction in which a cubic leaves its first point; None for one without length."""
    (x, y), *others = points
    for px, py in others:
        length = math.hypot(px - x, py - y)
        if length > 0:
            return (px - x) / length, (py - y) / length
    return None


def _vertices(outline: Outline) -> list[_Vertex]:
    """Return the vertices of a path in their order."""
    return [vertex for segments, closed in outline.contours for vertex in _along(outline, segments, closed)]


def _along(outline: Outline, segments: list[tuple[int, int, int, int]], closed: bool) -> Iterator[_Vertex]:
    curves = [[outline.points[k] for k in segment] for segment in segments]
    out = [_direction(curve) for curve in curves]
    into = [None if (d := _direction(curve[::-1])) is None else (-d[0], -d[1]) for curve in curves]
    for k in range(len(segments) + 1):
        if 0 < k < len(segments) and segments[k][0] in outline.within:
            continue
        before = into[k - 1] if k else into[-1] if closed else None
        after = out[k] if k < len(segments) else out[0] if closed else None
        directions = [d for d in (before, after) if d is not None] or [(1.0, 0.0)]
        x, y = (sum(d[axis] for d in directions) for axis in (0, 1))
        if math.hypot(x, y) < 1e-9:  # it turns back: across both
            x, y = -directions[0][1], directions[0][0]
        point = curves[k][0] if k < len(segments) else curves[-1][3]
        yield _Vertex(point, math.degrees(math.atan2(y, x)))
