"""The lines that a drawing has around its parts, for new parts to have the same."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.residual import FINER, Mask
from pds_nerfstudio.vector.edit.scene_tree import shapes_of
from pds_nerfstudio.vector.edit.sketch import Placed, Sketch
from pds_nerfstudio.vector.edit.trace import as_path, trace
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.scene import SceneParameters, Shape, Solid
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.insertion import Line
from pds_nerfstudio.vector.svg.xml_source import Element

_MOST = 2
"""How many of them are tried."""
_TRACES = ((0.8, True), (0.8, False))
"""Tolerances in pixels, and whether with corners, of outlines with a line."""
_MORE_NODES = 2
"""How many nodes more than without a line an outline with one may have."""


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


def outlined(sketch: Sketch, placed: Placed, mask: Mask) -> Placed:
    """Return a new path with the drawing's own line around it, if that is nearer to the draft; else as it is.

    A draft is soft, and a line of a pixel is not as dark in it as it should be. So it counts that the path is less
    wrong with the line, and not whether it is right.

    Args:
        sketch: Gets the path.
        placed: The path.
        mask: What it covers, `FINER` times as fine as the picture. The line may lie within, along, or around this.
    """
    if placed.path.line is not None:
        return placed
    best, found = _square_error(sketch, placed), placed
    inside, outside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1], ndimage.distance_transform_edt(~mask)
    for own in lines_of(sketch.editor):
        half = own.line.width / 2 * sketch.editor.view[0] * FINER
        for shape in (mask, inside > half, outside < half / 2, outside < half):
            for tolerance, corners in _TRACES:
                outlines = trace(shape, tolerance, FINER, corners)
                if not outlines.contours or outlines.nodes > placed.path.nodes + _MORE_NODES:
                    continue
                path = as_path(outlines, sketch.editor.view, placed.path.color)
                lined = replace(placed, path=replace(path, line=own.line, line_below=own.below))
                error = _square_error(sketch, lined)
                if error < best:
                    best, found = error, lined
    return found


def _square_error(sketch: Sketch, placed: Placed) -> float:
    picture = sketch.picture([*sketch.new, placed])
    return float("inf") if picture is None else float(((picture - sketch.draft).square() * sketch.counts).mean())
