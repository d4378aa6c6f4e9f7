"""From the elements of an SVG file to a scene, and a record of which number came from which attribute."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.scene import (
    Clip,
    ClipShape,
    Fill,
    Group,
    SceneBuilder,
    Shape,
)
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY, read_shape
from pds_nerfstudio.vector.svg.cascade import Style, parse_url
from pds_nerfstudio.vector.svg.import_record import FileIndex, Imported, PathSlot, RowKeeper
from pds_nerfstudio.vector.svg.numbers import Viewport, parse_length, parse_transform
from pds_nerfstudio.vector.svg.paint_importer import PaintImporter
from pds_nerfstudio.vector.svg.viewbox import fit_view_box, parse_view_box
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource

MAX_VISITS = 100_000
"""Bound on elements drawn, each counted as often as it is used."""
MAX_SEGMENTS = 1_000_000
"""Bound on segments drawn, each counted as often as it is used."""
MAX_NESTING = 150
"""Bound on how deep elements, uses and clip paths lead into one another."""


_UNDRAWN = ("text", "image", "foreignObject", "video", "canvas", "iframe", "mesh")
_IGNORED_PROPERTIES = {"filter": "none", "mask": "none", "mix-blend-mode": "normal", "vector-effect": "none"}


@dataclass(frozen=True)
class _Context:
    """What an element inherits from where it is drawn. For an element that is used, that is not where it stands."""

    style: Style
    transform: Affine
    viewport: Viewport
    chain: tuple[Element, ...] = ()
    """Containers, uses and clip paths around the element."""


@dataclass
class _Importer:
    """The import of one file."""

    file: FileIndex
    rows: RowKeeper
    paints: PaintImporter
    paths: dict[Element, PathSlot | None] = field(default_factory=dict)
    visits: int = 0
    segments: int = 0
    clips: dict[tuple[Element, Affine], Clip] = field(default_factory=dict)

    def run(self) -> Imported:
        root = self.file.root
        if root.tag != "svg":
            raise UserError(f"{self.file.name}: the outermost element is <{root.tag[:40]}>, not <svg>.")
        box = parse_view_box(root.attributes.get("viewBox"))
        _, _, box_width, box_height = box or (0, 0, 100.0, 100.0)
        width = parse_length(root.attributes.get("width", "100%"), box_width)
        height = parse_length(root.attributes.get("height", "100%"), box_height)
        if width is None or height is None or width <= 0 or height <= 0:
            raise UserError(f"{self.file.name}: width, height and viewBox give no size; set a viewBox.")
        content = IDENTITY
        if box is not None:
            content = fit_view_box(box, width, height, root.attributes.get("preserveAspectRatio"))
            viewport = Viewport(box[2], box[3])
        else:
            viewport = Viewport(width, height)
        style = self.file.cascade.style(root, {})
        context = _Context(style, content, viewport, (root,))
        children = self.children(root.children, context)
        group = Group(tuple(children), self.paints.opacity_rows(root, style), self.clip(root, style, context, None))
        scene, parameters = self.rows.builder.build([group])
        return Imported(
            scene,
            parameters,
            (width, height),
            list(self.rows.slots.values()),
            [p for p in self.paths.values() if p is not None],
            tuple(sorted(self.file.unsupported)),
            self.file.cascade,
        )

    def children(self, elements: Iterable[Element], context: _Context) -> list[Shape | Group]:
        drawn = (self.element(element, context) for element in elements)
        return [node for node in drawn if node is not None]

    def element(self, element: Element, context: _Context) -> Shape | Group | None:
        """Return what an element draws, if anything."""
        self.visits += 1
        if self.visits > MAX_VISITS:
            raise UserError(f"{self.file.name}: draws more than {MAX_VISITS} elements, counting uses; simplify it.")
        if len(context.chain) > MAX_NESTING:
            raise UserError(
                f"{self.file.name}: elements lead more than {MAX_NESTING} deep into one another; ungroup some."
            )
        if element.tag in _UNDRAWN:
            self.file.unsupported.add(element.tag)
            return None
        if element.tag not in GEOMETRY and element.tag not in ("g", "a", "svg", "use", "switch"):
            return None
        style = self.file.cascade.style(element, context.style)
        if style.get("display") == "none":
            return None
        for name, harmless in _IGNORED_PROPERTIES.items():
            if style.get(name, harmless) != harmless:
                self.file.unsupported.add(name)
        transform = parse_transform(style.get("transform"))
        transform = affine.compose(context.transform, transform)
        if affine.determinant(transform) == 0 or not all(map(math.isfinite, transform)):
            return None
        inner = replace(context, style=style, transform=transform, chain=(*context.chain, element))
        if element.tag in GEOMETRY:
            return self.shape(element, inner)
        if element.tag == "use":
            content = self.use(element, inner)
        elif element.tag == "svg":
            content = self.nested(element, element, inner)
        elif element.tag == "switch":
            plain = [c for c in element.children if not {"systemLanguage", "requiredExtensions"} & c.attributes.keys()]
            content = self.children(plain[:1], inner)
        else:
            content = self.children(element.children, inner)
        if not content:
            return None
        group = Group(tuple(content))
        return replace(
            group, opacities=self.paints.opacity_rows(element, style), clip=self.clip(element, style, inner, group)
        )

    def use(self, element: Element, context: _Context) -> list[Shape | Group]:
        target = self.file.reference(element)
        if target is None:
            return []
        if target in context.chain:
            raise UserError(f"{self.file.name}: the element with id {target.attributes['id'][:40]!r} uses itself.")
        view = context.viewport
        x = parse_length(element.attributes.get("x"), view.width) or 0.0
        y = parse_length(element.attributes.get("y"), view.height) or 0.0
        moved = replace(context, transform=affine.compose(context.transform, affine.translation(x, y)))
        if target.tag in ("symbol", "svg"):
            style = self.file.cascade.style(target, context.style)
            if style.get("display") == "none" and target.tag == "svg":
                return []
            inner = replace(moved, style=style, chain=(*context.chain, target))
            content = self.nested(target, element, inner)
            if not content:
                return []
            group = Group(tuple(content), self.paints.opacity_rows(target, style))
            return [replace(group, clip=self.clip(target, style, inner, group))]
        return self.children([target], moved)

    def nested(self, element: Element, sized: Element, context: _Context) -> list[Shape | Group]:
        """Return what is inside of a symbol or an inner svg element; `sized` may give another width and height."""
        view = context.viewport
        own = element.attributes if sized is element else {**element.attributes, **_only(sized, "width", "height")}
        width = parse_length(own.get("width", "100%"), view.width) or 0.0
        height = parse_length(own.get("height", "100%"), view.height) or 0.0
        x = parse_length(own.get("x"), view.width) or 0.0 if element.tag == "svg" else 0.0
        y = parse_length(own.get("y"), view.height) or 0.0 if element.tag == "svg" else 0.0
        if width <= 0 or height <= 0:
            return []
        placed = affine.compose(context.transform, affine.translation(x, y))
        box = parse_view_box(own.get("viewBox"))
        content = placed
        if box is not None:
            content = affine.compose(placed, fit_view_box(box, width, height, own.get("preserveAspectRatio")))
            view = Viewport(box[2], box[3])
        else:
            view = Viewport(width, height)
        children = self.children(element.children, replace(context, transform=content, viewport=view))
        if not children:
            return []
        if context.style.get("overflow", "hidden") in ("visible", "auto"):
            return children
        corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
        window = Clip((ClipShape(self.rows.builder.add_polygon(corners), placed),))
        return [Group(tuple(children), clip=window)]

    def shape(self, element: Element, context: _Context) -> Shape | None:
        style = context.style
        if style.get("visibility", "visible") != "visible":
            return None
        slot = self.path(element, context)
        if slot is None:
            return None
        for name in ("marker", "marker-start", "marker-mid", "marker-end"):
            if style.get(name, "none") != "none":
                self.file.unsupported.add("marker")
        fill, stroke = None, None
        paint = self.paints.paint("fill", "black", element, style, context.viewport, slot)
        if paint is not None:
            fill = Fill(paint[0], paint[1], style.get("fill-rule") == "evenodd")
        paint = self.paints.paint("stroke", "none", element, style, context.viewport, slot)
        if paint is not None:
            stroke = self.paints.stroke(*paint, element, style, context.viewport)
        order = style.get("paint-order", "normal").split()
        stroke_first = "stroke" in order and ("fill" not in order or order.index("stroke") < order.index("fill"))
        opacities = self.paints.opacity_rows(element, style)
        shape = Shape(slot.path, context.transform, fill, stroke, stroke_first, opacities)
        return replace(shape, clip=self.clip(element, style, context, shape))

    def path(self, element: Element, context: _Context) -> PathSlot | None:
        """Return the element's points, the same for every use."""
        if element not in self.paths:
            source = read_shape(element.tag, element.attributes.get, context.viewport)
            if source is not None and not source.complete:
                self.file.unsupported.add("path data after an error")
            slot = None
            if source is not None:
                first = len(self.rows.builder.points)
                path = self.rows.builder.add_path(source.outline.points, source.outline.contours)
                slot = PathSlot(path, element, source, first, affine.mean_scale(context.transform))
            self.paths[element] = slot
        slot = self.paths[element]
        if slot is not None:
            self.segments += sum(len(segments) for segments, _ in slot.source.outline.contours)
            if self.segments > MAX_SEGMENTS:
                raise UserError(f"{self.file.name}: draws more than {MAX_SEGMENTS} segments; simplify it.")
        return slot

    def clip(self, element: Element, style: Style, context: _Context, node: Shape | Group | None) -> Clip | None:
        url = parse_url(style.get("clip-path"))
        if url is None:
            return None
        target = self.file.ids.get(url[0][1:]) if url[0].startswith("#") else None
        if target is None or target.tag != "clipPath":
            return None
        if target in context.chain:
            raise UserError(f"{self.file.name}: the clip path {target.attributes['id'][:40]!r} refers to itself.")
        transform = context.transform
        if target.attributes.get("clipPathUnits") == "objectBoundingBox":
            box = self.box(node, transform) if node is not None else None
            if box is None:
                return Clip(())
            x, y, width, height = box
            transform = affine.compose(transform, (width, 0.0, 0.0, height, x, y))
        key = (target, transform)
        if key not in self.clips:
            self.clips[key] = self.read_clip(target, replace(context, transform=transform))
        return self.clips[key]

    def read_clip(self, element: Element, context: _Context) -> Clip:
        style = self.file.cascade.own_style(element)
        transform = affine.compose(context.transform, parse_transform(element.attributes.get("transform")))
        inner = replace(context, style=style, transform=transform, chain=(*context.chain, element))
        shapes = []
        for child in element.children:
            shape = self.clip_shape(child, inner)
            if shape is not None:
                shapes.append(shape)
        return Clip(tuple(shapes), self.clip(element, style, replace(inner, transform=context.transform), None))

    def clip_shape(self, element: Element, context: _Context) -> ClipShape | None:
        self.visits += 1
        if self.visits > MAX_VISITS or len(context.chain) > MAX_NESTING:
            raise UserError(f"{self.file.name}: its clip paths lead too far into one another; simplify them.")
        style = self.file.cascade.style(element, context.style)
        if style.get("display") == "none" or style.get("visibility", "visible") != "visible":
            return None
        transform = affine.compose(context.transform, parse_transform(style.get("transform")))
        inner = replace(context, style=style, transform=transform, chain=(*context.chain, element))
        if element.tag in _UNDRAWN:
            self.file.unsupported.add(f"{element.tag} in a clip path")
            return None
        if element.tag == "use":
            target = self.file.reference(element)
            if target is None or target.tag not in (*GEOMETRY, "use"):
                return None
            if target in inner.chain:
                raise UserError(f"{self.file.name}: the element {target.attributes['id'][:40]!r} uses itself.")
            x = parse_length(element.attributes.get("x"), context.viewport.width) or 0.0
            y = parse_length(element.attributes.get("y"), context.viewport.height) or 0.0
            inner = replace(inner, transform=affine.compose(transform, affine.translation(x, y)))
            shape = self.clip_shape(target, inner)
            clip = self.clip(element, style, inner, None)
            if shape is None or clip is None:
                return shape
            return replace(shape, clip=clip if shape.clip is None else replace(shape.clip, clip=clip))
        if element.tag not in GEOMETRY or affine.determinant(transform) == 0:
            return None
        slot = self.path(element, inner)
        if slot is None:
            return None
        evenodd = style.get("clip-rule") == "evenodd"
        return ClipShape(slot.path, transform, evenodd, self.clip(element, style, inner, None))

    def box(self, node: Shape | Group, frame: Affine) -> tuple[float, float, float, float] | None:
        """Return the bounding box (x, y, width, height) of what a node fills, in the frame's units."""
        a, b, c, d, e, f = affine.inverse(torch.tensor(frame, dtype=torch.float64)).tolist()
        curves = []
        outlines = {slot.path: slot.source.outline for slot in self.paths.values() if slot is not None}
        stack: list[Shape | Group] = [node]
        while stack:
            current = stack.pop()
            if isinstance(current, Group):
                stack.extend(current.children)
                continue
            outline = outlines.get(current.path)
            if outline is None:
                continue
            to_frame = affine.compose((a, b, c, d, e, f), current.transform)
            points = [affine.apply(to_frame, *p) for p in outline.points]
            curves += [[points[k] for k in s] for segments, _ in outline.contours for s in segments]
        if not curves:
            return None
        ctrl = torch.tensor(curves, dtype=torch.float64)
        left, top, right, bottom = bounding_boxes(ctrl, torch.zeros(len(curves), dtype=torch.long), 1)[0].tolist()
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _only(element: Element, *names: str) -> dict[str, str]:
    return {name: element.attributes[name] for name in names if name in element.attributes}


def import_svg(source: XmlSource, name: str) -> Imported:
    """Read the drawing of a file.

    Args:
        source: The parsed file.
        name: What to call it in messages.

    Raises:
        UserError: If it is no SVG, or what it draws has no bound.
    """
    file, rows = FileIndex(source, name), RowKeeper(SceneBuilder())
    return _Importer(file, rows, PaintImporter(file, rows)).run()
