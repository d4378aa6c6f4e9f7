"""New paths for what old ones cannot explain of a draft: as few, of as few nodes, as it takes."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage
from torch import Tensor

from pds_nerfstudio.vector.edit.residual import FINER, Mask, Region, regions
from pds_nerfstudio.vector.edit.scene_tree import shapes_of
from pds_nerfstudio.vector.edit.sketch import NODE, Placed, Sketch
from pds_nerfstudio.vector.edit.trace import Outlines, trace
from pds_nerfstudio.vector.edit.visibility import owners
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.scene import Solid
from pds_nerfstudio.vector.svg.insertion import Line, NewPath
from pds_nerfstudio.vector.svg.xml_source import Element

_TRACES = ((0.4, True), (0.8, True), (1.6, True), (0.8, False))
"""Tolerances in pixels, and whether with corners, of which the cheapest is taken."""
PATH = 2 * NODE
"""What a path costs apart from its nodes."""
_TOUCHED = 0.08
"""Least share of a region's edge at which another path may be what it is behind."""
_UNDER = 0.03
"""How far a path goes on below what it is behind, as a share of the picture."""
_LINES = 2
"""How many of the lines that the drawing has are tried around a new path."""
_ROUNDS = 3
"""How often what is still unexplained is looked at again."""


def add_new_paths(sketch: Sketch, most: int, allowed: Bool[Tensor, "h w"] | None = None) -> None:
    """Add new paths to a sketch, each of which puts more right than its nodes cost.

    Args:
        sketch: Gets them.
        most: Paths at most.
        allowed: Where they may be; anywhere by default.
    """
    now = sketch.picture()
    assert now is not None
    palette, tried = _palette(sketch), list[Region]()
    for _ in range(_ROUNDS):
        open_regions = regions(sketch.draft, now, sketch.paper, palette, allowed)
        gained = False
        for region in open_regions:
            if len(sketch.new) >= most or any((region.mask ^ other.mask).mean() < NODE for other in tried):
                continue
            tried.append(region)
            best = _best(sketch, region, sketch.error(now))
            if best is not None:
                sketch.new, gained = best, True
                picture = sketch.picture()
                assert picture is not None
                now = picture
        if not gained:
            break


def _palette(sketch: Sketch) -> Tensor:
    rows = {
        part.paint.color
        for shape in shapes_of(sketch.editor.before.scene)
        for part in (shape.fill, shape.stroke)
        if part is not None and isinstance(part.paint, Solid)
    }
    return sketch.parameters.colors[sorted(rows)]


def _best(sketch: Sketch, region: Region, error: float) -> list[Placed] | None:
    """Return the new paths with the best one for a region; None if none is worth its nodes."""
    best, found = error, None
    for place, mask in _places(sketch, region):
        for path in _paths(sketch, region, mask):
            new = [*sketch.new, Placed(path, place)]
            picture = sketch.picture(new)
            if picture is None:
                break
            cost = sketch.error(picture) + NODE * path.nodes + PATH
            if cost < best:
                best, found = cost, new
    return found


def _paths(sketch: Sketch, region: Region, mask: Mask) -> Iterator[NewPath]:
    """Return outlines of a region, from exact to simple, without and with the drawing's own lines."""
    known = set()
    for tolerance, corners in _TRACES:
        outlines = trace(mask, tolerance, FINER, corners)
        if not outlines.contours or (outlines.nodes, corners) in known:
            continue
        known.add((outlines.nodes, corners))
        for line in (None, *_lines(sketch)):
            yield _new_path(sketch, outlines, region, line)


def _lines(sketch: Sketch) -> list[Line]:
    """Return the lines that the drawing has most of."""
    lines: Counter[Line] = Counter()
    numbers = sketch.editor.source
    for shape in shapes_of(sketch.editor.before.scene):
        stroke = shape.stroke
        if stroke is not None and isinstance(stroke.paint, Solid) and not stroke.dashes:
            red, green, blue = numbers.colors[stroke.paint.color].tolist()
            width = round(float(numbers.widths[stroke.width]) * affine.mean_scale(shape.transform), 4)
            lines[Line((red, green, blue), width)] += 1
    return [line for line, _ in lines.most_common(_LINES)]


def _new_path(sketch: Sketch, outlines: Outlines, region: Region, line: Line | None) -> NewPath:
    """Return outlines on the canvas as a path in the drawing's units."""
    rows, points = list[tuple[tuple[int, int, int, int], ...]](), list[np.ndarray]()
    for contour in outlines.contours:
        segments, first = [], len(points)
        for k, cubic in enumerate(contour):
            start = len(points)
            straight = np.array_equal(cubic[0], cubic[1]) and np.array_equal(cubic[2], cubic[3])
            points.extend(cubic[:1] if straight else cubic[:3])
            end = first if k + 1 == len(contour) else len(points)
            segments.append((start, start, end, end) if straight else (start, start + 1, start + 2, end))
        rows.append(tuple(segments))
    inverse = affine.inverse(torch.tensor(sketch.editor.view, dtype=torch.float64))
    placed = torch.from_numpy(np.stack(points)) @ inverse[:4].reshape(2, 2) + inverse[4:]
    return NewPath(placed.float(), tuple(rows), region.color, line)


def _places(sketch: Sketch, region: Region) -> Iterator[tuple[Element | None, Mask]]:
    """Return where a region's path may be, and its shape there: on top, or below what it touches and going on there."""
    yield None, region.mask
    editor = sketch.editor
    side = region.mask.shape[-1]
    scale = affine.scaling(side / editor.canvas, side / editor.canvas)
    scene = editor.before.scene
    owner = owners(scene, sketch.parameters, affine.compose(scale, editor.view), side, editor.backend).cpu().numpy()
    rim = ndimage.binary_dilation(region.mask, iterations=FINER) & ~region.mask
    touched = Counter(owner[rim & (owner >= 0)].tolist())
    element_of = {slot.path: slot.element for slot in editor.before.paths}
    order = [shape.path for shape in shapes_of(scene)]
    last = {path: k for k, path in enumerate(order)}
    reach = max(int(_UNDER * side), 1)
    near = ndimage.distance_transform_edt(~region.mask) <= reach
    for path, count in touched.most_common(3):
        if count < _TOUCHED * rim.sum() or path in sketch.hidden or path not in element_of:
            continue
        above = [p for p, k in last.items() if k >= last[path]]
        yield element_of[path], region.mask | (near & np.isin(owner, above))
