"""Write edited numbers into the bytes of the file that they came from, and touch nothing else."""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property

import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.scene import SceneParameters, Shape
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY, Numbers, fit_shape
from pds_nerfstudio.vector.svg.cascade import Origin
from pds_nerfstudio.vector.svg.color import format_color
from pds_nerfstudio.vector.svg.import_record import Imported, PathSlot, Slot
from pds_nerfstudio.vector.svg.moved_shapes import move_shape
from pds_nerfstudio.vector.svg.numbers import format_number
from pds_nerfstudio.vector.svg.path_grammar import Point, format_path
from pds_nerfstudio.vector.svg.properties import INHERITED, is_property
from pds_nerfstudio.vector.svg.sharing import by_origin, is_one, place_in_file, reaches_undrawn
from pds_nerfstudio.vector.svg.tag_edits import TagEdit, replacements
from pds_nerfstudio.vector.svg.turning import may_turn, shapes_of
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource, parse_xml

PRECISION = 1e-4
"""Points and widths are written this exactly, relative to the larger side of the drawing, and gradients relative to
their length: a hundredth of a pixel where the drawing is 100 of them large."""
STILL_A_SHAPE = 1e-3
"""How far the points of a basic shape may stray from it, relative to the larger side of the drawing."""

ORIGINS = frozenset(
    """type sides cx cy rx ry r1 r2 arg1 arg2 arc-type start end open flatsided rounded randomized expansion revolution
    radius argument t0 original original-d path-effect""".split()
)
"""Attributes of which Inkscape makes the outline of a path anew: of stars, arcs, spirals, offsets, path effects."""

_BLANK_BEFORE = re.compile(rb"\n[ \t]*$")
_NAMES = {"linearGradient": ("x1", "y1", "x2", "y2"), "radialGradient": ("cx", "cy", "r", "fx", "fy", "fr")}


