"""The lines that a drawing has around its parts, for new parts to have the same."""

from collections import Counter
from dataclasses import dataclass

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.scene_tree import shapes_of
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.scene import SceneParameters, Shape, Solid
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.insertion import Line
from pds_nerfstudio.vector.svg.xml_source import Element

_MOST = 2
"""How many of them are tried."""


@dataclass(frozen=True)
class PlacedLine:
    """A line and where it is drawn."""

    line: Line
    """The line."""
    below: Element | None
    """What is drawn next after it; None where it lies right below its own path."""


def lines_of(editor: VectorEditor) -> list[PlacedLine]:
    """Return the lines that a drawing has most of.

    Where a drawing has a line around all its parts as a whole, each part is drawn twice: below all, by a `use` with a
    line, and again without. There new parts get theirs in the same place.
    """
    document, numbers = editor.before, editor.source
    lines: Counter[PlacedLine] = Counter()
    painted = list(shapes_of(document.scene))
    drawn = Counter(shape.path for shape in painted)
    below = _first_use(document)
    for shape in painted:
        line = _line(shape, numbers)
        if line is not None:
            lines[PlacedLine(line, below if drawn[shape.path] > 1 else None)] += 1
    return [line for line, _ in lines.most_common(_MOST)]


def _line(shape: Shape, numbers: SceneParameters) -> Line | None:
    stroke = shape.stroke
    if stroke is None or not isinstance(stroke.paint, Solid) or stroke.dashes:
        return None
    red, green, blue = numbers.colors[stroke.paint.color].tolist()
    return Line((red, green, blue), round(float(numbers.widths[stroke.width]) * affine.mean_scale(shape.transform), 4))


def _first_use(document: Document) -> Element | None:
    """Return the first `use` that draws a path which the file has further down."""
    start = {
        slot.element.attributes["id"]: slot.element.start for slot in document.paths if "id" in slot.element.attributes
    }
    for element in document.elements:
        if element.tag == "use" and element.start < start.get(element.attributes.get("href", "")[1:], -1):
            return element
    return None
