"""Paints, strokes and opacities of an SVG's elements, with the rows of the numbers they are made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY
from pds_nerfstudio.vector.raster.scene import Cap, Fill, Gradient, Join, Paint, Shape, Solid, Stop, Stroke
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.color import Rgba, parse_color
from pds_nerfstudio.vector.svg.context import Context
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex, PathSlot, RowKeeper
from pds_nerfstudio.vector.svg.numbers import Viewport, parse_length, parse_number
from pds_nerfstudio.vector.svg.outline_importer import OutlineImporter
from pds_nerfstudio.vector.svg.pattern_importer import PatternImporter
from pds_nerfstudio.vector.svg.transforms import read_transform
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.xml_source import Element

_OF_FONT = ("em", "ex", "ch")
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
class PaintImporter:
    """How the shapes of one file are painted."""

    file: FileIndex
    """Where gradients are looked up."""
    rows: RowKeeper
    """Gets the numbers."""
    outlines: OutlineImporter
    """Has the boxes that gradients refer to."""
    patterns: PatternImporter
    """Reads the patterns."""
    around: dict[str, tuple[Paint, tuple[int, ...]] | None] = field(default_factory=dict)
    """What context-fill and context-stroke stand for: the paints of the element that has the marker."""
    _gradients: dict[Element, tuple[Paint, tuple[int, ...]] | None] = field(default_factory=dict)
    _colorless: set[tuple[Element, str]] = field(default_factory=set)

    def opacity_rows(self, element: Element, style: Style) -> tuple[int, ...]:
        """Return the row of an element's opacity, if it has one."""
        value = _opacity(style, "")
        if value == 1:
            return ()
        known, origin = "opacity" not in style.unread, style.given.get("opacity")
        return (self.rows.row("opacities", element, "opacity", value, editable=known, origin=origin),)

    def background(self, root: Element, style: Style, width: float, height: float) -> tuple[Shape, ...]:
        """Return the colour of the canvas as a shape, if the outermost element has one (CSS Backgrounds 3, 2.11.1)."""
        red, green, blue, alpha = self._color(style.get("background-color", "transparent"), style) or (0.0,) * 4
        if alpha == 0:
            return ()
        color = self.rows.row("colors", root, "background-color", (red, green, blue), alpha=alpha)
        corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
        opacities = () if alpha == 1 else (self.rows.builder.add_opacity(alpha),)
        return (Shape(self.rows.builder.add_polygon(corners), fill=Fill(Solid(color), opacities)),)

    def stroke(self, paint: Paint, opacities: tuple[int, ...], element: Element, context: Context) -> Stroke | None:
        """Return how a paint strokes an element; None for a width of 0."""
        style, view = context.style, context.viewport
        unit, diagonal = self._pen_unit(context), view.diagonal
        width = view.length(style.get("stroke-width"), diagonal)
        width = 1.0 if width is None else width
        if width <= 0:
            return None
        pattern = [view.length(part, diagonal) for part in style.get("stroke-dasharray", "").replace(",", " ").split()]
        dashes = tuple(d * unit for d in pattern if d is not None and d >= 0)
        if len(dashes) != len(pattern) or not sum(dashes) > 0:
            dashes = ()
        limit = parse_number(style.get("stroke-miterlimit", "4"))
        known, origin = "stroke-width" not in style.unread, style.given.get("stroke-width")
        return Stroke(
            paint,
            self.rows.row("widths", element, "stroke-width", width * unit, scale=unit, editable=known, origin=origin),
            opacities,
            cap={"round": Cap.ROUND, "square": Cap.SQUARE}.get(style.get("stroke-linecap", ""), Cap.BUTT),
            join={"round": Join.ROUND, "bevel": Join.BEVEL}.get(style.get("stroke-linejoin", ""), Join.MITER),
            miter_limit=4.0 if limit is None or limit < 1 else limit,
            dashes=dashes,
            dash_offset=(view.length(style.get("stroke-dashoffset"), diagonal) or 0.0) * unit,
            path_length=max(parse_number(element.attributes.get("pathLength", "")) or 0.0, 0.0),
        )

    def _pen_unit(self, context: Context) -> float:
        """Return how long a stroke's unit is in the element's: more or less than 1 where it does not scale with it."""
        effect = context.style.get("vector-effect", "none")
        if effect == "none":
            return 1.0
        a, b, c, d, _, _ = context.transform
        scale = affine.mean_scale(context.transform)
        # a map that turns circles into ellipses would have to turn the pen into one, too
        if effect != "non-scaling-stroke" or abs(affine.largest_scale((a, b, c, d, 0.0, 0.0)) - scale) > 1e-3 * scale:
            self.file.plain.add("vector-effect")
            return 1.0
        return 1 / scale

    def paint(
        self, name: str, initial: str, element: Element, style: Style, viewport: Viewport, slot: PathSlot
    ) -> tuple[Paint, tuple[int, ...]] | None:
        """Return the paint of a fill or a stroke with the rows of its opacities; None for none."""
        found = self._read_paint(name, initial, element, style, viewport, slot)
        if found is None or not isinstance(found[0], Solid):
            # another use of the element may give it a colour, which then cannot be written on the element
            self._colorless.add((element, name))
        if (element, name) in self._colorless and ("colors", element, name) in self.rows.slots:
            self.rows.slots["colors", element, name].editable = False
        return found

    def _read_paint(
        self, name: str, initial: str, element: Element, style: Style, viewport: Viewport, slot: PathSlot
    ) -> tuple[Paint, tuple[int, ...]] | None:
        value = style.get(name, initial)
        url = parse_url(value)
        if url is not None:
            target = self.file.target(url[0])
            if target is not None and target.tag in ("linearGradient", "radialGradient"):
                found = self._gradient(target, viewport)
                if found is None:
                    return None
                paint, rows = found
                boxed = isinstance(paint, Gradient) and paint.bounding_box
                if not boxed or not url[1] or self.outlines.box(((slot.path, IDENTITY),)) is not None:
                    return paint, (*rows, self._opacity_row(element, name, style, _opacity(style, name)))
                # with a box, it would have the gradient
                self.outlines.lock({slot.path})
            elif target is not None and target.tag == "pattern":
                pattern = self.patterns.read(target, viewport, slot)
                if pattern is not None:
                    return pattern, (self._opacity_row(element, name, style, _opacity(style, name)),)
            elif target is not None:
                self.file.undrawn.add(target.tag)
            value = url[1] or "none"
        if value in ("context-fill", "context-stroke"):
            return self.around.get(value)
        if value == "none":
            return None
        color = self._color(value, style)
        if color is None:
            # an invalid value counts as not given
            color = (0.0, 0.0, 0.0, 1.0) if initial == "black" else None
        if color is None:
            return None
        *rgb, alpha = color
        known = name not in style.unread and not (value == "currentcolor" and "color" in style.unread)
        origin = None if url is not None else self.file.cascade.color_origin(element, name, style)
        solid = Solid(self.rows.row("colors", element, name, tuple(rgb), alpha=alpha, editable=known, origin=origin))
        return solid, (self._opacity_row(element, name, style, _opacity(style, name) * alpha, alpha),)

    def _opacity_row(self, element: Element, name: str, style: Style, value: float, scale: float = 1.0) -> int:
        """Return the row of the opacity that goes with a colour."""
        prop = f"{name}-opacity"
        known, origin = prop not in style.unread, style.given.get(prop)
        return self.rows.row("opacities", element, prop, value, scale=scale, editable=known, origin=origin)

    def _color(self, value: str, style: Style) -> Rgba | None:
        if value.lower() == "currentcolor":
            value = style.get("color", "black")
        return parse_color("black" if value == "currentcolor" else value)

    def _gradient(self, element: Element, viewport: Viewport) -> tuple[Paint, tuple[int, ...]] | None:
        if element not in self._gradients:
            self._gradients[element] = self._read_gradient(element, viewport)
        return self._gradients[element]

    def _read_gradient(self, element: Element, viewport: Viewport) -> tuple[Paint, tuple[int, ...]] | None:
        chain = [element]
        while (following := self.file.reference(chain[-1])) is not None and following.tag.endswith("Gradient"):
            if following in chain:
                self.file.undrawn.add(TO_ITSELF)
                break
            chain.append(following)
        stops = next((found for link in chain if (found := self._stops(link))), [])
        if not stops:
            return None
        if len(stops) == 1:
            return Solid(stops[0].color), (stops[0].opacity,)

        def attribute(name: str, links: Iterable[Element] = chain) -> str | None:
            return next((link.attributes[name] for link in links if name in link.attributes), None)

        bounding_box = attribute("gradientUnits") != "userSpaceOnUse"
        size = viewport.font_size
        if any(value.endswith(_OF_FONT) for link in chain for value in link.attributes.values()):
            size = float(self.file.cascade.own_style(element).get("font-size", "16"))
        view = replace(viewport, font_size=size, **({"width": 1.0, "height": 1.0} if bounding_box else {}))
        radial = element.tag == "radialGradient"
        numbers = {}
        for name, (default, side) in (_RADIAL if radial else _LINEAR).items():
            same_kind = [link for link in chain if link.tag == element.tag]
            text = attribute(name, same_kind) or default
            reference = getattr(view, side)
            value = view.length(text, reference)
            numbers[name] = view.length(default, reference) if value is None else value
        if radial:
            numbers["fx"] = numbers["cx"] if numbers["fx"] is None else numbers["fx"]
            numbers["fy"] = numbers["cy"] if numbers["fy"] is None else numbers["fy"]
        values = tuple(v or 0.0 for v in numbers.values())
        spread = attribute("spreadMethod")
        transform = read_transform(attribute("gradientTransform"), view)
        known = transform is not None
        if transform is None:
            self.file.note_unread("gradientTransform", attribute("gradientTransform") or "")
            transform = IDENTITY
        if affine.determinant(transform) == 0:
            return None
        row = self.rows.row("gradients", element, element.tag, values, editable=known)
        paint = Gradient(
            row,
            tuple(stops),
            radial,
            spread if spread in ("reflect", "repeat") else "pad",
            transform,
            bounding_box,
        )
        return paint, ()

    def _stops(self, element: Element) -> list[Stop]:
        stops = []
        for child in element.children:
            if child.tag != "stop":
                continue
            style = self.file.cascade.own_style(child)
            offset = parse_length(child.attributes.get("offset", "0"), 1.0) or 0.0
            *rgb, alpha = self._color(style.get("stop-color", "black"), style) or (0.0, 0.0, 0.0, 1.0)
            opacity = _opacity(style, "stop") * alpha
            known = "stop-color" not in style.unread
            origin = self.file.cascade.color_origin(child, "stop-color", style)
            stops.append(
                Stop(
                    self.rows.row("offsets", child, "offset", min(max(offset, 0.0), 1.0)),
                    self.rows.row(
                        "colors", child, "stop-color", tuple(rgb), alpha=alpha, editable=known, origin=origin
                    ),
                    self._opacity_row(child, "stop", style, opacity, alpha),
                )
            )
        return stops


def _opacity(style: Style, kind: str) -> float:
    """Return an opacity property, clamped to 0 … 1."""
    text = style.get(f"{kind}-opacity" if kind else "opacity", "1")
    value = parse_length(text, 1.0)
    return 1.0 if value is None else min(max(value, 0.0), 1.0)


def paint_order(value: str) -> list[str]:
    """Return fill, stroke and markers in the order in which they are painted (SVG 2, section 13.8)."""
    named = [word for word in dict.fromkeys(value.split()) if word != "normal"]
    return [*named, *(part for part in ("fill", "stroke", "markers") if part not in named)]
