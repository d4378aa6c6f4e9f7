"""From the elements of an SVG file to a scene, and a record of which number came from which attribute."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector import affine
from pds_nerfstudio.vector.affine import IDENTITY, Affine
from pds_nerfstudio.vector.basic_shapes import GEOMETRY, ShapeSource, read_shape
from pds_nerfstudio.vector.bezier import bounding_boxes
from pds_nerfstudio.vector.cascade import Cascade, Style, parse_url
from pds_nerfstudio.vector.color import Rgba, parse_color
from pds_nerfstudio.vector.css import StyleSheet
from pds_nerfstudio.vector.scene import (
    Clip,
    ClipShape,
    Fill,
    Gradient,
    Group,
    Paint,
    Scene,
    SceneBuilder,
    SceneParameters,
    Shape,
    Solid,
    Stop,
    Stroke,
)
from pds_nerfstudio.vector.stroke import Cap, Join
from pds_nerfstudio.vector.svg_numbers import Viewport, parse_length, parse_number, parse_transform
from pds_nerfstudio.vector.viewbox import fit_view_box, parse_view_box
from pds_nerfstudio.vector.xml_source import Element, XmlSource

MAX_VISITS = 100_000
"""Bound on elements drawn, each counted as often as it is used."""
MAX_SEGMENTS = 1_000_000
"""Bound on segments drawn, each counted as often as it is used."""
MAX_NESTING = 150
"""Bound on how deep elements, uses and clip paths lead into one another."""


_UNDRAWN = ("text", "image", "foreignObject", "video", "canvas", "iframe", "mesh")
_IGNORED_PROPERTIES = {"filter": "none", "mask": "none", "mix-blend-mode": "normal", "vector-effect": "none"}
_LINEAR = {"x1": ("0%", "width"), "y1": ("0%", "height"), "x2": ("100%", "width"), "y2": ("0%", "height")}
_RADIAL = {
    "cx": ("50%", "width"),
    "cy": ("50%", "height"),
    "r": ("50%", "diagonal"),
    "fx": ("", "width"),
    "fy": ("", "height"),
    "fr": ("0%", "diagonal"),
}


@dataclass
class Slot:
    """One row of a scene's numbers, and the property that says it."""

    kind: str
    """Which tensor of `SceneParameters`."""
    row: int
    element: Element
    name: str
    """Property or attribute; for a gradient's numbers, its tag."""
    scale: float = 1.0
    """Row divided by the property's own value: the alpha of a colour is folded into its opacity."""
    alpha: float = 1.0
    """Alpha that a colour is written back with."""
    editable: bool = True
    """False where two uses of the element see different values, so that there is no one value to write."""


@dataclass(frozen=True)
class PathSlot:
    """The points of one shape element."""

    path: int
    element: Element
    source: ShapeSource
    first: int
    """Row of its first point."""
    scale: float
    """Canvas length of one unit where the element was first drawn, on a canvas of the drawing's own size."""


@dataclass(frozen=True)
class Imported:
    """A file's drawing."""

    scene: Scene
    parameters: SceneParameters
    size: tuple[float, float]
    """Width and height that the file asks for, in CSS pixels; the scene is drawn in these units."""
    slots: list[Slot]
    paths: list[PathSlot]
    unsupported: tuple[str, ...]
    """What the file uses and the scene lacks."""
    cascade: Cascade


@dataclass(frozen=True)
class _Context:
    """What an element inherits from where it is drawn, which for a used one is not where it stands."""

    style: Style
    transform: Affine
    viewport: Viewport
    chain: tuple[Element, ...] = ()
    """Containers, uses and clip paths around the element."""


