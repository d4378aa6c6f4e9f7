"""New paths in a file: a named group of them at a place in the stacking order."""

import math
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.scene import Group, Node, Shape, Solid
from pds_nerfstudio.vector.svg.color import format_color
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.import_record import PathSlot
from pds_nerfstudio.vector.svg.numbers import format_number
from pds_nerfstudio.vector.svg.path_grammar import format_path
from pds_nerfstudio.vector.svg.xml_source import Element

GROUP = "pds-new-paths"
"""The id of the group, and the beginning of those of further ones."""
_EXACT = 4e-5
"""Points of new paths are written this exactly, relative to the larger side of the drawing."""
_INDENT = re.compile(rb"\n[ \t]*$")
_PREFIX = re.compile(rb"<([\w.-]+:)?")


@dataclass(frozen=True)
class Line:
    """A line around a path."""

    color: tuple[float, float, float]
    """sRGB in 0..1."""
    width: float
    """In the drawing's units (CSS pixels)."""


@dataclass(frozen=True)
class NewPath:
    """A filled path that a file does not have yet."""

    points: Float[Tensor, "n 2"]
    """End and control points, in the drawing's units (CSS pixels)."""
    contours: tuple[tuple[tuple[int, int, int, int], ...], ...]
    """Closed contours of cubics, as rows of the points; a straight line from i to j is (i, i, j, j)."""
    color: tuple[float, float, float]
    """sRGB in 0..1."""
    line: "Line | None" = None
    """The line around it, if it has one. Half of it lies under the fill."""
    line_below: Element | None = None
    """What is drawn next after the line, where lines lie below other things than their own path; else that is the
    path. The line is then a `use` of the path."""

    @property
    def nodes(self) -> int:
        """Return how many points a designer sees: the ends of its cubics."""
        return sum(len(contour) for contour in self.contours)


@dataclass(frozen=True)
class NewGroup:
    """New paths at one place."""

    paths: tuple[NewPath, ...]
    """The paths, lowest first."""
    below: Element | None
    """The element of the file that is drawn next; None on top of all."""


@dataclass(frozen=True)
class Inserted:
    """A file with new paths."""

    document: Document
    """The new file."""
    rows: dict[str, tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]
    """For each tensor of the parameters, rows of the file before and where they are now."""
    paths: dict[int, int]
    """Numbers of the paths before and now."""
    new: tuple[PathSlot, ...]
    """The new paths, in the file's order."""
    transforms: tuple[Affine, ...]
    """From the units of each new path to the drawing's, in the same order."""


Places = dict[tuple[Element | None, bool], tuple[Affine, bool] | None]
"""For each place, and paths there with and without a line: the map from its units to the drawing's, and whether what is
put there looks as its own attributes say. None where nothing can be put."""


def insert_paths(document: Document, groups: Sequence[NewGroup], known: Places | None = None) -> Inserted | None:
    """Return a document with new paths in it, and otherwise unchanged to the byte.

    Args:
        document: The file before.
        groups: What is put where, in the file's order. Elements are the document's own.
        known: What is known of places in this document; it is added to.

    Returns:
        None where paths cannot be shown at one of the places: in what is not drawn, or drawn more than once.
    """
    known, places = {} if known is None else known, []
    for group in groups:
        found = [place for path in group.paths if (place := _known_place(document, path, group.below, known))]
        if len(found) < len(group.paths):
            return None
        places.append((found[0][0], all(plain for _, plain in found)))
    result, positions = _with(document, groups, places)
    transforms = [place[0] for group, place in zip(groups, places, strict=True) for _ in group.paths]
    return _inserted(document, result, positions, transforms)


def _known_place(document: Document, path: NewPath, below: Element | None, known: Places) -> tuple[Affine, bool] | None:
    """Return what is known of a path's place; where its line lies elsewhere, that place must be like it."""
    apart = path.line_below is not None
    keys = [(below, path.line is not None and not apart)]
    if path.line_below is not None:
        keys.append((path.line_below, True))
    for place, lined in keys:
        if (place, lined) not in known:
            probe = replace(path, line=path.line if lined else None, line_below=None)
            known[place, lined] = _place(document, NewGroup((probe,), place))
    first, *others = (known[key] for key in keys)
    alike = first is not None and all(
        other is not None and other[1] and first[1] and np.allclose(other[0], first[0]) for other in others
    )
    return first if alike else None


