"""Outlines of an SVG's shapes, the boxes around them, and where transforms put them."""

import math
from dataclasses import dataclass, field, replace

import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.scene import ClipShape, Group, Members, Node, Picture
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY, read_shape
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.context import Context, geometry_of
from pds_nerfstudio.vector.svg.import_record import FileIndex, PathSlot, RowKeeper
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.properties import GEOMETRY_PROPERTIES
from pds_nerfstudio.vector.svg.transforms import about, parse_origin, read_transform
from pds_nerfstudio.vector.svg.xml_source import Element

MAX_SEGMENTS = 1_000_000
"""Bound on segments drawn, each counted as often as it is used."""

_MOVES = ("translate", "rotate", "scale")
_MOVING = {"transform", *_MOVES}
_PLACING = {"transform", "clip-path"}
"""What decides where an element shows: unread, it must stay where it is."""

Box = tuple[float, float, float, float]
"""x, y, width, height."""


@dataclass
class OutlineImporter:
    """The outlines of one file."""

    file: FileIndex
    """Gets what could not be read."""
    rows: RowKeeper
    """Gets the points."""
    slots: dict[Element, PathSlot | None] = field(default_factory=dict)
    """The points of each element, None where it draws nothing."""
    locked: set[Element] = field(default_factory=set)
    """Elements that must stay where they are."""
    segments: int = 0
    """Segments drawn so far."""

    def read(self, element: Element, context: Context) -> PathSlot | None:
        """Return the element's points, the same for every use.

        Raises:
            UserError: If the file draws too much.
        """
        if element not in self.slots:
            style = context.style
            source = read_shape(element.tag, lambda name: geometry_of(element, style, name), context.viewport)
            slot = None
            if source is not None:
                if not source.complete:
                    self.file.undrawn.add(f"{'path data' if element.tag == 'path' else 'points'} after an error")
                for name in source.unread:
                    self.file.note_unread(name, geometry_of(element, style, name) or "")
                    self.locked.add(element)
                first = len(self.rows.builder.points)
                path = self.rows.builder.add_path(source.outline.points, source.outline.contours)
                slot = PathSlot(path, element, source, first, affine.mean_scale(context.transform))
            self.slots[element] = slot
        slot = self.slots[element]
        if slot is not None:
            self.segments += sum(len(segments) for segments, _ in slot.source.outline.contours)
            if self.segments > MAX_SEGMENTS:
                raise UserError(f"{self.file.name}: draws more than {MAX_SEGMENTS} segments; simplify it.")
            if context.locked or (context.style.unread and context.style.unread & GEOMETRY_PROPERTIES):
                self.locked.add(element)
        return slot

    def lock(self, paths: set[int]) -> None:
        """Keep paths where they are."""
        self.locked |= {slot.element for slot in self.slots.values() if slot is not None and slot.path in paths}

    def record(self) -> list[PathSlot]:
        """Return the points of all elements that draw."""
        found = [slot for slot in self.slots.values() if slot is not None]
        return [replace(slot, editable=False) if slot.element in self.locked else slot for slot in found]

    def enter(self, element: Element, style: Style, outside: Context) -> Context:
        """Return what holds inside of an element that stands in a context: its style, and its transform.

        Args:
            element: The element.
            style: Its own values.
            outside: What holds around it.
        """
        viewport, size = outside.viewport, float(style.get("font-size", "16"))
        if size != viewport.font_size:
            viewport = replace(viewport, font_size=size, root_font_size=self.file.cascade.root_font_size)
        chain = (*outside.chain, element)
        inside = Context(style, outside.transform, viewport, outside.extent, chain, outside.locked)
        if not style.keys() & _MOVING and not style.unread:
            return inside
        own, fixed = self._transform(element, inside)
        transform = affine.compose(outside.transform, own)
        return replace(inside, transform=transform, locked=outside.locked or fixed)

    def _transform(self, element: Element, inside: Context) -> tuple[Affine, bool]:
        """Return an element's own transform, and whether it must stay where that puts it."""
        style = inside.style
        fixed = bool(style.unread & _PLACING)
        for name in _MOVES:
            if style.get(name, "none") != "none":
                self.file.note_unread(name, style[name])
                fixed = True
        text = style.get("transform")
        if not text:
            return IDENTITY, fixed
        view, corner = inside.viewport, (0.0, 0.0)
        if style.get("transform-box", "view-box") != "view-box":
            box = self._own_box(element, inside)
            if box is None:
                self.file.note_unread("transform-box", style["transform-box"])
            else:
                # the box moves with the points, and the file's transform with the box
                view, corner = replace(view, width=box[2], height=box[3]), (box[0], box[1])
            fixed = True
        own = read_transform(text, view)
        if own is None:
            self.file.note_unread("transform", text)
            return IDENTITY, True
        origin = parse_origin(style.get("transform-origin"), view)
        if origin is None:
            self.file.note_unread("transform-origin", style["transform-origin"])
            return own, True
        x, y = corner[0] + origin[0], corner[1] + origin[1]
        return (about(own, x, y) if (x, y) != (0.0, 0.0) else own), fixed

    def _own_box(self, element: Element, inside: Context) -> Box | None:
        """Return the box that the transform of a shape refers to, in the shape's units."""
        if inside.style["transform-box"] not in ("fill-box", "content-box") or element.tag not in GEOMETRY:
            return None
        slot = self.read(element, inside)
        return None if slot is None else self.box(((slot.path, IDENTITY),))

    def members(self, node: Node | ClipShape, frame: Affine) -> Members:
        """Return the paths that a node draws, each with the map to the units of a frame."""
        inverse = inverse_of(frame)
        found, stack = [], list[Node | ClipShape]([node])
        while stack:
            current = stack.pop()
            if isinstance(current, Group):
                stack.extend(current.children)
            elif isinstance(current, Picture):
                found.append((current.path, inverse))
            else:
                found.append((current.path, affine.compose(inverse, current.transform)))
        return tuple(found)

    def box(self, members: Members) -> Box | None:
        """Return the bounding box of paths; None where it has no area."""
        curves = [
            [affine.apply(to_frame, *point) for point in segment]
            for path, to_frame in members
            for segment in self.rows.builder.segments_of(path)
        ]
        if not curves:
            return None
        ctrl = torch.tensor(curves, dtype=torch.float64)
        left, top, right, bottom = bounding_boxes(ctrl, torch.zeros(len(curves), dtype=torch.long), 1)[0].tolist()
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def viewport_of(width: float, height: float, around: Viewport) -> Viewport:
    """Return a viewport of another size with the fonts of the one around it."""
    return replace(around, width=width, height=height)


def inverse_of(transform: Affine) -> Affine:
    """Return the inverse of a map."""
    a, b, c, d, e, f = affine.inverse(torch.tensor(transform, dtype=torch.float64)).tolist()
    return a, b, c, d, e, f


def is_degenerate(transform: Affine) -> bool:
    """Tell whether a map leaves nothing to draw."""
    return affine.determinant(transform) == 0 or not all(map(math.isfinite, transform))
