"""Filters of an SVG: `filter` elements and filter functions (Filter Effects 1)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from pds_nerfstudio.vector.raster.filter_graph import (
    BLEND_MODES,
    SOURCE,
    SOURCE_ALPHA,
    Blur,
    Composite,
    Filter,
    Flood,
    Merge,
    Mix,
    Offset,
    Region,
    Step,
)
from pds_nerfstudio.vector.raster.scene import Node
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.color import parse_color
from pds_nerfstudio.vector.svg.context import Context
from pds_nerfstudio.vector.svg.filter_functions import color_function, split_functions
from pds_nerfstudio.vector.svg.filter_primitives import COLORS, color_operation, numbers_of
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex
from pds_nerfstudio.vector.svg.numbers import parse_length, parse_number
from pds_nerfstudio.vector.svg.outline_importer import Box, OutlineImporter
from pds_nerfstudio.vector.svg.regions import (
    BOX,
    Placed,
    UnitRegion,
    corners,
    follower_or_not,
    in_user_units,
    read_region,
)
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.xml_source import Element

NOTHING = Filter((), None)
"""A filter that leaves nothing."""
_BOXED = "filters in units of a box, and what they are on"
_ALPHA_OF = "alpha"


@dataclass
class _Graph:
    """The steps of a filter so far."""

    steps: list[Step]
    names: dict[str, int]
    """Numbers of the steps whose results have names."""

    def add(self, step: Step) -> int:
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
class FilterImporter:
    """The filters of one file. Their own numbers stay as they are."""

    file: FileIndex
    """Where they are looked up."""
    outlines: OutlineImporter
    """Has the boxes that they refer to."""

    def read(self, style: Style, context: Context, node: Node) -> tuple[Filter, ...]:
        """Return an element's filters.

        Args:
            style: Its values.
            context: What holds inside of it.
            node: What it draws.
        """
        value = style.get("filter", "none")
        if value == "none":
            return ()
        functions = split_functions(value)
        if functions is None:
            self.file.note_unread("filter", value)
            return ()
        members = self.outlines.members(node, context.transform)
        placed = Placed(context, members, self.outlines.box(members))
        found: list[Filter] = []
        one: Filter | None
        for name, argument in functions:
            if name == "url":
                url = parse_url(f"url({argument})")
                target = None if url is None else self.file.target(url[0])
                if target is None or target.tag != "filter":
                    # one that there is not turns all of them off
                    return ()
                one = self._element(target, placed)
            else:
                one = self._function(name, argument, style, placed)
                if one is None:
                    self.file.note_unread("filter", f"{name}({argument})")
                    return ()
            if one is not None:
                found.append(one)
        return tuple(found)

    def _function(self, name: str, argument: str, style: Style, placed: Placed) -> Filter | None:
        """Return a filter function; None where it cannot be read."""
        transform, view = placed.context.transform, placed.context.viewport
        operation = color_function(name, argument)
        if operation is not None:
            return Filter((Step(operation, (SOURCE,)),), None, transform)
        words = _words(argument)
        lengths = [view.length(word, 1.0) for word in words]
        if name == "blur" and len(words) <= 1:
            deviation = lengths[0] if words else 0.0
            known = deviation is not None and deviation >= 0 and "%" not in argument
            return Filter((Step(Blur(deviation, deviation), (SOURCE,)),), None, transform) if known else None  # type: ignore[arg-type]
        if name != "drop-shadow":
            return None
        numbers = [length for length in lengths if length is not None]
        others = [word for word, length in zip(words, lengths, strict=True) if length is None]
        if not 2 <= len(numbers) <= 3 or len(others) > 1 or (len(numbers) == 3 and numbers[2] < 0):
            return None
        x, y, deviation = (*numbers, 0.0)[:3]
        graph = _Graph([], {})
        flood = self._flood(others[0].lower() if others else "currentcolor", 1.0, style)
        if flood is None:
            return None
        _add_shadow(graph, SOURCE, Offset(x, y), Blur(deviation, deviation), flood, Step(Merge()))
        return Filter(tuple(graph.steps), None, transform)

    def _flood(self, color: str, opacity: float, style: Style) -> Flood | None:
        """Return one colour everywhere; None where it cannot be read."""
        known = parse_color(style.get("color", "black") if color == "currentcolor" else color)
        if known is None:
            return None
        *rgb, alpha = known
        builder = self.outlines.rows.builder
        return Flood(builder.add_color(*rgb), builder.add_opacity(alpha * opacity))

    @cached_property
    def has_foreign(self) -> bool:
        """Whether the file has a filter with primitives that are not drawn here."""
        return any(
            _is_primitive(child) and child.tag not in _KNOWN
            for element in self.file.root.walk()
            if element.tag == "filter"
            for child in element.children
        )

    def is_foreign(self, style: Style) -> bool:
        """Tell whether an element has a filter with primitives that are not drawn here."""
        functions = split_functions(style.get("filter", "none")) or ()
        targets = [self.file.target(argument.strip("\"' ")) for name, argument in functions if name == "url"]
        for target in targets:
            holder = None if target is None else self._holder(self._chain(target))
            if holder is not None and any(_is_primitive(c) and c.tag not in _KNOWN for c in holder.children):
                return True
        return False

    def _element(self, element: Element, placed: Placed) -> Filter:
        """Return a filter."""
        chain = self._chain(element)
        described = {name: value for link in reversed(chain) for name, value in link.attributes.items()}
        described_element = replace(element, attributes=described)
        holder = self._holder(chain)
        region = read_region(described_element, "filterUnits", placed)
        boxed = described.get("primitiveUnits") == BOX
        if holder is None or region is None or (boxed and placed.box is None):
            self.outlines.lock({path for path, _ in placed.members})
            return NOTHING
        if boxed:
            self.file.held.add(_BOXED)
            self.outlines.lock({path for path, _ in placed.members})
        builder, transform = self.outlines.rows.builder, placed.context.transform
        path = follower_or_not(region, placed, builder)
        graph = _Graph([], {})
        reader = _Reader(self, placed, in_user_units(region, placed), region.follows, boxed, graph)
        for primitive in holder.children:
            if _is_primitive(primitive):
                reader.add(primitive)
        return Filter(tuple(graph.steps), Region(builder.first_point(path), transform), transform)

    def _holder(self, chain: list[Element]) -> Element | None:
        """Return the element that has the primitives."""
        return next((link for link in chain if any(_is_primitive(c) for c in link.children)), None)

    def _chain(self, element: Element) -> list[Element]:
        chain = [element]
        while (following := self.file.reference(chain[-1])) is not None and following.tag == "filter":
            if following in chain:
                self.file.undrawn.add(TO_ITSELF)
                break
            chain.append(following)
        return chain


@dataclass
class _Reader:
    """The primitives of one filter."""

    importer: FilterImporter
    placed: Placed
    around: Box
    """The filter's region at import, in the units of what it is on."""
    follows: bool
    """Whether that follows a box."""
    boxed: bool
    """Whether the primitives' numbers are in units of a box."""
    graph: _Graph

    def add(self, primitive: Element) -> None:
        """Add the steps of a primitive."""
        style = self.importer.file.cascade.own_style(primitive)
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
        if not given.keys() & {"x", "y", "width", "height"}:
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
        if len(given.keys() & {"x", "y", "width", "height"}) < 4 and self.follows:
            # the rest follows the box: it stays where it is
            self.importer.file.held.add(_BOXED)
            self.importer.outlines.lock({path for path, _ in self.placed.members})
        x, y, width, height = values
        region = UnitRegion((x, y, max(width, 0.0), max(height, 0.0)), False)
        builder = self.importer.outlines.rows.builder
        path = builder.add_polygon(corners(region.box))
        return Region(builder.first_point(path), self.placed.context.transform)

    def flood(self, primitive: Element, style: Style) -> Flood:
        """Return the colour of a primitive."""
        opacity = parse_length(style.get("flood-opacity", "1"), 1.0)
        alpha = 1.0 if opacity is None else min(max(opacity, 0.0), 1.0)
        found = self.importer._flood(style.get("flood-color", "black"), alpha, style)
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

    def _mix(self, primitive: Element, style: Style, step: Step) -> None:
        mode = primitive.attributes.get("mode", "normal")
        self.graph.add(
            replace(step, operation=Mix(mode if mode in BLEND_MODES else "normal"), inputs=self._pair(primitive))
        )

    def _pair(self, primitive: Element) -> tuple[int, int]:
        return self.graph.input_of(primitive), self.graph.input_of(primitive, "in2")

    def _shadow(self, primitive: Element, style: Style, step: Step) -> None:
        blur, offset = self.deviations(primitive, "2"), self.offset(primitive, "2")
        _add_shadow(self.graph, step.inputs[0], offset, blur, self.flood(primitive, style), step)