def _place(document: Document, group: NewGroup) -> tuple[Affine, bool] | None:
    """Try out a place with one path; see `Places`."""
    for plain in (True, False):
        tried, positions = _with(document, [group], [(IDENTITY, plain)])
        shape = _shape(tried, positions)
        if shape is None or affine.determinant(shape.transform) == 0:
            break
        if not plain or _is_plain(tried, shape, group.paths[0].line is not None):
            return shape.transform, plain
    return None


def _with(
    document: Document, groups: Sequence[NewGroup], places: Sequence[tuple[Affine, bool]]
) -> tuple[Document, list[tuple[int, int]]]:
    """Return the document with groups, and where and how long each piece is that was put in, in the file's order."""
    source, exact = document.source, max(document.size) * _EXACT
    decimals = min(max(round(-math.log10(exact)), 0), 6)
    data, taken, last = source.data, _numbers(source.data), 0
    parts, positions, pieces = list[bytes](), list[tuple[int, int]](), list[tuple[int, bytes]]()
    for group, (transform, plain) in zip(groups, places, strict=True):
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        taken.add(number)
        at = _end_of(document) if group.below is None else group.below.start
        pieces.append((at, _markup(document, at, number, group, transform, decimals, plain)))
        pieces += _lines_elsewhere(document, number, group, transform, decimals)
    for at, text in sorted(pieces, key=lambda piece: piece[0]):
        parts += [data[last:at], text]
        positions.append((at, len(text)))
        last = at
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the file has no place for was said when it was read
        return Document(source.encode(b"".join([*parts, data[last:]])), document.name), positions


def _numbers(data: bytes) -> set[int]:
    """Return the numbers of such groups that a file has: of those of an earlier edit."""
    return {int(n or 1) for n in re.findall(rf"[\"']{GROUP}(?:-(\d+))?[\"']".encode(), data)}


def _end_of(document: Document) -> int:
    """Return where the last thing in the root ends: before the white space that leads to the end tag."""
    end = document.source.root.end
    found = _INDENT.search(document.source.data, 0, end)
    return found.start() + 1 if found else end


def _markup(
    document: Document, at: int, number: int, group: NewGroup, transform: Affine, decimals: int, plain: bool
) -> bytes:
    data, on_top = document.source.data, group.below is None
    prefix = _prefix(document, group.below or document.source.root)
    line, step = ("\n", "  ") if b"\n" in data else ("", "")
    indent = step if on_top else _indent(document, at)
    name = GROUP if number == 1 else f"{GROUP}-{number}"
    inverse = affine.inverse(torch.tensor(transform, dtype=torch.float64))
    finer = min(max(decimals + round(math.log10(max(affine.mean_scale(transform), 1e-9))), 0), 9)
    paths = []
    for count, path in enumerate(group.paths, 1):
        own = f'id="{_id(number, count)}" ' if path.line_below is not None else ""
        points = path.points.double().cpu() @ inverse[:4].reshape(2, 2) + inverse[4:]
        outline = [([tuple(segment) for segment in contour], True) for contour in path.contours]
        shape = format_path([(x, y) for x, y in points.tolist()], outline, finer)  # type: ignore[arg-type]
        paths.append(f'{indent}{step}<{prefix}path {own}{_paint(path, transform, finer, plain)} d="{shape}"/>{line}')
    text = f'<{prefix}g id="{name}">{line}{"".join(paths)}{indent}</{prefix}g>'
    if on_top:
        return f"{indent}{text}{line}".encode()
    return f"{text}{line}{indent}".encode()


def _lines_elsewhere(
    document: Document, number: int, group: NewGroup, transform: Affine, decimals: int
) -> Iterator[tuple[int, bytes]]:
    """Return where and how the lines of a group's paths are drawn that do not lie right below these."""
    end = "\n" if b"\n" in document.source.data else ""
    for count, path in enumerate(group.paths, 1):
        if path.line is not None and path.line_below is not None:
            at = path.line_below.start
            painted = _attributes(_line(path.line, transform, decimals))
            use = f'<{_prefix(document, path.line_below)}use href="#{_id(number, count)}" {painted}/>'
            yield at, f"{use}{end}{_indent(document, at)}".encode()


