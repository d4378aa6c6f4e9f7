"""The stages of an edit of a drawing, each a number of steps that change it, or what it is to be fit to."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.refinement import RefinementConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig, ImageEditLoop
from pds_nerfstudio.images.editor import ImageEditor, carry_back
from pds_nerfstudio.vector.edit.augmentation import Augmentation, Framing
from pds_nerfstudio.vector.edit.editor import VectorEditor

Metrics = dict[str, float]
Pictures = Float[Tensor, "views 3 height width"]


class Stage(Protocol):
    """A part of an edit."""

    @property
    def steps(self) -> int:
        """How many steps it has."""

    def step(self, number: int) -> Metrics | None:
        """Take step `number`, the first being 0; None where the guidance's gradient could not be followed."""


class Showing:
    """Shows a drawing: some framings of it at a time."""

    def __init__(self, editor: VectorEditor, augmentation: Augmentation, views: int, seed: int) -> None:
        self.editor, self.augmentation, self.views = editor, augmentation, views
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def keys(self) -> Sequence[Hashable] | None:
        """What the guidance may remember the framings by; None where they differ each time."""
        return None if self.augmentation.varies else range(self.views)

    def draw(self) -> list[Framing]:
        """New framings."""
        editor = self.editor
        like = editor.source.points
        return [self.augmentation.draw(editor.view, editor.canvas, self._generator, like) for _ in range(self.views)]

    def whole(self) -> list[Framing]:
        """As many framings that show all of the drawing."""
        editor = self.editor
        return [Framing(editor.view, self.augmentation.plain(editor.canvas, editor.source.points))] * self.views

    def pictures(self, framings: list[Framing]) -> Pictures:
        """The drawing as it is now."""
        return torch.cat([self.editor.render(f.background, f.view) for f in framings])

    @torch.no_grad()
    def before(self, framings: list[Framing]) -> Pictures:
        """The drawing as it was."""
        return torch.cat([self.editor.render(f.background, f.view, source=True) for f in framings])


@dataclass(frozen=True)
class Goal:
    """What some framings of the drawing are to look like."""

    framings: list[Framing]
    pictures: Pictures


