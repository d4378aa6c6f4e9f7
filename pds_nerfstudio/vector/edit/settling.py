"""Choices after a fit: what of it is worth keeping, in which form, and what is not to be seen any more."""

from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.holding import Owned
from pds_nerfstudio.vector.edit.likeness import color_distance
from pds_nerfstudio.vector.edit.moves import simple_moves
from pds_nerfstudio.vector.edit.scene_tree import paint_rows, shapes_of
from pds_nerfstudio.vector.edit.sketch import CHANGE, NODE, Sketch
from pds_nerfstudio.vector.raster.scene import SceneParameters, Solid

_MOVES = (1.0, 1.2, 1.2, 1.6)
"""What each of the `simple_moves` costs, in `CHANGE`."""
_MOST = 0.5
"""Share of what is seen of a path that shows one other colour, for the path to have it."""
_ALIKE = 8.0
_VISIBLE_MOVE = 0.1
"""Pixels of the canvas."""
_VISIBLE_COLOR = 1 / 255
_VISIBLE_NUMBER = 2e-3
"""Of opacities and stops, which are in 0..1, and of widths and gradients relative to themselves."""


def rows_of_points(editor: VectorEditor, path: int) -> slice:
    """Return the rows of a path's points."""
    slot = next(slot for slot in editor.before.paths if slot.path == path)
    return slice(slot.first, slot.first + len(slot.source.outline.points))


def with_points(parameters: SceneParameters, rows: slice, points: Tensor) -> SceneParameters:
    """Return numbers with other points in some rows."""
    changed = parameters.points.clone()
    changed[rows] = points
    return replace(parameters, points=changed)


def recolor(sketch: Sketch, paths: Collection[int], owned: Owned) -> set[int]:
    """Give paths that show mostly one other colour in the draft that colour, if it puts more right than hiding them.

    Returns:
        Those that have got one.
    """
    editor, done = sketch.editor, set[int]()
    fills = {s.path: s.fill.paint.color for s in shapes_of(editor.before.scene) if s.fill and _is_solid(s.fill.paint)}
    users = [row for own in paint_rows(editor.before.scene).values() for row in own.colors]
    editable = editor.before.editable["colors"]
    for path in sorted(paths & fills.keys(), key=lambda path: -owned.area[path]):
        row = fills[path]
        if users.count(row) > 1 or not editable[row] or "colors" not in editor.changes:
            continue
        seen = sketch.draft[:, owned.mask({path}, editor.canvas)]
        if not seen.numel():
            continue
        color = seen.median(1).values
        alike = color_distance(seen, color[:, None]) < _ALIKE
        if alike.float().mean() < _MOST or color_distance(color[:, None], sketch.parameters.colors[row, :, None]) < 3:
            continue
        colors = sketch.parameters.colors.clone()
        colors[row] = seen[:, alike].median(1).values
        other = sketch.with_(parameters=replace(sketch.parameters, colors=colors))
        hidden = sketch.with_(hidden=sketch.hidden | {path})
        costs = [_cost(sketch), _cost(hidden) + CHANGE, _cost(other) + CHANGE]
        if costs[2] < min(costs[:2]):
            sketch.parameters = other.parameters
            done.add(path)
    return done


def _is_solid(paint: object) -> bool:
    return isinstance(paint, Solid)


def _cost(sketch: Sketch) -> float:
    picture = sketch.picture()
    assert picture is not None
    return sketch.error(picture)


def settle(sketch: Sketch, paths: Collection[int], owned: Owned, hide: bool) -> set[int]:
    """Take back or simplify what has become of paths, wherever the picture does not suffer.

    Args:
        sketch: Has the paths as a fit has left them.
        paths: Those that the fit could change.
        owned: Where they were seen.
        hide: Whether paths may be hidden.

    Returns:
        Those that are still moved.
    """
    moved = set[int]()
    for path in sorted(paths - sketch.hidden, key=lambda path: -owned.area[path]):
        rows = rows_of_points(sketch.editor, path)
        best, chosen = float("inf"), sketch
        for cost, option in _options(sketch, path, rows, hide):
            cost += _cost(option)
            if cost < best - 1e-9:
                best, chosen = cost, option
        sketch.parameters, sketch.hidden = chosen.parameters, chosen.hidden
        if path not in sketch.hidden and not torch.equal(
            sketch.parameters.points[rows], sketch.editor.source.points[rows]
        ):
            moved.add(path)
    return moved


def _options(sketch: Sketch, path: int, rows: slice, hide: bool) -> Iterator[tuple[float, Sketch]]:
    """Return what may become of a path, and what that costs."""
    before, after = sketch.editor.source.points[rows], sketch.parameters.points[rows]
    yield 0.0, sketch.with_(parameters=with_points(sketch.parameters, rows, before))
    if hide:
        yield CHANGE, sketch.with_(hidden=sketch.hidden | {path})
    if torch.equal(before, after):
        return
    for share, points in zip(_MOVES, simple_moves(before, after), strict=False):
        yield share * CHANGE, sketch.with_(parameters=with_points(sketch.parameters, rows, points))
    yield 2 * CHANGE + NODE * len(before) / 3, sketch


def unseen(sketch: Sketch, paths: Collection[int]) -> set[int]:
    """Return which of some paths could as well not be there: nobody would see it."""
    found = set[int]()
    for path in sorted(paths - sketch.hidden):
        now, other = sketch.picture(), sketch.with_(hidden=sketch.hidden | found | {path}).picture()
        assert now is not None and other is not None
        if float((now - other).abs().max()) < 2 * _VISIBLE_COLOR:
            found.add(path)
    return found


def round_off(sketch: Sketch) -> SceneParameters:
    """Return a sketch's numbers with those as they were that nobody would see differ."""
    editor, now, source = sketch.editor, sketch.parameters, sketch.editor.source
    points = now.points.clone()
    unit = editor.before.units["points"].to(points) / editor.view[0]  # of a pixel of the canvas
    for path in editor.before.paths:
        rows = rows_of_points(editor, path.path)
        way = (points[rows] - source.points[rows]).norm(dim=1) / unit[rows].clamp(min=1e-12)
        if len(way) and float(way.max()) < _VISIBLE_MOVE:
            points[rows] = source.points[rows]

    def kept(name: str, least: Bool[Tensor, "..."]) -> Tensor:
        return torch.where(least, getattr(source, name), getattr(now, name))

    return SceneParameters(
        points=points,
        colors=kept("colors", ((now.colors - source.colors).abs() < _VISIBLE_COLOR).all(1, keepdim=True)),
        opacities=kept("opacities", (now.opacities - source.opacities).abs() < _VISIBLE_NUMBER),
        widths=kept("widths", (now.widths - source.widths).abs() < 10 * _VISIBLE_NUMBER * source.widths.abs()),
        gradients=kept(
            "gradients",
            ((now.gradients - source.gradients).abs() < _VISIBLE_NUMBER * source.gradients.abs().amax(1, keepdim=True))
            .all(1, keepdim=True),
        ),
        offsets=kept("offsets", (now.offsets - source.offsets).abs() < _VISIBLE_NUMBER),
    )
