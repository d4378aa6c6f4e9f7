"""Choices after a fit: what of it is worth keeping, in which form, and what is not to be seen any more."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.holding import Owned
from pds_nerfstudio.vector.edit.likeness import color_distance
from pds_nerfstudio.vector.edit.moves import simple_moves
from pds_nerfstudio.vector.edit.palette import nearest_color, palette_of
from pds_nerfstudio.vector.edit.scene_tree import paint_rows, shapes_of
from pds_nerfstudio.vector.edit.sketch import CHANGE, NODE, Sketch
from pds_nerfstudio.vector.raster.scene import SceneParameters, Solid

_MOVES = (1.0, 1.2, 1.2, 1.6)
"""What each of the `simple_moves` costs, in `CHANGE`."""
MOST_MOVED = max(_MOVES) * CHANGE
"""The most that a path costs which has moved as a whole."""
_MOST = 0.5
"""Share of what is seen of a path that shows one other colour, for the path to have it."""
_ALIKE = 8.0
"""Colour difference up to which pixels are of one colour."""
_OTHER = 3.0
"""Colour difference from which a path has another colour than before."""
_AROUND = 4
"""Pixels around a part that tell whether it is there."""
_TIED = 14.0
"""Colour difference up to which paths of one colour get one colour again."""
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

    A colour that the drawing has already, or that another path has got before, is taken where it is near; and that of
    another path that had the same before, even where it is not so near.

    Returns:
        Those that have no colour of their own to give: gradients, and what is painted together with others.
    """
    editor, shared, given = sketch.editor, set[int](), list[tuple[Tensor, Tensor]]()
    main = {s.path: (s.fill or s.stroke).paint for s in shapes_of(editor.before.scene) if s.fill or s.stroke}  # type: ignore[union-attr]
    users = Counter(row for own in paint_rows(editor.before.scene).values() for row in own.colors)
    editable, known = editor.before.editable["colors"], palette_of(editor, sketch.parameters)
    for path in sorted(main.keys() & set(paths), key=lambda path: -owned.area[path]):
        paint = main[path]
        if not isinstance(paint, Solid) or users[paint.color] > 1:
            shared.add(path)
            continue
        color = _other_color(sketch, owned.mask({path}, editor.canvas), sketch.parameters.colors[paint.color])
        if color is None or not editable[paint.color] or "colors" not in editor.changes:
            continue
        if _is_gone(sketch, owned.mask({path}, editor.canvas)):
            continue
        same = [new for old, new in given if torch.equal(old, sketch.parameters.colors[paint.color])]
        tied = [new for new in same if float(color_distance(new[:, None], color[:, None])) < _TIED]
        color = tied[0] if tied else nearest_color(color, known)
        colors = sketch.parameters.colors.clone()
        colors[paint.color] = color
        other = sketch.with_(parameters=replace(sketch.parameters, colors=colors))
        hidden = sketch.with_(hidden=sketch.hidden | {path})
        if _cost(other) + CHANGE < min(_cost(sketch), _cost(hidden) + CHANGE):
            given.append((sketch.parameters.colors[paint.color], color))
            sketch.parameters, known = other.parameters, torch.cat([known, color[None]])
    return shared


def _other_color(sketch: Sketch, where: Bool[Tensor, "h w"], before: Float[Tensor, "3"]) -> Float[Tensor, "3"] | None:
    """Return the colour that most of a part of the draft has, if it is another one than before."""
    seen = sketch.draft[:, where]
    if not seen.numel():
        return None
    color = seen.median(1).values
    alike = color_distance(seen, color[:, None]) < _ALIKE
    if alike.float().mean() < _MOST or color_distance(color[:, None], before[:, None]) < _OTHER:
        return None
    return (seen[:, alike].median(1).values * 255).round() / 255


def _is_gone(sketch: Sketch, where: Bool[Tensor, "h w"]) -> bool:
    """Return whether the draft shows the paper in most of a part and around it: then nothing is there any more."""
    around = torch.nn.functional.max_pool2d(where[None].float(), 2 * _AROUND + 1, stride=1, padding=_AROUND)[0] > 0
    is_paper = color_distance(sketch.draft, sketch.paper) < _OTHER
    return all(float(is_paper[part].float().mean()) > _MOST for part in (where, around & ~where) if part.any())


def _cost(sketch: Sketch) -> float:
    picture = sketch.picture()
    assert picture is not None
    return sketch.error(picture)