class Descent:
    """Follows the gradients of losses with learning rates that fall evenly.

    Args:
        editor: what changes.
        optimizer: of the editor's changes, at the rates to begin with.
        steps: until the rates are at their last.
        final_rate: share of them that is left then.
        crossing: resistance against curves that cross themselves, as a multiple of the typical pull on a point.
    """

    def __init__(
        self, editor: VectorEditor, optimizer: torch.optim.Optimizer, steps: int, final_rate: float, crossing: float
    ) -> None:
        self.editor, self.optimizer, self.crossing = editor, optimizer, crossing
        self._schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, final_rate, max(steps - 1, 1))

    @property
    def share(self) -> float:
        """Of the rates to begin with, what is left."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["initial_lr"]

    def follow(self, loss: Float[Tensor, ""]) -> float:
        """One step, within what is allowed; returns the crossing loss before it."""
        self.optimizer.zero_grad()
        loss.backward()
        crossing = self._resist_crossing()
        self.optimizer.step()
        self._schedule.step()
        self.editor.project()
        return crossing

    def _resist_crossing(self) -> float:
        """Adds the gradient of the crossing loss to that of the points, on the scale of what is there."""
        points = self.editor.changes.get("points")
        if points is None or points.grad is None:
            return 0.0
        loss = self.editor.crossing_loss()
        (resistance,) = torch.autograd.grad(loss, points)
        points.grad += self.crossing * points.grad.square().mean().sqrt() * resistance
        return float(loss.detach())


class Draft:
    """Edits the picture of the drawing, which changes nothing about the drawing itself.

    Args:
        showing: what shows it.
        guidance: its prompts are set.
        config: how to edit a picture.

    Raises:
        UserError: the canvas is too small for the model.
    """

    def __init__(self, showing: Showing, guidance: Guidance, config: ImageEditConfig) -> None:
        self.framings = showing.whole()
        self._source = showing.before(self.framings)
        self._editor = ImageEditor(self._source, guidance, config.parameters)
        self._loop = ImageEditLoop(self._editor, config)

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return self._loop.config.steps

    def step(self, number: int) -> Metrics | None:
        """One step of guidance."""
        report = self._loop.step()
        if number == self.steps - 1:
            self._loop.refine()
        return None if report.skipped else report.metrics

    def goal(self) -> Goal:
        """The pictures as they are now."""
        return Goal(self.framings, carry_back(self._source, self._editor.before, self._editor.pictures()))


class Redrawing:
    """Has the diffusion model draw the picture of the drawing anew.

    Args:
        showing: what shows it.
        guidance: its prompts are set.
        config: how strongly to redraw.
    """

    def __init__(self, showing: Showing, guidance: Guidance, config: RefinementConfig) -> None:
        self.showing, self.guidance, self.config = showing, guidance, config

    @torch.no_grad()
    def goal(self) -> Goal:
        """What the model makes of the drawing as it is now."""
        framings = self.showing.draw()
        now, before = self.showing.pictures(framings), self.showing.before(framings)
        return Goal(framings, self.guidance.redraw(now, before, self.config, self.showing.keys))


COARSEST = 32
"""Pixels on a side to which a difference is halved before paths are fit to it."""


def coarse_to_fine(difference: Pictures, share: float) -> Float[Tensor, ""]:
    """Mean square of a difference, and of what is left of it when it is halved again and again, down to `COARSEST`.

    An edge feels only the pixels that it crosses; in the halved pictures it crosses more, and is drawn to where it
    should be from farther away. There it knows less well where to stop.

    Args:
        difference: of two pictures.
        share: of the coarse pictures in the sum. Each counts twice as much as the next finer one.
    """
    total, weight = difference.square().mean(), share
    while weight > 0 and min(difference.shape[-2:]) >= 2 * COARSEST:
        difference = F.avg_pool2d(F.pad(difference, (1, 1, 1, 1), mode="replicate"), kernel_size=4, stride=2)
        weight *= 2
        total = total + weight * difference.square().mean()
    return total


class Fit:
    """Fits the drawing to pictures of itself, in each round from coarse to fine.

    Args:
        showing: what shows it.
        descent: what changes it.
        goal: makes the pictures; called at the beginning of each round.
        steps: of all rounds together.
        rounds: in how many rounds.
    """

    def __init__(
        self, showing: Showing, descent: Descent, goal: Callable[[], Goal], steps: int, rounds: int = 1
    ) -> None:
        self.showing, self.descent, self._make_goal = showing, descent, goal
        self.steps = steps
        self._length = -(-steps // rounds)
        self._goal: Goal | None = None

    def step(self, number: int) -> Metrics:
        """One step towards the goal."""
        if self._goal is None or number % self._length == 0:
            self._goal = self._make_goal()
        difference = self.showing.pictures(self._goal.framings) - self._goal.pictures
        coarse = 1 - number % self._length / max(1, self._length - 1)
        crossing = self.descent.follow(coarse_to_fine(difference, coarse))
        return {"photometric": float(difference.detach().square().mean()), "crossing": crossing}


class Guided:
    """Follows the gradient of the guidance through the rasteriser.

    Args:
        showing: what shows the drawing.
        descent: what changes it.
        guidance: its prompts are set.
        steps: how many.
        stay_near: share of its way that every change goes back in a step at full rates.
    """

    def __init__(self, showing: Showing, descent: Descent, guidance: Guidance, steps: int, stay_near: float) -> None:
        self.showing, self.descent, self.guidance = showing, descent, guidance
        self.steps, self.stay_near = steps, stay_near

    def step(self, number: int) -> Metrics | None:
        """Render some framings, ask the guidance, follow it."""
        framings = self.showing.draw()
        image, source = self.showing.pictures(framings), self.showing.before(framings)
        output = self.guidance(image, source, number / self.steps, self.showing.keys)
        if not bool(output.finite):
            return None
        crossing = self.descent.follow(output.loss)
        self.showing.editor.pull_back(self.stay_near * self.descent.share)
        return {name: float(value) for name, value in output.metrics.items()} | {"crossing": crossing}
