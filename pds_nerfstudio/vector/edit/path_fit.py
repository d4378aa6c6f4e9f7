"""A fit of a drawing to a draft that changes few paths, and makes new ones of what those cannot explain.

1. Paths that show something else in the draft take its colour, or move as wholes. The others stay.
2. Their points move, too. What was symmetric stays so, unless it clearly is not in the draft.
3. What of that puts nothing right is taken back. Paths that should not be there are hidden.
4. What is unexplained becomes new paths, each at its place in the stacking order. That is tried with and without what
   came of 2, and the cheaper is taken: a hat is no stretched head.
5. Points of the moved and of the new paths are fit together.
6. What is not worth its nodes goes, and changes that nobody would see are not written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from pds_nerfstudio.editing import Goal, Metrics, StepReport, coarse_to_fine
from pds_nerfstudio.vector.edit.editable import DrawingDescent, FramedDrawing, Framings
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.holding import Held, changed, freedom, pace, paths_to_change
from pds_nerfstudio.vector.edit.leaps import leap
from pds_nerfstudio.vector.edit.likeness import decibels
from pds_nerfstudio.vector.edit.new_paths import add_new_paths, cost_of, prune, redo_paths
from pds_nerfstudio.vector.edit.scene_tree import paint_rows
from pds_nerfstudio.vector.edit.settling import MOST_MOVED, recolor, round_off, settle, settle_paints, unseen
from pds_nerfstudio.vector.edit.sketch import Placed, Sketch
from pds_nerfstudio.vector.edit.symmetries import Symmetric, restore
from pds_nerfstudio.vector.raster.scene import SceneParameters
from pds_nerfstudio.vector.svg.insertion import Inserted

Vanished = Literal["keep", "hide", "remove"]

_REDONE = 0.15
"""Share of what was seen of a path that has to change, for a new path to be tried in its place."""
_TRIED = 3
"""How many such paths are tried."""
_WHOLE, _FREE, _OLD = 1 / 3, 1 / 2, 2 / 3
"""Shares of the steps after which points may move, are held symmetric, and there may be new paths."""
_RESHAPING = 6.0
"""Share of the rate of points while they go to where they should be."""


@dataclass
class Report:
    """What came of a fit."""

    new_paths: int = 0
    """How many there are."""
    new_nodes: int = 0
    """How many nodes they have."""
    gain: float = 0.0
    """How much nearer they bring the drawing to the draft, in dB."""
    changed_paths: int = 0
    """How many of the old paths have changed."""
    vanished_paths: int = 0
    """How many of the old paths are not seen any more."""

    def __str__(self) -> str:
        nodes = f" of {self.new_nodes} nodes: {self.gain:+.1f} dB" if self.new_paths else ""
        return (
            f"{_count(self.new_paths, 'new path')}{nodes}; "
            f"{_count(self.changed_paths, 'path')} changed, {self.vanished_paths} vanished"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class PathFit:
    """Steps of a fit to a draft; a `Stage`.

    Args:
        drawing: What is fit.
        goal: Makes the goal, when the first step is taken.
        descent: Makes a descent of so many steps, at shares of the rates of moves of paths, of points and of paints.
        steps: How many there are.
        most: New paths at most.
        vanished: What becomes of old paths that should not be seen any more.
        held: What must not change.
    """

    def __init__(
        self,
        drawing: FramedDrawing,
        goal: Callable[[], Goal[Framings]],
        descent: Callable[[int, float, float, float], DrawingDescent],
        steps: int,
        most: int,
        vanished: Vanished,
        held: Held,
    ) -> None:
        self._drawing, self._make_goal, self._make_descent = drawing, goal, descent
        self.steps, self.done = steps, 0
        self._most, self._hide, self._remove = most, vanished != "keep", vanished == "remove"
        self._owned, self._inside, self._locked = held.owned(drawing.editor), held.inside, held.locked
        self._first, self._middle, self._second = (round(share * steps) for share in (_WHOLE, _FREE, _OLD))
        self._sketch: Sketch | None = None
        self._inserted: Inserted | None = None
        self.report = Report()
        """What came of it."""

    def step(self) -> StepReport:
        """Take one step towards the goal; some choose what changes from there on."""
        if self._sketch is None:
            self._begin(self._make_goal())
        if self.done == self._first:
            self._moved_whole = self._take().parameters
            self._reshape(_RESHAPING, ())
        if self.done == self._middle:
            self._reshape(_RESHAPING / 2, restore(self._take(), self._paths))
        if self.done == self._second:
            self._extend()
        sketch = self._sketch
        assert sketch is not None
        picture = sketch.editor.render(sketch.paper)[0]
        difference = torch.where(sketch.counts, picture - sketch.draft, 0)[None]
        coarse = max(1 - self.done / max(self._first, 1), (1 - self.done / max(self._second, 1)) / 2, 0.0)
        metrics: Metrics = {"photometric": float(difference.detach().square().mean())}
        if difference.requires_grad:
            metrics |= self._descent.follow(coarse_to_fine(difference, coarse))
        self.done += 1
        return StepReport(self.done, self.steps, metrics)

    def finish(self) -> None:
        """Drop what is not worth its nodes, and what nobody would see."""
        if self._second >= self.steps:
            self._extend()
        sketch = self._take()
        settle_paints(sketch, self._shared)
        for _ in range(2):  # what covered another path may have no more reason to be there
            moved = settle(sketch, self._paths, self._owned, self._hide)
        restore(sketch, moved)
        prune(sketch)
        sketch.parameters = round_off(sketch)
        if self._hide and sketch.new:
            sketch.hidden |= self._unseen(sketch)
        free = {path.path for path in sketch.editor.before.paths} - self._locked
        self._start(sketch, free, free)
        self.report = self._summary(sketch)

    def _begin(self, goal: Goal[Framings]) -> None:
        editor = self._drawing.editor
        paper = self._drawing.whole()[0].background
        source = editor.render(paper, source=True)[0].detach()
        draft = torch.where(self._inside, goal.images[0].to(source), source)
        counts = ~self._owned.mask(self._locked, editor.canvas)
        sketch = self._sketch = Sketch(editor, draft, paper, counts, editor.source)
        self._paths = paths_to_change(self._owned, source, draft, counts) - self._locked
        self._shared = recolor(sketch, self._paths, self._owned)
        leap(sketch, self._paths, self._owned)
        self._start(sketch, self._paths, self._shared)
        self._descent = self._make_descent(max(self._first, 1), 1.0, 0.0, 0.3)

    def _reshape(self, rate: float, symmetric: Sequence[Symmetric]) -> None:
        """Let points of the old paths move, with what is symmetric held so."""
        assert self._sketch is not None
        self._start(self._sketch, self._paths, self._shared, symmetric)
        self._descent = self._make_descent(max(self._second - self.done, 1), 0.3, rate, 0.3)

    def _extend(self) -> None:
        """Decide what has become of old paths, and add new ones."""
        sketch = self._take()
        whole = sketch.with_(parameters=self._moved_whole)
        ways = [self._extended(sketch)]
        if any(price > MOST_MOVED for price in ways[0][2].values()):  # paths are bent: would they better not be?
            ways.append(self._extended(whole))
        _, self._sketch, moved = min(ways, key=lambda way: way[0])
        self._moved = moved.keys() - self._sketch.hidden
        symmetric = restore(self._sketch, self._moved)
        self._start(self._sketch, self._moved, self._shared - self._sketch.hidden, symmetric)
        self._descent = self._make_descent(max(self.steps - self._second, 1), 0.3, 0.6, 0.2)

    def _extended(self, sketch: Sketch) -> tuple[float, Sketch, dict[int, float]]:
        """Return what becomes of a sketch when it is settled and gets new paths: its cost, itself, what has moved."""
        moved = settle(sketch, self._paths, self._owned, self._hide)
        allowed = self._inside & sketch.counts
        add_new_paths(sketch, self._most, allowed)
        if self._hide:
            redo_paths(sketch, self._worst(sketch), self._most, allowed)
        cost = cost_of(sketch) + sum(price for path, price in moved.items() if path not in sketch.hidden)
        return cost, sketch, moved

    def _worst(self, sketch: Sketch) -> list[int]:
        """Return the largest of the paths that show something else over most of what was seen of them."""
        share = self._owned.share(self._differs(sketch))
        paths = [path for path in self._paths - sketch.hidden if share.get(path, 0.0) > _REDONE]
        return sorted(paths, key=lambda path: -self._owned.area[path])[:_TRIED]

    def _start(self, sketch: Sketch, shapes: set[int], paints: set[int], symmetric: Sequence[Symmetric] = ()) -> None:
        """Have the editor go on from a sketch, with some of the old paths and all of the new ones free."""
        editor, document, parameters, hidden = sketch.editor, sketch.editor.before, sketch.parameters, sketch.hidden
        free = {path: pace(self._owned, path) for path in shapes}
        painted = {path: 1.0 for path in paints}
        self._inserted = sketch.insert(sketch.new) if sketch.new else None
        if self._inserted is not None:
            document, parameters, now = self._inserted.document, sketch.merged(self._inserted), self._inserted.paths
            hidden = frozenset(now[path] for path in hidden)
            free = {now[path]: value for path, value in free.items()}
            painted = {now[path]: value for path, value in painted.items()}
            free |= {slot.path: 1.0 for slot in self._inserted.new}
            old, there = self._inserted.rows["points"]
            row_of = torch.empty(len(editor.source.points), dtype=torch.long).index_copy(0, old, there)
            symmetric = [replace(one, rows=row_of.to(one.rows.device)[one.rows]) for one in symmetric]
        held = [one.hold for one in symmetric]
        editor.start(document, parameters, hidden, freedom(document, free, painted), self._remove, held)

    @torch.no_grad()
    def _take(self) -> Sketch:
        """Take the numbers of the editor over into the sketch; return it."""
        sketch = self._sketch
        assert sketch is not None
        now, inserted = sketch.editor.parameters(), self._inserted
        if inserted is None:
            sketch.parameters = now
            return sketch
        old = {}
        for name, values in vars(sketch.parameters).items():
            old[name] = values.clone()
            rows, moved = inserted.rows[name]
            old[name][rows] = getattr(now, name)[moved]
        sketch.parameters = SceneParameters(**old)
        in_order = sorted(range(len(sketch.new)), key=lambda k: _byte(sketch.new[k]))
        for k, slot, transform in zip(in_order, inserted.new, inserted.transforms, strict=True):
            placed = sketch.new[k]
            points = now.points[slot.first : slot.first + len(slot.source.outline.points)].double()
            matrix = points.new_tensor(transform)
            points = (points @ matrix[:4].reshape(2, 2) + matrix[4:]).float().cpu()
            contours = tuple(tuple(segments) for segments, _ in slot.source.outline.contours)
            path = replace(placed.path, points=points, contours=contours)
            sketch.new[k] = replace(placed, path=path)
        return sketch

    def _unseen(self, sketch: Sketch) -> set[int]:
        covered = {path for path in self._paths if self._owned.share(self._differs(sketch)).get(path, 0.0) > 0.9}
        return unseen(sketch, covered)

    def _differs(self, sketch: Sketch) -> Bool[Tensor, "h w"]:
        return changed(sketch.editor.render(sketch.paper, source=True)[0].detach(), sketch.draft)

    def _summary(self, sketch: Sketch) -> Report:
        now, without = sketch.picture(), sketch.picture([])
        assert now is not None and without is not None
        editor = sketch.editor
        return Report(
            new_paths=len(sketch.new),
            new_nodes=sum(placed.path.nodes for placed in sketch.new),
            gain=decibels(now, sketch.draft) - decibels(without, sketch.draft),
            changed_paths=_changed_paths(editor, sketch.parameters, sketch.hidden),
            vanished_paths=len(sketch.hidden),
        )


def _byte(placed: Placed) -> float:
    return float("inf") if placed.below is None else placed.below.start


def _changed_paths(editor: VectorEditor, now: SceneParameters, hidden: frozenset[int]) -> int:
    painted, changed_now = paint_rows(editor.before.scene), 0
    for path in editor.before.paths:
        rows = slice(path.first, path.first + len(path.source.outline.points))
        own = painted.get(path.path)
        pairs = [(now.points[rows], editor.source.points[rows])]
        if own is not None:
            pairs += [(getattr(now, n)[sorted(r)], getattr(editor.source, n)[sorted(r)]) for n, r in vars(own).items()]
        changed_now += path.path not in hidden and any(not torch.equal(a, b) for a, b in pairs)
    return changed_now