@dataclass
class _Importer:
    source: XmlSource
    name: str
    builder: SceneBuilder = field(default_factory=SceneBuilder)
    slots: dict[tuple[str, Element, str], Slot] = field(default_factory=dict)
    paths: dict[Element, PathSlot | None] = field(default_factory=dict)
    unsupported: set[str] = field(default_factory=set)
    visits: int = 0
    segments: int = 0
    gradients: dict[Element, tuple[Paint, tuple[int, ...]] | None] = field(default_factory=dict)
    clips: dict[tuple[Element, Affine], Clip] = field(default_factory=dict)
    colorless: set[tuple[Element, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        sheet = StyleSheet()
        self.ids: dict[str, Element] = {}
        for element in self.source.root.walk():
            if "id" in element.attributes:
                self.ids.setdefault(element.attributes["id"], element)
            if element.tag == "style" and element.attributes.get("type", "text/css") in ("", "text/css"):
                sheet.add(element.text)
            if element.tag.startswith("animate") or element.tag == "set":
                self.unsupported.add("animation")
        self.unsupported.update(f"selector {s!r}" for s in sheet.skipped)
        self.cascade = Cascade(sheet)

    def run(self) -> Imported:
        root = self.source.root
        if root.tag != "svg":
            raise UserError(f"{self.name}: the outermost element is <{root.tag[:40]}>, not <svg>.")
        box = parse_view_box(root.attributes.get("viewBox"))
        _, _, box_width, box_height = box or (0, 0, 100.0, 100.0)
        width = parse_length(root.attributes.get("width", "100%"), box_width)
        height = parse_length(root.attributes.get("height", "100%"), box_height)
        if width is None or height is None or width <= 0 or height <= 0:
            raise UserError(f"{self.name}: width, height and viewBox give no size; set a viewBox.")
        content = IDENTITY
        if box is not None:
            content = fit_view_box(box, width, height, root.attributes.get("preserveAspectRatio"))
            viewport = Viewport(box[2], box[3])
        else:
            viewport = Viewport(width, height)
        style = self.cascade.style(root, {})
        context = _Context(style, content, viewport, (root,))
        children = self.children(root.children, context)
        group = Group(tuple(children), self.opacity_rows(root, style), self.clip(root, style, context, None))
        scene, parameters = self.builder.build([group])
        return Imported(
            scene,
            parameters,
            (width, height),
            list(self.slots.values()),
            [p for p in self.paths.values() if p is not None],
            tuple(sorted(self.unsupported)),
            self.cascade,
        )

    def children(self, elements: Iterable[Element], context: _Context) -> list[Shape | Group]:
        drawn = (self.element(element, context) for element in elements)
        return [node for node in drawn if node is not None]

    def element(self, element: Element, context: _Context) -> Shape | Group | None:
        """What an element draws, if anything."""
        self.visits += 1
        if self.visits > MAX_VISITS:
            raise UserError(f"{self.name}: draws more than {MAX_VISITS} elements, counting uses; simplify it.")
        if len(context.chain) > MAX_NESTING:
            raise UserError(f"{self.name}: elements lead more than {MAX_NESTING} deep into one another; ungroup some.")
        if element.tag in _UNDRAWN:
            self.unsupported.add(element.tag)
            return None
        if element.tag not in GEOMETRY and element.tag not in ("g", "a", "svg", "use", "switch"):
            return None
        style = self.cascade.style(element, context.style)
        if style.get("display") == "none":
            return None
        for name, harmless in _IGNORED_PROPERTIES.items():
            if style.get(name, harmless) != harmless:
                self.unsupported.add(name)
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
        return replace(group, opacities=self.opacity_rows(element, style), clip=self.clip(element, style, inner, group))

    def use(self, element: Element, context: _Context) -> list[Shape | Group]:
        target = self.reference(element)
        if target is None:
            return []
        if target in context.chain:
            raise UserError(f"{self.name}: the element with id {target.attributes['id'][:40]!r} uses itself.")
        view = context.viewport
        x = parse_length(element.attributes.get("x"), view.width) or 0.0
        y = parse_length(element.attributes.get("y"), view.height) or 0.0
        moved = replace(context, transform=affine.compose(context.transform, affine.translation(x, y)))
        if target.tag in ("symbol", "svg"):
            style = self.cascade.style(target, context.style)
            if style.get("display") == "none" and target.tag == "svg":
                return []
            inner = replace(moved, style=style, chain=(*context.chain, target))
            content = self.nested(target, element, inner)
            if not content:
                return []
            group = Group(tuple(content), self.opacity_rows(target, style))
            return [replace(group, clip=self.clip(target, style, inner, group))]
        return self.children([target], moved)

    def nested(self, element: Element, sized: Element, context: _Context) -> list[Shape | Group]:
        """What is inside of a symbol or an inner svg element; `sized` may say another width and height."""
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
        window = Clip((ClipShape(self.builder.add_polygon(corners), placed),))
        return [Group(tuple(children), clip=window)]

    def reference(self, element: Element) -> Element | None:
        """The element that an href points to, if it is in the file."""
        href = element.attributes.get("href", "").strip()
        if href.startswith("#"):
            return self.ids.get(href[1:])
        if href:
            self.unsupported.add("references to other files")
        return None

    def shape(self, element: Element, context: _Context) -> Shape | None:
        style = context.style
        if style.get("visibility", "visible") != "visible":
            return None
        slot = self.path(element, context)
        if slot is None:
            return None
        for name in ("marker", "marker-start", "marker-mid", "marker-end"):
            if style.get(name, "none") != "none":
                self.unsupported.add("marker")
        fill, stroke = None, None
        paint = self.paint("fill", "black", element, context, slot)
        if paint is not None:
            fill = Fill(paint[0], paint[1], style.get("fill-rule") == "evenodd")
        paint = self.paint("stroke", "none", element, context, slot)
        if paint is not None:
            stroke = self.stroke(*paint, element, context)
        order = style.get("paint-order", "normal").split()
        stroke_first = "stroke" in order and ("fill" not in order or order.index("stroke") < order.index("fill"))
        opacities = self.opacity_rows(element, style)
        shape = Shape(slot.path, context.transform, fill, stroke, stroke_first, opacities)
        return replace(shape, clip=self.clip(element, style, context, shape))

    def path(self, element: Element, context: _Context) -> PathSlot | None:
        """The element's points, the same for every use."""
        if element not in self.paths:
            source = read_shape(element.tag, element.attributes.get, context.viewport)
            if source is not None and not source.complete:
                self.unsupported.add("path data after an error")
            slot = None
            if source is not None:
                first = len(self.builder.points)
                path = self.builder.add_path(source.outline.points, source.outline.contours)
                slot = PathSlot(path, element, source, first, affine.mean_scale(context.transform))
            self.paths[element] = slot
        slot = self.paths[element]
        if slot is not None:
            self.segments += sum(len(segments) for segments, _ in slot.source.outline.contours)
            if self.segments > MAX_SEGMENTS:
                raise UserError(f"{self.name}: draws more than {MAX_SEGMENTS} segments; simplify it.")
        return slot

    def stroke(self, paint: Paint, opacities: tuple[int, ...], element: Element, context: _Context) -> Stroke | None:
        style, view = context.style, context.viewport
        diagonal, font = view.diagonal, view.font_size
        width = parse_length(style.get("stroke-width"), diagonal, font)
        width = 1.0 if width is None else width
        if width <= 0:
            return None
        pattern = [
            parse_length(part, diagonal, font) for part in style.get("stroke-dasharray", "").replace(",", " ").split()
        ]
        dashes = tuple(d for d in pattern if d is not None and d >= 0)
        if len(dashes) != len(pattern) or not sum(dashes) > 0:
            dashes = ()
        limit = parse_number(style.get("stroke-miterlimit", "4"))
        return Stroke(
            paint,
            self.row("widths", element, "stroke-width", width),
            opacities,
            cap={"round": Cap.ROUND, "square": Cap.SQUARE}.get(style.get("stroke-linecap", ""), Cap.BUTT),
            join={"round": Join.ROUND, "bevel": Join.BEVEL}.get(style.get("stroke-linejoin", ""), Join.MITER),
            miter_limit=4.0 if limit is None or limit < 1 else limit,
            dashes=dashes,
            dash_offset=parse_length(style.get("stroke-dashoffset"), diagonal, font) or 0.0,
        )

    def paint(
        self, name: str, initial: str, element: Element, context: _Context, slot: PathSlot
    ) -> tuple[Paint, tuple[int, ...]] | None:
        """The paint of a fill or a stroke with the rows of its opacities; None for none."""
        found = self.read_paint(name, initial, element, context, slot)
        if found is None or isinstance(found[0], Gradient):
            # another use of the element may give it a colour, which then cannot be written on the element
            self.colorless.add((element, name))
        if (element, name) in self.colorless and ("colors", element, name) in self.slots:
            self.slots["colors", element, name].editable = False
        return found

    def read_paint(
        self, name: str, initial: str, element: Element, context: _Context, slot: PathSlot
    ) -> tuple[Paint, tuple[int, ...]] | None:
        style = context.style
        value = style.get(name, initial)
        url = parse_url(value)
        if url is not None:
            target = self.ids.get(url[0][1:]) if url[0].startswith("#") else None
            if target is not None and target.tag in ("linearGradient", "radialGradient"):
                found = self.gradient(target, context.viewport)
                if found is None:
                    return None
                paint, rows = found
                if not (isinstance(paint, Gradient) and paint.bounding_box and self.is_flat(slot)):
                    return paint, (
                        *rows,
                        self.row("opacities", element, f"{name}-opacity", _opacity(style, name)),
                    )
            elif target is not None:
                self.unsupported.add(target.tag)
            value = url[1] or "none"
        if value in ("none", "context-fill", "context-stroke"):
            return None
        color = self.color(value, style)
        if color is None:
            # an invalid value counts as not given
            color = (0.0, 0.0, 0.0, 1.0) if initial == "black" else None
        if color is None:
            return None
        *rgb, alpha = color
        solid = Solid(self.row("colors", element, name, tuple(rgb), alpha=alpha))
        opacity = _opacity(style, name) * alpha
        return solid, (self.row("opacities", element, f"{name}-opacity", opacity, scale=alpha),)

    def color(self, value: str, style: Style) -> Rgba | None:
        if value.lower() == "currentcolor":
            value = style.get("color", "black")
            if value.lower() == "currentcolor":
                value = "black"
        # a colour profile may follow the colour
        return parse_color(value.split("icc-color")[0])

    def gradient(self, element: Element, viewport: Viewport) -> tuple[Paint, tuple[int, ...]] | None:
        if element not in self.gradients:
            self.gradients[element] = self.read_gradient(element, viewport)
        return self.gradients[element]

    def read_gradient(self, element: Element, viewport: Viewport) -> tuple[Paint, tuple[int, ...]] | None:
        chain = [element]
        while (following := self.reference(chain[-1])) is not None and following.tag.endswith("Gradient"):
            if following in chain:
                raise UserError(f"{self.name}: the gradient {following.attributes['id'][:40]!r} refers to itself.")
            chain.append(following)
        stops = next((found for link in chain if (found := self.stops(link))), [])
        if not stops:
            return None
        if len(stops) == 1:
            return Solid(stops[0].color), (stops[0].opacity,)

        def attribute(name: str, links: Iterable[Element] = chain) -> str | None:
            return next((link.attributes[name] for link in links if name in link.attributes), None)

        bounding_box = attribute("gradientUnits") != "userSpaceOnUse"
        view = Viewport(1, 1) if bounding_box else viewport
        radial = element.tag == "radialGradient"
        numbers = {}
        for name, (default, side) in (_RADIAL if radial else _LINEAR).items():
            same_kind = [link for link in chain if link.tag == element.tag]
            text = attribute(name, same_kind) or default
            reference = getattr(view, side)
            value = parse_length(text, reference)
            numbers[name] = parse_length(default, reference) if value is None else value
        if radial:
            numbers["fx"] = numbers["cx"] if numbers["fx"] is None else numbers["fx"]
            numbers["fy"] = numbers["cy"] if numbers["fy"] is None else numbers["fy"]
        values = tuple(v or 0.0 for v in numbers.values())
        spread = attribute("spreadMethod")
        transform = parse_transform(attribute("gradientTransform"))
        if affine.determinant(transform) == 0:
            return None
        row = self.row("gradients", element, element.tag, values)
        paint = Gradient(
            row,
            tuple(stops),
            radial,
            spread if spread in ("reflect", "repeat") else "pad",
            transform,
            bounding_box,
        )
        return paint, ()

    def stops(self, element: Element) -> list[Stop]:
        stops = []
        for child in element.children:
            if child.tag != "stop":
                continue
            style = self.cascade.own_style(child)
            offset = parse_length(child.attributes.get("offset", "0"), 1.0) or 0.0
            *rgb, alpha = self.color(style.get("stop-color", "black"), style) or (0.0, 0.0, 0.0, 1.0)
            opacity = _opacity(style, "stop") * alpha
            stops.append(
                Stop(
                    self.row("offsets", child, "offset", min(max(offset, 0.0), 1.0)),
                    self.row("colors", child, "stop-color", tuple(rgb), alpha=alpha),
                    self.row("opacities", child, "stop-opacity", opacity, scale=alpha),
                )
            )
        return stops

    def opacity_rows(self, element: Element, style: Style) -> tuple[int, ...]:
        """The row of an element's opacity, if it has one."""
        value = _opacity(style, "")
        return () if value == 1 else (self.row("opacities", element, "opacity", value),)

    def row(
        self,
        kind: str,
        element: Element,
        name: str,
        value: float | tuple[float, ...],
        scale: float = 1.0,
        alpha: float = 1.0,
    ) -> int:
        """The row that holds a property of an element, added where it is new."""
        values: list = getattr(self.builder, kind)
        key = (kind, element, name)
        slot = self.slots.get(key)
        if slot is not None:
            known = values[slot.row]
            if kind == "gradients" or known == value:
                return slot.row
            slot.editable = False
        if kind == "gradients":
            assert isinstance(value, tuple)
            row = self.builder.add_gradient(*value)
        else:
            values.append(value)
            row = len(values) - 1
        if slot is None:
            self.slots[key] = Slot(kind, row, element, name, scale, alpha, scale > 0)
        return row

    def clip(self, element: Element, style: Style, context: _Context, node: Shape | Group | None) -> Clip | None:
        url = parse_url(style.get("clip-path"))
        if url is None:
            return None
        target = self.ids.get(url[0][1:]) if url[0].startswith("#") else None
        if target is None or target.tag != "clipPath":
            return None
        if target in context.chain:
            raise UserError(f"{self.name}: the clip path {target.attributes['id'][:40]!r} refers to itself.")
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
        style = self.cascade.own_style(element)
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
            raise UserError(f"{self.name}: its clip paths lead too far into one another; simplify them.")
        style = self.cascade.style(element, context.style)
        if style.get("display") == "none" or style.get("visibility", "visible") != "visible":
            return None
        transform = affine.compose(context.transform, parse_transform(style.get("transform")))
        inner = replace(context, style=style, transform=transform, chain=(*context.chain, element))
        if element.tag in _UNDRAWN:
            self.unsupported.add(f"{element.tag} in a clip path")
            return None
        if element.tag == "use":
            target = self.reference(element)
            if target is None or target.tag not in (*GEOMETRY, "use"):
                return None
            if target in inner.chain:
                raise UserError(f"{self.name}: the element {target.attributes['id'][:40]!r} uses itself.")
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

    def is_flat(self, slot: PathSlot) -> bool:
        """Whether a path's bounding box has no area, which leaves nothing to fit a gradient to."""
        xs, ys = zip(*slot.source.outline.points, strict=True)
        return max(xs) == min(xs) or max(ys) == min(ys)

    def box(self, node: Shape | Group, frame: Affine) -> tuple[float, float, float, float] | None:
        """Bounding box (x, y, width, height) of what a node fills, in the frame's units."""
        inverse = _inverse(frame)
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
            to_frame = affine.compose(inverse, current.transform)
            points = [affine.apply(to_frame, *p) for p in outline.points]
            curves += [[points[k] for k in s] for segments, _ in outline.contours for s in segments]
        if not curves:
            return None
        ctrl = torch.tensor(curves, dtype=torch.float64)
        left, top, right, bottom = bounding_boxes(ctrl, torch.zeros(len(curves), dtype=torch.long), 1)[0].tolist()
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _inverse(matrix: Affine) -> Affine:
    a, b, c, d, e, f = matrix
    det = affine.determinant(matrix)
    return d / det, -b / det, -c / det, a / det, (c * f - d * e) / det, (b * e - a * f) / det


def _only(element: Element, *names: str) -> dict[str, str]:
    return {name: element.attributes[name] for name in names if name in element.attributes}


def _opacity(style: Style, kind: str) -> float:
    """An opacity property, clamped to 0 … 1."""
    text = style.get(f"{kind}-opacity" if kind else "opacity", "1")
    value = parse_length(text, 1.0)
    return 1.0 if value is None else min(max(value, 0.0), 1.0)


def import_svg(source: XmlSource, name: str) -> Imported:
    """Reads the drawing of a file.

    Args:
        source: the parsed file.
        name: what to call it in messages.

    Raises:
        UserError: it is no SVG, or it draws without bound.
    """
    return _Importer(source, name).run()