class _Writer:
    """Edits of one file."""

    def __init__(self, source: XmlSource, drawing: Imported) -> None:
        self.source, self.drawing = source, drawing
        self.edits: dict[Element, TagEdit] = {}
        self.extent = max(drawing.size)
        self.opaque: set[tuple[Element, str]] = set()
        """Elements and colour properties whose alpha moves into the opacity beside them."""
        self.gone: list[tuple[int, int]] = []
        """Where elements stand that go."""
        self.rules: list[tuple[int, int, bytes]] = []
        """New values in style sheets, and the bytes that they replace."""
        self.ruled: dict[tuple[Element | None, tuple[int, int]], str] = {}
        """The same values, by the style element and the place in its text."""

    @cached_property
    def unit_of(self) -> dict[Element, float]:
        """The larger side of the drawing in the units of each shape."""
        return {p.element: self.extent / p.scale if p.scale > 0 else 1.0 for p in self.drawing.paths}

    @cached_property
    def shapes(self) -> dict[int, list[Shape]]:
        """All that is drawn of each path, in masks too."""
        return shapes_of(self.drawing.scene)

    def edit(self, element: Element) -> TagEdit:
        return self.edits.setdefault(element, TagEdit())

    def set_property(self, element: Element, name: str, value: str) -> None:
        """Set a property where the element already has it, or where that overrides what gave it so far."""
        declared = self.drawing.cascade.declared(element).get(name)
        if declared is None or declared.origin == "attribute":
            self.edit(element).attributes[name] = value
        else:
            self.edit(element).properties[name] = value + (" !important" if declared.important else "")

    def set_geometry(self, element: Element, name: str, value: str) -> None:
        """Set an attribute of a shape, or the property of its name where that overrides it."""
        if name in self.drawing.cascade.declared(element):
            self.set_property(element, name, f"path('{value}')" if name == "d" else f"{value}px")
        else:
            self.edit(element).attributes[name] = value

    def forget_origin(self, element: Element) -> None:
        """Remove what Inkscape would make an element's old outline from again."""
        removed = self.edit(element).removed
        removed |= {raw for name, raw in element.editor_attributes.items() if name in ORIGINS}
        around = element.parent
        while around is not None:
            if "path-effect" in around.editor_attributes:
                self.edit(around).removed.add(around.editor_attributes["path-effect"])
            around = around.parent

    def text(self, slot: Slot, value: Tensor) -> str:
        """Return a colour, an opacity or a width as a property has it."""
        if slot.kind == "colors":
            red, green, blue = value.tolist()
            # alpha that has gone over into the opacity is said there
            alpha = 1.0 if (slot.element, slot.name) in self.opaque else slot.alpha
            return format_color(red, green, blue, alpha)
        if slot.kind == "opacities":
            opaque = (slot.element, _color_of(slot.name)) in self.opaque
            opacity = float(value) / (1.0 if opaque else slot.scale)
            return format_number(min(max(opacity, 0.0), 1.0), 3)
        decimals = _decimals(PRECISION * self.unit_of.get(slot.element, self.extent))
        return format_number(max(float(value) / slot.scale, 0.0), decimals)

    def declare(self, origin: Origin, text: str) -> bool:
        """Set the value of a declaration; return whether that can be."""
        if origin.span is None:
            self.set_property(origin.element, origin.name, text)
            return True
        place = place_in_file(self.source, origin)
        if place is not None:
            self.rules.append((*place, text.encode()))
            self.ruled[origin.element, origin.span] = text
        return place is not None

    def write_shared(self, slots: Sequence[Slot], now: SceneParameters, vanished: Collection[Element]) -> set[int]:
        """Write what has changed for all that share it where it is declared; return the slots that are done with.

        Where they differ by now, most of them go on sharing. One that has not changed keeps its value to the byte, and
        so do all others keep theirs as it is declared.
        """
        changed, done = {id(slot) for slot in slots}, set[int]()
        groups = by_origin([slot for slot in self.drawing.slots if slot.element not in vanished])
        candidates = [
            (origin, members)
            for origin, members in groups.items()
            if all(id(m) in changed and (m.element, _color_of(m.name)) not in self.opaque for m in members)
            and is_one(self.drawing, members)
        ]
        undrawn = reaches_undrawn(self.source.root, self.drawing) if candidates else set[Origin]()
        for origin, members in candidates:
            if origin in undrawn:
                continue
            texts = {id(m): self.text(m, getattr(now, m.kind)[m.row]) for m in members}
            text, _ = Counter(texts.values()).most_common(1)[0]
            if self.declare(origin, text):
                done |= {key for key, own in texts.items() if own == text}
        return done

    def write_slot(self, slot: Slot, value: Tensor) -> None:
        if slot.kind == "gradients":
            names, (x1, y1, x2_or_r, y2, *_) = _NAMES[slot.name], value.tolist()
            length = x2_or_r if slot.name == "radialGradient" else math.hypot(x2_or_r - x1, y2 - y1)
            for name, number in zip(names, value.tolist(), strict=False):
                self.edit(slot.element).attributes[name] = format_number(number, _decimals(PRECISION * length))
        elif slot.kind == "offsets":
            self.edit(slot.element).attributes["offset"] = format_number(min(max(float(value), 0.0), 1.0), 4)
        else:
            self.set_property(slot.element, slot.name, self.text(slot, value))

    def write_path(self, slot: PathSlot, points: Sequence[Point]) -> None:
        unit = self.unit_of[slot.element]
        decimals = _decimals(PRECISION * unit)
        extents = [max(side) - min(side) for side in zip(*points, strict=True)]
        # what is thin must not become flat, for then it has no box any more
        finer = [math.ceil(-math.log10(extent)) + 2 for extent in extents if extent > 0]
        decimals = min(max([decimals, *finer]), 9)
        edit, tag = self.edit(slot.element), slot.source.tag
        self.forget_origin(slot.element)
        if tag in ("polyline", "polygon"):
            pairs = (" ".join(format_number(v, decimals) for v in point) for point in points)
            edit.attributes["points"] = " ".join(pairs)
            return
        if tag != "path":
            numbers = fit_shape(slot.source, points, STILL_A_SHAPE * unit)
            if numbers is not None:
                self.write_numbers(slot, numbers, PRECISION * unit, decimals)
                return
            if self.write_moved(slot, points, unit, decimals):
                return
            self.rename(slot.element, "path")
        self.set_geometry(slot.element, "d", format_path(points, slot.source.outline.contours, decimals))

    def write_numbers(self, slot: PathSlot, numbers: Numbers, exact: float, decimals: int) -> None:
        for name, value in numbers.items():
            if abs(value - slot.source.numbers.get(name, math.inf)) > exact:
                self.set_geometry(slot.element, name, format_number(value, decimals))

    def write_moved(self, slot: PathSlot, points: Sequence[Point], unit: float, decimals: int) -> bool:
        """Write a shape that was moved as a whole as one that is turned, say; return whether it is one."""
        if slot.source.tag == "line":
            return False
        shapes = self.shapes.get(slot.path, [])
        strokes = [shape.stroke for shape in shapes if shape.stroke is not None]
        dashed = any(stroke.dashes for stroke in strokes)
        moved = move_shape(slot.source, points, STILL_A_SHAPE * unit, slants=not strokes, dashed=dashed)
        if moved is None:
            return False
        if not moved.is_upright:
            if not may_turn(slot, self.shapes, self.drawing):
                return False
            before = slot.element.attributes.get("transform", "")
            moved, self.edit(slot.element).attributes["transform"] = moved.transform(before, decimals)
        if moved.tag != slot.source.tag:
            self.rename(slot.element, moved.tag)
        self.write_numbers(slot, moved.numbers, PRECISION * unit, decimals)
        return True

    def rename(self, element: Element, tag: str) -> None:
        """Make a shape another one: without what only the one before has."""
        edit, raw = self.edit(element), element.raw_attributes
        edit.tag = tag
        edit.removed |= {raw[name] for name in GEOMETRY[element.tag] if name in raw and name not in GEOMETRY[tag]}

    def keep_styles(self) -> None:
        """Give elements the properties that they would win or lose because selectors pick others after the edits."""
        sheet = self.drawing.cascade.sheet
        if not sheet or not sheet.asks_for_attributes:
            return
        after, root = sheet.elsewhere(), parse_xml(self.source.encode(self.result()), "SVG").root
        kept = [element for element in self.source.root.walk() if not self.is_gone(element)]
        for element, edited in zip(kept, root.walk(), strict=True):
            old, new = (
                {d.name: d for d in sorted(s.declarations(e), key=lambda d: d.important) if is_property(d.name)}
                for s, e in ((sheet, element), (after, edited))
            )
            for name in sorted(old.keys() | new.keys()):
                before, now = old.get(name), new.get(name)
                declared = self.drawing.cascade.declared(element).get(name)
                inline = declared is not None and declared.origin == "style"
                if before == now or inline or name in self.edits.get(element, TagEdit()).properties:
                    continue
                value = self.attribute(element, name)
                if before is not None:
                    value = self.ruled.get((before.owner, before.span), before.value)
                forced = (before is not None and before.important) or (now is not None and now.important)
                self.edit(element).properties[name] = value + (" !important" if forced else "")

    def attribute(self, element: Element, name: str) -> str:
        """Return the value that an element has for a property where neither a sheet nor its style gives one."""
        default = "inherit" if name in INHERITED else "initial"
        return self.edit(element).attributes.get(name, element.attributes.get(name, default))

    def hide(self, element: Element) -> None:
        """Draw an element nowhere."""
        self.set_property(element, "display", "none")

    def remove(self, element: Element) -> None:
        """Take an element out, with the `use` elements that draw it; hide it if anything else refers to it."""
        name = element.attributes.get("id")
        users = [e for e in self.source.root.walk() if name and e.attributes.get("href") == f"#{name}"]
        if any(user.tag != "use" for user in users) or self.source.data.count(f"#{name})".encode()):
            self.hide(element)
            return
        for gone in (element, *users):
            start, end = self.source.tag_span(gone)
            if self.source.data[end - 2 : end] != b"/>":
                end = self.source.data.index(b">", gone.end) + 1
            blank = _BLANK_BEFORE.search(self.source.data, 0, start)
            self.gone.append((blank.start() if blank else start, end))

    def is_gone(self, element: Element) -> bool:
        """Return whether an element, or one that it is in, is taken out."""
        return any(start <= element.start < end for start, end in self.gone)

    def result(self) -> bytes:
        """Return the file in UTF-8 with all edits made."""
        changes = [*self.rules, *((start, end, b"") for start, end in self.gone)]
        for element, edit in self.edits.items():
            if not self.is_gone(element):
                changes += replacements(self.source, element, edit)
        data = self.source.data
        parts, position = [], 0
        for start, end, text in sorted(changes):
            parts += [data[position:start], text]
            position = end
        return b"".join([*parts, data[position:]])


