"""Filters of an SVG: `filter` elements and filter functions (Filter Effects 1)."""

from dataclasses import dataclass, replace
from functools import cached_property

from pds_nerfstudio.vector.raster.filter_graph import SOURCE, Blur, Filter, Merge, Offset, Region, Step
from pds_nerfstudio.vector.raster.scene import Node
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.context import Context
from pds_nerfstudio.vector.svg.filter_functions import color_function, split_functions
from pds_nerfstudio.vector.svg.filter_steps import KNOWN, Graph, Reader, add_shadow, flood
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex
from pds_nerfstudio.vector.svg.modest import FOREIGN, is_modest_primitive
from pds_nerfstudio.vector.svg.outline_importer import OutlineImporter
from pds_nerfstudio.vector.svg.regions import BOX, Placed, follower_or_not, in_user_units, read_region
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.xml_source import Element

NOTHING = Filter((), None)
"""A filter that leaves nothing."""
_BOXED = "filters in units of a box, and what they are on"


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
            length = lengths[0] if words else 0.0
            if length is None or length < 0 or argument.endswith("%"):
                return None
            return Filter((Step(Blur(length, length), (SOURCE,)),), None, transform)
        if name != "drop-shadow":
            return None
        numbers = [length for length in lengths if length is not None]
        others = [word for word, length in zip(words, lengths, strict=True) if length is None]
        fits = 2 <= len(numbers) <= 3 and len(others) <= 1 and not any(word.endswith("%") for word in words)
        if not fits or (len(numbers) == 3 and numbers[2] < 0):
            return None
        x, y, deviation = (*numbers, 0.0)[:3]
        graph = Graph()
        color = flood(self.outlines.rows.builder, others[0].lower() if others else "currentcolor", 1.0, style)
        if color is None:
            return None
        add_shadow(graph, SOURCE, Offset(x, y), Blur(deviation, deviation), color, Step(Merge()))
        return Filter(tuple(graph.steps), None, transform)

    @cached_property
    def has_foreign(self) -> bool:
        """Whether the file has a filter that is not drawn here."""
        return any(self._foreign(element) for element in self.file.root.walk() if element.tag == "filter")

    def is_foreign(self, style: Style) -> bool:
        """Tell whether an element has a filter that is not drawn here, but by resvg."""
        functions = split_functions(style.get("filter", "none")) or ()
        targets = [self.file.target(argument.strip("\"' ")) for name, argument in functions if name == "url"]
        holders = [self._holder(self._chain(target)) for target in targets if target is not None]
        foreign = [primitive for holder in holders if holder is not None for primitive in self._foreign(holder)]
        return bool(foreign) and all(is_modest_primitive(primitive) for primitive in foreign)

    def _foreign(self, holder: Element) -> list[Element]:
        """Return the primitives that are not drawn here."""
        return [child for child in holder.children if child.tag in FOREIGN]

    def _element(self, element: Element, placed: Placed) -> Filter | None:
        """Return a filter; None for one that cannot be drawn."""
        chain = self._chain(element)
        described = {name: value for link in reversed(chain) for name, value in link.attributes.items()}
        described_element = replace(element, attributes=described)
        holder = self._holder(chain)
        foreign = self._foreign(holder) if holder is not None else ()
        if foreign:
            self.file.plain.update(primitive.tag for primitive in foreign)
            return None
        region = read_region(described_element, "filterUnits", placed)
        boxed = described.get("primitiveUnits") == BOX
        if holder is None or region is None or (boxed and placed.box is None):
            self.outlines.lock({path for path, _ in placed.members})
            return NOTHING
        builder, transform = self.outlines.rows.builder, placed.context.transform
        path = follower_or_not(region, placed, builder)
        around = in_user_units(region, placed)
        reader = Reader(self.file.cascade, builder, placed, around, region.follows, boxed, stays=boxed)
        for primitive in holder.children:
            if primitive.tag in KNOWN:
                reader.add(primitive)
        if reader.stays:
            self.file.held.add(_BOXED)
            self.outlines.lock({path for path, _ in placed.members})
        return Filter(tuple(reader.graph.steps), Region(builder.first_point(path), transform), transform)

    def _holder(self, chain: list[Element]) -> Element | None:
        """Return the element that has the primitives."""
        return next((link for link in chain if any(child.tag.startswith("fe") for child in link.children)), None)

    def _chain(self, element: Element) -> list[Element]:
        chain = [element]
        while (following := self.file.reference(chain[-1])) is not None and following.tag == "filter":
            if following in chain:
                self.file.undrawn.add(TO_ITSELF)
                break
            chain.append(following)
        return chain


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
