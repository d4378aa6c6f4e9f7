"""Write edited numbers into the bytes of the file that they came from, and touch nothing else."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.scene import SceneParameters
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY, fit_shape
from pds_nerfstudio.vector.svg.color import format_color
from pds_nerfstudio.vector.svg.css import parse_declarations
from pds_nerfstudio.vector.svg.import_record import Imported, PathSlot, Slot
from pds_nerfstudio.vector.svg.numbers import format_number
from pds_nerfstudio.vector.svg.path_grammar import Point, format_path
from pds_nerfstudio.vector.svg.properties import INHERITED, is_property
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource, parse_xml

PRECISION = 1e-4
"""Points are written this exactly, relative to the larger side of the drawing."""
STILL_A_SHAPE = 1e-3
"""How far the points of a basic shape may stray from it, relative to the larger side of the drawing."""

ORIGINS = frozenset(
    """type sides cx cy rx ry r1 r2 arg1 arg2 arc-type start end open flatsided rounded randomized expansion revolution
    radius argument t0 original original-d path-effect""".split()
)
"""Attributes of which Inkscape makes the outline of a path anew: of stars, arcs, spirals, offsets, path effects."""

_BLANK_BEFORE = re.compile(rb"\n[ \t]*$")
_TAG_NAME = re.compile(rb"(?:[^\s/>:]+:)?([^\s/>:]+)")
_NAMES = {"linearGradient": ("x1", "y1", "x2", "y2"), "radialGradient": ("cx", "cy", "r", "fx", "fy", "fr")}


@dataclass
class _Edit:
    """What is to change in one start tag."""

    attributes: dict[str, str] = field(default_factory=dict)
    """New values of attributes."""
    properties: dict[str, str] = field(default_factory=dict)
    """New values of properties, for the style attribute."""
    removed: set[str] = field(default_factory=set)
    """Attributes that go, by their names in the file."""
    tag: str | None = None
    """The new tag, if it changes."""


class _Writer:
    """Edits of one file."""

    def __init__(self, source: XmlSource, drawing: Imported) -> None:
        self.source, self.drawing = source, drawing
        self.edits: dict[Element, _Edit] = {}
        self.extent = max(drawing.size)
        self.opaque: set[tuple[Element, str]] = set()
        """Elements and colour properties whose alpha moves into the opacity beside them."""
        self.gone: list[tuple[int, int]] = []
        """Where elements stand that go."""

    def edit(self, element: Element) -> _Edit:
        return self.edits.setdefault(element, _Edit())

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

    def write_slot(self, slot: Slot, value: Tensor) -> None:
        if slot.kind == "colors":
            red, green, blue = value.tolist()
            # alpha that has gone over into the opacity is said there
            alpha = 1.0 if (slot.element, slot.name) in self.opaque else slot.alpha
            self.set_property(slot.element, slot.name, format_color(red, green, blue, alpha))
        elif slot.kind == "gradients":
            names = _NAMES[slot.name]
            for name, number in zip(names, value.tolist(), strict=False):
                self.edit(slot.element).attributes[name] = format_number(number, 5)
        elif slot.kind == "offsets":
            self.edit(slot.element).attributes["offset"] = format_number(min(max(float(value), 0.0), 1.0), 5)
        elif slot.kind == "opacities":
            opaque = (slot.element, _color_of(slot.name)) in self.opaque
            opacity = float(value) / (1.0 if opaque else slot.scale)
            self.set_property(slot.element, slot.name, format_number(min(max(opacity, 0.0), 1.0), 4))
        else:
            self.set_property(slot.element, slot.name, format_number(max(float(value) / slot.scale, 0.0), 4))

    def write_path(self, slot: PathSlot, points: Sequence[Point]) -> None:
        unit = self.extent / slot.scale if slot.scale > 0 else 1.0
        decimals = max(math.ceil(-math.log10(PRECISION * unit)), 0)
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
                before = slot.source.numbers
                for name, value in numbers.items():
                    if abs(value - before[name]) > PRECISION * unit:
                        self.set_geometry(slot.element, name, format_number(value, decimals))
                return
            edit.tag = "path"
            raw = slot.element.raw_attributes
            edit.removed |= {raw[name] for name in GEOMETRY[tag] if name in raw}
        self.set_geometry(slot.element, "d", format_path(points, slot.source.outline.contours, decimals))

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
                if before == now or inline or name in self.edits.get(element, _Edit()).properties:
                    continue
                value = before.value if before else self.attribute(element, name)
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
        changes = [(start, end, b"") for start, end in self.gone]
        for element, edit in self.edits.items():
            if not self.is_gone(element):
                changes += self.changes(element, edit)
        data = self.source.data
        parts, position = [], 0
        for start, end, text in sorted(changes):
            parts += [data[position:start], text]
            position = end
        return b"".join([*parts, data[position:]])

    def changes(self, element: Element, edit: _Edit) -> list[tuple[int, int, bytes]]:
        """Return the replacements in the bytes of one element's tags."""
        data = self.source.data
        start, end = self.source.tag_span(element)
        spans = self.source.attribute_spans(element)
        values = dict(edit.attributes)
        if edit.properties:
            values["style"] = _with_properties(element.attributes.get("style", ""), edit.properties)
        changes, added = [], []
        for name, value in values.items():
            raw = element.raw_attributes.get(name)
            if raw is None:
                added.append(f' {name}="{escape(value, {chr(34): "&quot;"})}"')
                continue
            first, last = spans[raw]
            quote = data[first - 1 : first].decode()
            changes.append((first, last, escape(value, {quote: "&quot;" if quote == '"' else "&apos;"}).encode()))
        for raw in edit.removed:
            first, last = spans[raw]
            before = data.rindex(raw.encode(), start, first)
            while data[before - 1 : before].isspace() and data[before - 2 : before - 1].isspace():
                before -= 1
            changes.append((before - 1, last + 1, b""))
        if added:
            at = end - 2 if data[end - 2 : end] == b"/>" else end - 1
            while data[at - 1 : at].isspace():
                at -= 1
            changes.append((at, at, "".join(added).encode()))
        if edit.tag is not None:
            tags = [start + 1] if data[end - 2 : end] == b"/>" else [start + 1, element.end + 2]
            for position in tags:
                found = _TAG_NAME.search(data, position)
                assert found is not None
                changes.append((*found.span(1), edit.tag.encode()))
        return changes