def _add_shadow(graph: _Graph, source: int, offset: Offset, blur: Blur, flood: Flood, last: Step) -> None:
    """Add a picture over its shadow."""
    plain = replace(last, region=None)
    blurred = graph.add(replace(plain, operation=blur, inputs=(source,)))
    moved = graph.add(replace(plain, operation=offset, inputs=(blurred,)))
    color = graph.add(replace(plain, operation=flood, inputs=()))
    shadow = graph.add(replace(plain, operation=Composite("in"), inputs=(color, moved)))
    graph.add(replace(last, operation=Merge(), inputs=(shadow, source)))


def _words(argument: str) -> list[str]:
    """Return the arguments of a function, colours as one word each."""
    words, depth = [""], 0
    for char in argument:
        depth += (char == "(") - (char == ")")
        if char.isspace() and depth == 0:
            words.append("")
        else:
            words[-1] += char
    return [word for word in words if word]


_PRIMITIVES: dict[str, Callable[[_Reader, Element, Style, Step], None]] = {
    "feGaussianBlur": _Reader._blur,
    "feOffset": _Reader._offset,
    "feFlood": _Reader._flooding,
    "feMerge": _Reader._merge,
    "feComposite": _Reader._composite,
    "feBlend": _Reader._mix,
    "feDropShadow": _Reader._shadow,
}
_KNOWN = _PRIMITIVES.keys() | COLORS


def _is_primitive(element: Element) -> bool:
    return element.tag.startswith("fe")
