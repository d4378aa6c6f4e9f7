"""From the primitives of a filter to its steps (Filter Effects 1, section 9)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pds_nerfstudio.vector.raster.filter_graph import (
    BLEND_MODES,
    SOURCE,
    SOURCE_ALPHA,
    Blur,
    Composite,
    Flood,
    Merge,
    Mix,
    Morphology,
    Offset,
    Region,
    Step,
)
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.cascade import Cascade, Style
from pds_nerfstudio.vector.svg.color import parse_color
from pds_nerfstudio.vector.svg.filter_primitives import COLORS, color_operation, numbers_of
from pds_nerfstudio.vector.svg.numbers import parse_length, parse_number
from pds_nerfstudio.vector.svg.outline_importer import Box
from pds_nerfstudio.vector.svg.regions import Placed, corners
from pds_nerfstudio.vector.svg.xml_source import Element

_SIDES = ("x", "y", "width", "height")


def flood(builder: SceneBuilder, color: str, opacity: float, style: Style) -> Flood | None:
    """Return one colour everywhere; None where the colour cannot be read."""
    known = parse_color(style.get("color", "black") if color == "currentcolor" else color)
    if known is None:
        return None
    *rgb, alpha = known
    return Flood(builder.add_color(*rgb), builder.add_opacity(alpha * opacity))


@dataclass
class Graph:
    """The steps of a filter so far."""

    steps: list[Step] = field(default_factory=list)
    """They, in order."""
    names: dict[str, int] = field(default_factory=dict)
    """Numbers of the steps whose results have names."""

    def add(self, step: Step) -> int:
        """Add a step; return its number."""
        self.steps.append(step)
        return len(self.steps) - 1

    def input_of(self, primitive: Element, attribute: str = "in") -> int:
        """Return the number of the step that an attribute names."""
        name = primitive.attributes.get(attribute, "").strip()
        if name == "SourceAlpha":
            return SOURCE_ALPHA
        if name in ("SourceGraphic", "BackgroundImage", "BackgroundAlpha", "FillPaint", "StrokePaint"):
            return SOURCE
        # a name that there is not stands for what is before
        return self.names.get(name, len(self.steps) - 1 if self.steps else SOURCE)


@dataclass
class Reader:
    """The primitives of one filter."""

    cascade: Cascade
    """Has their properties."""
    builder: SceneBuilder
    """Gets the numbers."""
    placed: Placed
    """What the filter is on."""
    around: Box
    """The filter's region at import, in the units of what it is on."""
    follows: bool
    """Whether that follows a box."""
    boxed: bool
    """Whether the primitives' numbers are in units of a box."""
    stays: bool
    """Whether something in it is where the box is at import."""
    graph: Graph = field(default_factory=Graph)
    """The steps."""

    def add(self, primitive: Element) -> None:
        """Add the steps of a primitive."""
        style = self.cascade.own_style(primitive)
        linear = style.get("color-interpolation-filters", "linearrgb") == "linearrgb"
        graph = self.graph
        step = Step(Merge(), (graph.input_of(primitive),), linear, self._region(primitive))
        read = _PRIMITIVES.get(primitive.tag)
        if read is None:
            graph.add(replace(step, operation=color_operation(primitive)))
        else:
            read(self, primitive, style, step)
        if "result" in primitive.attributes:
            graph.names[primitive.attributes["result"].strip()] = len(graph.steps) - 1

    def scaled(self, x: float, y: float) -> tuple[float, float]:
        """Return lengths of the primitives in user units."""
        if not self.boxed or self.placed.box is None:
            return x, y
        return x * self.placed.box[2], y * self.placed.box[3]

    def _region(self, primitive: Element) -> Region | None:
        """Return what a primitive's result is cut to, if it says so."""
        given = primitive.attributes
        if not given.keys() & set(_SIDES):
            return None
        view, box = self.placed.context.viewport, self.placed.box
        values = list(self.around)
        for k, (name, side) in enumerate((("x", 0), ("y", 1), ("width", 0), ("height", 1))):
            if name not in given:
                continue
            if self.boxed and box is not None:
                part = parse_length(given[name], 1.0)
                values[k] = values[k] if part is None else part * box[2 + side] + (box[side] if k < 2 else 0)
            else:
                length = view.length(given[name], (view.width, view.height)[side])
                values[k] = values[k] if length is None else length
        if len(given.keys() & set(_SIDES)) < 4 and self.follows:
            # the rest follows the box: it stays where it is
            self.stays = True
        x, y, width, height = values
        path = self.builder.add_polygon(corners((x, y, max(width, 0.0), max(height, 0.0))))
        return Region(self.builder.first_point(path), self.placed.context.transform)

    def flood(self, primitive: Element, style: Style) -> Flood:
        """Return the colour of a primitive."""
        opacity = parse_length(style.get("flood-opacity", "1"), 1.0)
        alpha = 1.0 if opacity is None else min(max(opacity, 0.0), 1.0)
        found = flood(self.builder, style.get("flood-color", "black"), alpha, style)
        assert found is not None, "the cascade keeps colours only that can be read"
        return found

    def _blur(self, primitive: Element, style: Style, step: Step) -> None:
        self.graph.add(replace(step, operation=self.deviations(primitive, "0")))

    def deviations(self, primitive: Element, default: str) -> Blur:
        """Return the blur that a primitive asks for; one that cannot be read is none."""
        numbers = numbers_of(primitive, "stdDeviation", default)
        if not 1 <= len(numbers) <= 2 or min(numbers) < 0:
            return Blur(0.0, 0.0)
        return Blur(*self.scaled(numbers[0], numbers[-1]))

    def offset(self, primitive: Element, default: str) -> Offset:
        """Return how far a primitive moves its input."""
        x, y = (parse_number(primitive.attributes.get(name, default)) or 0.0 for name in ("dx", "dy"))
        return Offset(*self.scaled(x, y))

    def _offset(self, primitive: Element, style: Style, step: Step) -> None:
        self.graph.add(replace(step, operation=self.offset(primitive, "0")))

    def _flooding(self, primitive: Element, style: Style, step: Step) -> None:
        self.graph.add(replace(step, operation=self.flood(primitive, style), inputs=()))

    def _merge(self, primitive: Element, style: Style, step: Step) -> None:
        inputs = tuple(self.graph.input_of(child) for child in primitive.children if child.tag == "feMergeNode")
        self.graph.add(replace(step, inputs=inputs))

    def _composite(self, primitive: Element, style: Style, step: Step) -> None:
        operator = primitive.attributes.get("operator", "over")
        k1, k2, k3, k4 = (parse_number(primitive.attributes.get(f"k{n}", "0")) or 0.0 for n in (1, 2, 3, 4))
        known = operator in ("in", "out", "atop", "xor", "lighter", "arithmetic")
        operation = Composite(operator if known else "over", (k1, k2, k3, k4))
        self.graph.add(replace(step, operation=operation, inputs=self._pair(primitive)))

    def _morphology(self, primitive: Element, style: Style, step: Step) -> None:
        radii = numbers_of(primitive, "radius", "0")
        known = 1 <= len(radii) <= 2 and min(radii) >= 0
        x, y = self.scaled(radii[0], radii[-1]) if known else (0.0, 0.0)
        operation = Morphology(primitive.attributes.get("operator") == "dilate", x, y)
        self.graph.add(replace(step, operation=operation))

    def _mix(self, primitive: Element, style: Style, step: Step) -> None:
        mode = primitive.attributes.get("mode", "normal")
        self.graph.add(
            replace(step, operation=Mix(mode if mode in BLEND_MODES else "normal"), inputs=self._pair(primitive))
        )

    def _pair(self, primitive: Element) -> tuple[int, int]:
        return self.graph.input_of(primitive), self.graph.input_of(primitive, "in2")

    def _shadow(self, primitive: Element, style: Style, step: Step) -> None:
        blur, offset = self.deviations(primitive, "2"), self.offset(primitive, "2")
        add_shadow(self.graph, step.inputs[0], offset, blur, self.flood(primitive, style), step)


def add_shadow(graph: Graph, source: int, offset: Offset, blur: Blur, flood: Flood, last: Step) -> None:
    """Add a picture over its shadow."""
    plain = replace(last, region=None)
    blurred = graph.add(replace(plain, operation=blur, inputs=(source,)))
    moved = graph.add(replace(plain, operation=offset, inputs=(blurred,)))
    color = graph.add(replace(plain, operation=flood, inputs=()))
    shadow = graph.add(replace(plain, operation=Composite("in"), inputs=(color, moved)))
    graph.add(replace(last, operation=Merge(), inputs=(shadow, source)))


_PRIMITIVES: dict[str, Callable[[Reader, Element, Style, Step], None]] = {
    "feGaussianBlur": Reader._blur,
    "feOffset": Reader._offset,
    "feFlood": Reader._flooding,
    "feMerge": Reader._merge,
    "feComposite": Reader._composite,
    "feBlend": Reader._mix,
    "feMorphology": Reader._morphology,
    "feDropShadow": Reader._shadow,
}
KNOWN = _PRIMITIVES.keys() | COLORS
"""Tags of the primitives that are drawn here."""