def settle_paints(sketch: Sketch, paths: Collection[int]) -> None:
    """Take back what has become of the paints of paths, wherever the picture does not suffer."""
    painted = paint_rows(sketch.editor.before.scene)
    for path in sorted(set(paths) - sketch.hidden):
        before = {}
        for name in ("colors", "opacities", "gradients", "offsets"):
            rows = sorted(getattr(painted[path], name))
            before[name] = getattr(sketch.parameters, name).clone()
            before[name][rows] = getattr(sketch.editor.source, name)[rows]
        other = sketch.with_(parameters=replace(sketch.parameters, **before))
        if _cost(other) <= _cost(sketch) + CHANGE:
            sketch.parameters = other.parameters


def settle(sketch: Sketch, paths: Collection[int], owned: Owned, hide: bool) -> dict[int, float]:
    """Take back or simplify what has become of paths, wherever the picture does not suffer.

    Args:
        sketch: Has the paths as a fit has left them.
        paths: Those that the fit could change.
        owned: Where they were seen.
        hide: Whether paths may be hidden.

    Returns:
        Those that are still moved, and what that costs.
    """
    moved = dict[int, float]()
    for path in sorted(set(paths) - sketch.hidden, key=lambda path: -owned.area[path]):
        rows = rows_of_points(sketch.editor, path)
        best, price, chosen = float("inf"), 0.0, sketch
        for cost, option in _options(sketch, path, rows, hide):
            total = cost + _cost(option)
            if total < best - 1e-9:
                best, price, chosen = total, cost, option
        sketch.parameters, sketch.hidden = chosen.parameters, chosen.hidden
        if path not in sketch.hidden and not torch.equal(
            sketch.parameters.points[rows], sketch.editor.source.points[rows]
        ):
            moved[path] = price
    return moved


def pixels(sketch: Sketch, way: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """Return how many pixels of the canvas the points go."""
    unit = sketch.editor.before.units["points"].to(way) / sketch.editor.view[0]
    return way.norm(dim=1) / unit.clamp(min=1e-12)


def _as_it_was(sketch: Sketch, path: int, rows: slice) -> SceneParameters:
    """Return a sketch's numbers with the outline and the line width of a path as they were."""
    source, widths = sketch.editor.source, sketch.parameters.widths.clone()
    own = paint_rows(sketch.editor.before.scene).get(path)
    if own is not None:
        widths[sorted(own.widths)] = source.widths[sorted(own.widths)]
    return replace(with_points(sketch.parameters, rows, source.points[rows]), widths=widths)


def _options(sketch: Sketch, path: int, rows: slice, hide: bool) -> Iterator[tuple[float, Sketch]]:
    """Return what may become of a path, and what that costs."""
    before, after = sketch.editor.source.points[rows], sketch.parameters.points[rows]
    as_it_was = _as_it_was(sketch, path, rows)
    yield 0.0, sketch.with_(parameters=as_it_was)
    if hide:
        yield CHANGE, sketch.with_(parameters=as_it_was, hidden=sketch.hidden | {path})
    if torch.equal(before, after):
        return
    for share, points in zip(_MOVES, simple_moves(before, after), strict=False):
        yield share * CHANGE, sketch.with_(parameters=with_points(sketch.parameters, rows, points))
    yield 2 * CHANGE + NODE * len(before) / 3, sketch


def unseen(sketch: Sketch, paths: Collection[int]) -> set[int]:
    """Return which of some paths could as well not be there: nobody would see it."""
    found = set[int]()
    for path in sorted(set(paths) - sketch.hidden):
        now, other = sketch.picture(), sketch.with_(hidden=sketch.hidden | found | {path}).picture()
        assert now is not None and other is not None
        if float((now - other).abs().max()) < 2 * _VISIBLE_COLOR:
            found.add(path)
    return found


def round_off(sketch: Sketch) -> SceneParameters:
    """Return a sketch's numbers with those as they were that nobody would see differ."""
    editor, now, source = sketch.editor, sketch.parameters, sketch.editor.source
    points = now.points.clone()
    ways = pixels(sketch, points - source.points)
    for path in editor.before.paths:
        rows = rows_of_points(editor, path.path)
        if len(ways[rows]) and float(ways[rows].max()) < _VISIBLE_MOVE:
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
            (
                (now.gradients - source.gradients).abs()
                < _VISIBLE_NUMBER * source.gradients.abs().amax(1, keepdim=True)
            ).all(1, keepdim=True),
        ),
        offsets=kept("offsets", (now.offsets - source.offsets).abs() < _VISIBLE_NUMBER),
    )