def _decimals(exact: float) -> int:
    """Return how many decimals it takes to write numbers as exactly as this."""
    return min(max(math.ceil(-math.log10(exact)), 0), 9) if exact > 0 else 9


def _color_of(opacity: str) -> str:
    """Return the colour that an opacity property goes with."""
    return "stop-color" if opacity == "stop-opacity" else opacity.removesuffix("-opacity")


def write_svg(
    source: XmlSource,
    drawing: Imported,
    parameters: SceneParameters,
    vanished: Collection[Element] = (),
    remove: bool = False,
) -> bytes:
    """Return the file with the numbers that differ from the drawing's own written in place.

    Elements, ids, order and every attribute that holds none of those numbers stay as they are, byte for byte. A basic
    shape stays one while its points still form one, moved, turned or slanted as a whole, and becomes a path otherwise;
    a circle that is stretched becomes an ellipse. What several elements have from one
    declaration is written there.

    Args:
        source: The parsed file.
        drawing: What was read from it.
        parameters: The numbers now.
        vanished: Elements that are not to be seen.
        remove: Whether these go; otherwise they are hidden.
    """
    writer = _Writer(source, drawing)
    now = parameters.map(lambda t: t.detach().cpu().to(torch.float32))
    changed: list[Slot] = []
    for slot in drawing.slots:
        value, before = getattr(now, slot.kind)[slot.row], getattr(drawing.parameters, slot.kind)[slot.row]
        if slot.editable and not torch.equal(value, before):
            changed.append(slot)
            if slot.kind == "opacities" and float(value) > slot.scale:
                writer.opaque.add((slot.element, _color_of(slot.name)))
    shared, alone = writer.write_shared(changed, now, vanished), {id(slot) for slot in changed}
    alone -= shared
    for slot in drawing.slots:
        if id(slot) in alone or (slot.kind == "colors" and (slot.element, slot.name) in writer.opaque):
            writer.write_slot(slot, getattr(now, slot.kind)[slot.row])
    for path in drawing.paths:
        rows = slice(path.first, path.first + len(path.source.outline.points))
        points, before = now.points[rows], drawing.parameters.points[rows]
        if path.editable and not torch.equal(points, before):
            # a point that stayed keeps the digits it was read with
            moved = (points != before).any(1).tolist()
            exact = path.source.outline.points
            pairs = zip(points.tolist(), exact, moved, strict=True)
            writer.write_path(path, [(x, y) if has_moved else read for (x, y), read, has_moved in pairs])
    for element in vanished:
        (writer.remove if remove else writer.hide)(element)
    if not (writer.edits or writer.gone or writer.rules):
        return source.encode(source.data)
    writer.keep_styles()
    return source.encode(writer.result())