def _id(group: int, path: int) -> str:
    return f"pds-new-{group}-{path}"


def _prefix(document: Document, beside: Element) -> str:
    """Return the name space's prefix of an element, with its colon."""
    found = _PREFIX.match(document.source.data, beside.start)
    return found[1].decode() if found and found[1] else ""


def _indent(document: Document, at: int) -> str:
    before = _INDENT.search(document.source.data, 0, at)
    return "" if before is None else before[0].decode()[1:]


def _line(line: Line, transform: Affine, decimals: int) -> dict[str, str]:
    width = line.width / max(affine.mean_scale(transform), 1e-9)
    return {
        "stroke": format_color(*line.color),
        "stroke-width": format_number(width, decimals),
        "stroke-linejoin": "round",
    }


def _attributes(values: Mapping[str, str]) -> str:
    return " ".join(f'{name}="{value}"' for name, value in values.items())


def _paint(path: NewPath, transform: Affine, decimals: int, plain: bool) -> str:
    """Return the attributes of a path that say how it is painted."""
    values = {"fill": format_color(*path.color)}
    if not plain:  # a style sheet or a group may say something else
        values |= {"fill-opacity": "1", "opacity": "1", "transform": "none", "stroke": "none"}
    if path.line is not None and path.line_below is None:
        values |= {**_line(path.line, transform, decimals), "paint-order": "stroke"}
    if plain:
        return _attributes(values)
    return f'style="{";".join(f"{name}:{value}" for name, value in values.items())}"'


def _shape(document: Document, positions: list[tuple[int, int]]) -> Shape | None:
    """Return the one shape of a new path; None where there is not one."""
    (element,) = _new_elements(document, positions)
    of_element = {slot.element: slot.path for slot in document.paths}
    drawn, stack = list[Shape](), list[Node]([document.scene.root])
    while stack:
        node = stack.pop()
        if isinstance(node, Group):
            stack.extend(node.children)
        elif isinstance(node, Shape) and node.path == of_element.get(element):
            drawn.append(node)
    return drawn[0] if len(drawn) == 1 else None


def _new_elements(document: Document, positions: list[tuple[int, int]]) -> list[Element]:
    spans, shift = [], 0
    for at, length in positions:
        spans.append((at + shift, at + shift + length))
        shift += length
    inside = (e for e in document.source.root.walk() if any(low <= e.start < high for low, high in spans))
    return [e for e in inside if e.tag == "path"]


def _is_plain(document: Document, shape: Shape, line: bool) -> bool:
    """Return whether a shape is filled and outlined as its attributes say, and no more."""
    if (shape.stroke is not None) != line or shape.fill is None or not isinstance(shape.fill.paint, Solid):
        return False
    rows = [*shape.opacities, *shape.fill.opacities]
    return bool((document.parameters.opacities[rows] == 1).all())


def _inserted(
    before: Document, document: Document, positions: list[tuple[int, int]], transforms: Sequence[Affine]
) -> Inserted:
    starts, shifts = [at for at, _ in positions], [0]
    for _, length in positions:
        shifts.append(shifts[-1] + length)
    where = {element: element.start + shifts[bisect_right(starts, element.start)] for element in before.elements}
    by_start = {element.start: element for element in document.elements}
    rows: dict[str, tuple[list[int], list[int]]] = {name: ([], []) for name in vars(before.parameters)}
    slots = {(slot.kind, slot.element, slot.name): slot.row for slot in document.slots}
    for slot in before.slots:
        found = slots.get((slot.kind, by_start[where[slot.element]], slot.name))
        if found is not None:
            rows[slot.kind][0].append(slot.row)
            rows[slot.kind][1].append(found)
    paths = {}
    of_element = {slot.element: slot for slot in document.paths}
    for path in before.paths:
        now = of_element[by_start[where[path.element]]]
        count = len(path.source.outline.points)
        paths[path.path] = now.path
        rows["points"][0].extend(range(path.first, path.first + count))
        rows["points"][1].extend(range(now.first, now.first + count))
    new = tuple(of_element[e] for e in _new_elements(document, positions))
    index = {name: (torch.tensor(old).long(), torch.tensor(now).long()) for name, (old, now) in rows.items()}
    return Inserted(document, index, paths, new, tuple(transforms))
