"""Which numbers of a drawing come from one declaration, and may be edited there for all that share it."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import torch

from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY
from pds_nerfstudio.vector.svg.cascade import VARIABLE, Cascade, Origin, Style
from pds_nerfstudio.vector.svg.import_record import Imported, Slot
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource

_COLORS = ("fill", "stroke", "stop-color")
_INHERITED = ("fill", "stroke", "fill-opacity", "stroke-opacity", "stroke-width")
_PAINTED = frozenset((*GEOMETRY, "text", "tspan", "textPath", "tref"))
"""What shows the paint that it inherits."""
_NAME = re.compile(r"--[\w-]+")


def by_origin(slots: Collection[Slot]) -> dict[Origin, list[Slot]]:
    """Return for each declaration the numbers that come from it, for one use of their element at least."""
    found: dict[Origin, list[Slot]] = defaultdict(list)
    for slot in slots:
        for origin in slot.origins:
            if origin is not None:
                found[origin].append(slot)
    return found


def tied_rows(drawing: Imported) -> dict[str, list[list[int]]]:
    """Return for each tensor of the parameters the rows, two at least, that one declaration gives the same value."""
    ties: dict[str, list[list[int]]] = defaultdict(list)
    for slots in by_origin(drawing.slots).values():
        alike: dict[tuple, list[int]] = defaultdict(list)
        for slot in slots:
            if slot.editable and slot.origin is not None:
                alike[(slot.kind, *_value(drawing, slot))].append(slot.row)
        for (kind, *_), rows in alike.items():
            if len(rows) > 1:
                ties[kind].append(rows)
    return dict(ties)


def _value(drawing: Imported, slot: Slot) -> tuple:
    value = getattr(drawing.parameters, slot.kind)[slot.row]
    return slot.scale, slot.alpha, *value.reshape(-1).tolist()


def is_one(drawing: Imported, slots: Sequence[Slot]) -> bool:
    """Tell whether numbers that come from one declaration can all be written there."""
    same = {(slot.kind, *_value(drawing, slot)) for slot in slots}
    return len(same) == 1 and all(slot.editable and slot.origin is not None for slot in slots)


def reaches_undrawn(root: Element, drawing: Imported) -> set[Origin]:
    """Return the declarations that also give a value to what is not drawn, and so must stay as it is: text, say."""
    cascade, found = drawing.cascade, set[Origin]()
    shapes = {path.element for path in drawing.paths}
    known = {(slot.element, slot.name) for slot in drawing.slots}
    stack = [(root, Style())]
    while stack:
        element, outside = stack.pop()
        style = cascade.style(element, outside)
        stack.extend((child, style) for child in element.children)
        found |= set(_in_part(cascade, element, style))
        if style.get("flood-color") == "currentcolor" or "drop-shadow" in style.get("filter", ""):
            # the colour of a shadow is read as a number of the filter's own
            origin = cascade.current_color_origin(element, style)
            found |= set() if origin is None else {origin}
        if not style.given and style.get("fill") != "currentcolor" and style.get("stroke") != "currentcolor":
            continue
        names = ["opacity"]
        names += _INHERITED if element.tag in _PAINTED and element not in shapes else ()
        names += ("stop-color", "stop-opacity") if element.tag == "stop" else ()
        for name in names:
            origin = cascade.color_origin(element, name, style) if name in _COLORS else style.given.get(name)
            if origin is not None and (element, name) not in known:
                found.add(origin)
    if cascade.style(root, Style()).get("background-color") == "currentcolor":
        found |= {origin for slot in drawing.slots for origin in slot.origins if origin and origin.name == "color"}
    return found


def _in_part(cascade: Cascade, element: Element, style: Style) -> Iterator[Origin]:
    """Return the variables that an element has as a part of a value."""
    for name, given in cascade.declared(element).items():
        value = given.value or ""
        if "var(" in value and not (VARIABLE.fullmatch(value) and (name[:2] == "--" or name in style.given)):
            yield from (style.given[used] for used in _NAME.findall(value) if used in style.given)


def place_in_file(source: XmlSource, origin: Origin) -> tuple[int, int] | None:
    """Return the bytes where the value of a rule stands; None where the file spells the rule in another way."""
    assert origin.span is not None
    element, (start, end) = origin.element, origin.span
    first = source.tag_span(element)[1]
    raw = source.data[first : element.end].decode()
    # line ends were made one character when the file was read
    kept = [i for i, char in enumerate(raw) if char != "\r" or raw[i + 1 : i + 2] != "\n"]
    at = "".join(raw[i] for i in kept).replace("\r", "\n").find(element.text)
    if at < 0 or not element.text:
        return None
    where = [len(raw[: kept[at + i]].encode()) for i in (start, end - 1)]
    last = kept[at + end - 1]
    return first + where[0], first + where[1] + len(raw[last].encode())


def tied_representatives(
    groups: Sequence[Sequence[int]], start: torch.Tensor, units: torch.Tensor
) -> torch.Tensor | None:
    """Return for each row the one whose change it takes; None where each takes its own.

    Args:
        groups: Rows that one declaration gives their value.
        start: The values now. Those that differ by now go their own ways.
        units: How far each goes in a step; those that stay, at 0, have no part in it. Tied ones get the least of them.
    """
    chosen, found = torch.arange(len(start)), False
    free = (units > 0).tolist()
    for rows in groups:
        alike: dict[tuple, list[int]] = defaultdict(list)
        for row in rows:
            if free[row]:
                alike[tuple(start[row].reshape(-1).tolist())].append(row)
        for tied in alike.values():
            if len(tied) > 1:
                found = True
                chosen[tied] = tied[0]
                units[tied] = units[tied].min()
    return chosen if found else None