def _color_of(opacity: str) -> str:
    """Return the colour that an opacity property goes with."""
    return "stop-color" if opacity == "stop-opacity" else opacity.removesuffix("-opacity")


def _with_properties(style: str, properties: dict[str, str]) -> str:
    """Return a style attribute with some properties set, the others as they are."""
    declarations = parse_declarations(style)
    remaining = dict(properties)
    for declaration in reversed(declarations):
        if declaration.name in properties:
            start, end = declaration.span
            value = properties[declaration.name]
            remaining.pop(declaration.name, None)
            if declaration.important:
                value = value.removesuffix(" !important")
            style = style[:start] + value + style[end:]
    if remaining:
        style = style.rstrip()
        joint = "" if not style or style.endswith(";") else ";"
        style += joint + ";".join(f"{name}:{value}" for name, value in remaining.items())
    return style


def write_svg(
    source: XmlSource,
    drawing: Imported,
    parameters: SceneParameters,
    vanished: Collection[Element] = (),
    remove: bool = False,
) -> bytes:
    """Return the file with the numbers that differ from the drawing's own written in place.

    Elements, ids, order and every attribute that holds none of those numbers stay as they are, byte for byte. A basic
    shape stays one while its points still form one, and becomes a path otherwise.

    Args:
        source: The parsed file.
        drawing: What was read from it.
        parameters: The numbers now.
        vanished: Elements that are not to be seen.
        remove: Whether these go; otherwise they are hidden.
    """
    writer = _Writer(source, drawing)
    now = parameters.map(lambda t: t.detach().cpu().to(torch.float32))
    changed = set()
    for slot in drawing.slots:
        value, before = getattr(now, slot.kind)[slot.row], getattr(drawing.parameters, slot.kind)[slot.row]
        if slot.editable and not torch.equal(value, before):
            changed.add(id(slot))
            if slot.kind == "opacities" and float(value) > slot.scale:
                writer.opaque.add((slot.element, _color_of(slot.name)))
    for slot in drawing.slots:
        if id(slot) in changed or (slot.kind == "colors" and (slot.element, slot.name) in writer.opaque):
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
    if not writer.edits and not writer.gone:
        return source.encode(source.data)
    writer.keep_styles()
    return source.encode(writer.result())
