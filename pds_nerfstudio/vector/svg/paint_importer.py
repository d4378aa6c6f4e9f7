"""Paints, strokes and opacities of an SVG's elements, with the rows of the numbers they are made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.scene import Cap, Gradient, Join, Paint, Solid, Stop, Stroke
from pds_nerfstudio.vector.svg.cascade import Style, parse_url
from pds_nerfstudio.vector.svg.color import Rgba, parse_color
from pds_nerfstudio.vector.svg.import_record import FileIndex, PathSlot, RowKeeper
from pds_nerfstudio.vector.svg.numbers import Viewport, parse_length, parse_number, parse_transform
from pds_nerfstudio.vector.svg.xml_source import Element

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
    _gradients: dict[Element, tuple[Paint, tuple[int, ...]] | None] = field(default_factory=dict)
    _colorless: set[tuple[Element, str]] = field(default_factory=set)

    def opacity_rows(self, element: Element, style: Style) -> tuple[int, ...]:
        """Return the row of an element's opacity, if it has one."""
        value = _opacity(style, "")
        return () if value == 1 else (self.rows.row("opacities", element, "opacity", value),)

    def stroke(
        self, paint: Paint, opacities: tuple[int, ...], element: Element, style: Style, view: Viewport
    ) -> Stroke | None:
        """Return how a paint strokes an element; None for a width of 0."""
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
            self.rows.row("widths", element, "stroke-width", width),
            opacities,
            cap={"round": Cap.ROUND, "square": Cap.SQUARE}.get(style.get("stroke-linecap", ""), Cap.BUTT),
            join={"round": Join.ROUND, "bevel": Join.BEVEL}.get(style.get("stroke-linejoin", ""), Join.MITER),
            miter_limit=4.0 if limit is None or limit < 1 else limit,
            dashes=dashes,
            dash_offset=parse_length(style.get("stroke-dashoffset"), diagonal, font) or 0.0,
        )

    def paint(
        self, name: str, initial: str, element: Element, style: Style, viewport: Viewport, slot: PathSlot
    ) -> tuple[Paint, tuple[int, ...]] | None:
        """Return the paint of a fill or a stroke with the rows of its opacities; None for none."""
        found = self._read_paint(name, initial, element, style, viewport, slot)
        if found is None or isinstance(found[0], Gradient):
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
            target = self.file.ids.get(url[0][1:]) if url[0].startswith("#") else None
            if target is not None and target.tag in ("linearGradient", "radialGradient"):
                found = self._gradient(target, viewport)
                if found is None:
                    return None
                paint, rows = found
                if not (isinstance(paint, Gradient) and paint.bounding_box and self._is_flat(slot)):
                    return paint, (
                        *rows,
                        self.rows.row("opacities", element, f"{name}-opacity", _opacity(style, name)),
                    )
            elif target is not None:
                self.file.unsupported.add(target.tag)
            value = url[1] or "none"
        if value in ("none", "context-fill", "context-stroke"):
            return None
        color = self._color(value, style)
        if color is None:
            # an invalid value counts as not given
            color = (0.0, 0.0, 0.0, 1.0) if initial == "black" else None
        if color is None:
            return None
        *rgb, alpha = color
        solid = Solid(self.rows.row("colors", element, name, tuple(rgb), alpha=alpha))
        opacity = _opacity(style, name) * alpha
        return solid, (self.rows.row("opacities", element, f"{name}-opacity", opacity, scale=alpha),)

    def _color(self, value: str, style: Style) -> Rgba | None:
        if value.lower() == "currentcolor":
            value = style.get("color", "black")
            if value.lower() == "currentcolor":
                value = "black"
        # a colour profile may follow the colour
        return parse_color(value.split("icc-color")[0])

    def _gradient(self, element: Element, viewport: Viewport) -> tuple[Paint, tuple[int, ...]] | None:
        if element not in self._gradients:
            self._gradients[element] = self._read_gradient(element, viewport)
        return self._gradients[element]

    def _read_gradient(self, element: Element, viewport: Viewport) -> tuple[Paint, tuple[int, ...]] | None:
        chain = [element]
        while (following := self.file.reference(chain[-1])) is not None and following.tag.endswith("Gradient"):
            if following in chain:
                raise UserError(f"{self.file.name}: the gradient {following.attributes['id'][:40]!r} refers to itself.")
            chain.append(following)
        stops = next((found for link in chain if (found := self._stops(link))), [])
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
        row = self.rows.row("gradients", element, element.tag, values)
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
            stops.append(
                Stop(
                    self.rows.row("offsets", child, "offset", min(max(offset, 0.0), 1.0)),
                    self.rows.row("colors", child, "stop-color", tuple(rgb), alpha=alpha),
                    self.rows.row("opacities", child, "stop-opacity", opacity, scale=alpha),
                )
            )
        return stops

    def _is_flat(self, slot: PathSlot) -> bool:
        """Return whether a path's bounding box has no area, which leaves nothing to fit a gradient to."""
        xs, ys = zip(*slot.source.outline.points, strict=True)
        return max(xs) == min(xs) or max(ys) == min(ys)


def _opacity(style: Style, kind: str) -> float:
    """Return an opacity property, clamped to 0 … 1."""
    text = style.get(f"{kind}-opacity" if kind else "opacity", "1")
    value = parse_length(text, 1.0)
    return 1.0 if value is None else min(max(value, 0.0), 1.0)
