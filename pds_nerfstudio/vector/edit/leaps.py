"""Paths that go far as wholes: a limb that swings to the other side, a thing that is somewhere else.

A descent moves a path by what it touches, so it does not get across where it would be wrong on the way. A few turns
about a path's ends, and shifts to where the draft shows something new in its colour, are tried before, and the best is
where the descent begins.
"""

import math
from collections.abc import Collection, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.edit.holding import Owned, changed
from pds_nerfstudio.vector.edit.likeness import color_distance
from pds_nerfstudio.vector.edit.palette import main_colors
from pds_nerfstudio.vector.edit.residual import Region, regions
from pds_nerfstudio.vector.edit.settling import rows_of_points, with_points
from pds_nerfstudio.vector.edit.sketch import CHANGE, Sketch
from pds_nerfstudio.vector.raster import affine

_GONE = 0.3
"""Share of what was seen of a path that has to show something else, for it to be somewhere else."""
_WORTH = 0.25
"""What a leap has to put right, as a share of what is seen of the path."""
_MOST = 8
"""How many paths are tried, the largest first."""
_TURNS = 12
"""How many directions a turn may lead to."""
_ALIKE = 8.0
"""Colour difference up to which a region has a path's colour."""
_PLACES = 3
"""How many regions a path is tried at."""
_FINER = 4
"""How often a place that was found is looked around at, each time at half the distance."""

Points = Float[Tensor, "points 2"]


def leap(sketch: Sketch, paths: Collection[int], owned: Owned) -> None:
    """Put paths where they are seen in the draft, if that is far from where they are and puts much right.

    Args:
        sketch: Has the paths where they were, in their new colours.
        paths: Those that may change.
        owned: Where they are seen.
    """
    now = sketch.picture()
    assert now is not None
    gone = owned.share(changed(now, sketch.draft))
    tried = sorted((p for p in paths if gone.get(p, 0.0) > _GONE), key=lambda p: -owned.area[p])[:_MOST]
    if not tried:
        return
    colors = main_colors(sketch.editor, sketch.parameters)
    found = regions(sketch.draft, now, sketch.paper, sketch.parameters.colors[:0])
    for path in tried:
        rows = rows_of_points(sketch.editor, path)
        before, error = sketch.parameters.points[rows], _error(sketch)
        alike = [r for r in found if path in colors and _is_near(r, colors[path])][:_PLACES]
        least = error - max(2 * CHANGE, _WORTH * owned.area[path])
        best, there = _best(sketch, rows, _elsewhere(sketch, before, alike), error, before)
        if best < error:
            for k in range(_FINER):
                best, there = _best(sketch, rows, _nearby(there, 0.5**k), best, there)
        if best < least:
            sketch.parameters = with_points(sketch.parameters, rows, there)


def _best(sketch: Sketch, rows: slice, choices: Iterable[Points], error: float, points: Points) -> tuple[float, Points]:
    """Return the least error of a sketch with a path's points elsewhere, or as they are, and those points."""
    for other in choices:
        cost = _error(sketch.with_(parameters=with_points(sketch.parameters, rows, other)))
        if cost < error:
            error, points = cost, other
    return error, points


def _error(sketch: Sketch) -> float:
    picture = sketch.picture()
    assert picture is not None
    return sketch.error(picture)


def _is_near(region: Region, color: Float[Tensor, "3"]) -> bool:
    return float(color_distance(color.new_tensor(region.color)[:, None], color[:, None])) < _ALIKE


def _elsewhere(sketch: Sketch, points: Points, alike: Collection[Region]) -> Iterator[Points]:
    """Return where a path's points may be: turned about its middle and its ends, and the same at other places."""
    middle = points.mean(0)
    spread = points - middle
    along = torch.linalg.svd(spread.double().cpu(), full_matrices=False).Vh[0].to(spread)
    reach = spread @ along
    angles = [2 * math.pi * k / _TURNS for k in range(_TURNS)]
    for pivot in (middle, middle + reach.min() * along, middle + reach.max() * along):
        for angle in angles[1:]:
            yield _turned(points, pivot, angle)
    inverse = affine.inverse(torch.tensor(sketch.editor.view, dtype=torch.float64))
    for region in alike:
        center = torch.from_numpy(region.center) @ inverse[:4].reshape(2, 2) + inverse[4:]
        for angle in angles:
            yield _turned(points, middle, angle) + center.to(points) - middle


def _nearby(points: Points, share: float) -> Iterator[Points]:
    """Return points turned by a share of half of a `_TURNS`th, and shifted by a share of a tenth of their size."""
    middle, step = points.mean(0), 0.1 * share * float((points.amax(0) - points.amin(0)).norm())
    for angle in (share * math.pi / _TURNS, -share * math.pi / _TURNS):
        yield _turned(points, middle, angle)
    for x, y in ((step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step)):
        yield points + points.new_tensor([x, y])


def _turned(points: Points, pivot: Float[Tensor, "2"], angle: float) -> Points:
    cosine, sine = math.cos(angle), math.sin(angle)
    return (points - pivot) @ points.new_tensor([[cosine, sine], [-sine, cosine]]) + pivot
