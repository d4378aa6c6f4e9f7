"""The one idea, by name: an editable thing shows images, the guidance pulls on them, the thing's own numbers follow.

`Editable` is what a thing has to offer. An `EditLoop` edits it, stage by stage:

- `Guide` follows the gradient of the guidance,
- `redraw` has the diffusion model redraw what the thing shows by now, which makes a `Goal`,
- `Fit` moves the thing towards a goal.

Pictures (`images`) and drawings (`vector.edit`) are edited so; docs/extending.md and examples/texture show a thing of
one's own. Scenes have nerfstudio's training loop in place of this one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.gradient import GuidanceOutput
from pds_nerfstudio.guidance.redraw import RedrawConfig

View = TypeVar("View")
Metrics = dict[str, float]
Shown = Float[Tensor, "batch channels height width"]
"""Images in 0..1 with three channels; or latents, of a thing that is one."""
Ask = Callable[[Shown, Shown, float, Sequence[Hashable] | None], GuidanceOutput]
"""What makes a loss of (what is shown, the same before the edit, share of the steps that is done, keys): a `Guidance`;
its `latent_loss`, for a thing that shows latents."""


@runtime_checkable
class Editable(Protocol[View]):
    """A thing that shows images of itself, and has numbers that an optimiser can move.

    A view says from where: cameras, crops, whatever suits the thing. Nothing else looks into it.
    """

    def next_view(self) -> View:
        """Choose what the next step looks at. Where chance has a say, it comes from a seed."""

    def render(self, view: View) -> Shown:
        """Return what is seen there by now, with gradients to the numbers that may change."""

    def source(self, view: View) -> Shown:
        """Return what was seen there before the edit."""

    def keys(self, view: View) -> Sequence[Hashable] | None:
        """Return a name for each image of the view, by which the guidance remembers its source and its mask.

        None if the same image does not come twice.
        """

    def project(self) -> None:
        """Put back what a step has moved out of what is allowed."""


@dataclass
class StepReport:
    """What a step did."""

    step: int
    """1 for the first."""
    steps: int
    """Of the whole edit."""
    metrics: Metrics = field(default_factory=dict)
    """Numbers to log."""
    skipped: bool = False
    """Whether the guidance's gradient was not finite and nothing was changed."""


class Descent(Generic[View]):
    """A way down losses, with learning rates that fall evenly.

    Args:
        editable: What changes.
        optimizer: Of its numbers, with the learning rates to begin with.
        steps: Until the rates are at their last.
        final_rate: Share of the rates that is left then. It settles the noise that the guidance brings.
    """

    def __init__(
        self, editable: Editable[View], optimizer: torch.optim.Optimizer, steps: int, final_rate: float = 0.1
    ) -> None:
        self.editable, self.optimizer, self.steps = editable, optimizer, steps
        self._schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, final_rate, max(steps - 1, 1))

    @property
    def share(self) -> float:
        """Return what is left of the rates to begin with."""
        group = self.optimizer.param_groups[0]
        share: float = group["lr"] / group["initial_lr"]
        return share

    def follow(self, loss: Float[Tensor, ""]) -> Metrics:
        """Take one step down a loss, within what is allowed. Return numbers to log."""
        self.optimizer.zero_grad()
        loss.backward()
        metrics = self.resist()
        self.optimizer.step()
        self._schedule.step()
        self.editable.project()
        return metrics

    def resist(self) -> Metrics:
        """Add to the gradients what the thing itself asks for: nothing, unless a subclass knows better."""
        return {}


@runtime_checkable
class Stage(Protocol):
    """A part of an edit. A whole `EditLoop` can be one, too."""

    @property
    def steps(self) -> int:
        """Return how many steps it has."""

    def step(self) -> StepReport:
        """Take the next of them."""

    def finish(self) -> None:
        """Do what comes after the last step."""


class Guide(Generic[View]):
    """Steps along the gradient of the guidance.

    Args:
        descent: What changes, in how many steps.
        ask: The guidance, whose prompts are set; see `Ask`.
    """

    def __init__(self, descent: Descent[View], ask: Ask) -> None:
        self.descent, self.ask = descent, ask
        self.steps, self.done = descent.steps, 0
        self._followed = 0

    def step(self) -> StepReport:
        """Look, ask the guidance, follow its gradient; a gradient that is not finite is left alone."""
        editable = self.descent.editable
        view = editable.next_view()
        output = self.ask(editable.render(view), editable.source(view), self.done / self.steps, editable.keys(view))
        self.done += 1
        metrics = {name: float(value) for name, value in output.metrics.items()}
        if not bool(output.finite):
            return StepReport(self.done, self.steps, metrics, skipped=True)
        metrics |= self.descent.follow(output.loss)
        self._followed += 1
        return StepReport(self.done, self.steps, metrics)

    def finish(self) -> None:
        """Refuse to call an edit done of which no step was taken (UserError)."""
        check_followed(self.done, self._followed)


def check_followed(asked: int, followed: int) -> None:
    """Refuse an edit of which no step was taken because no gradient was finite.

    Args:
        asked: How often the guidance was asked.
        followed: How often its gradient was finite.

    Raises:
        UserError: With the way out.
    """
    if asked and not followed:
        raise UserError(
            f"Nothing was edited: in none of {asked} steps was the model's answer made of finite numbers. Set "
            "`guidance.dtype` to float32, or give another model."
        )


@dataclass(frozen=True)
class Goal(Generic[View]):
    """What a thing is to look like."""

    view: View
    """Seen from here."""
    images: Shown
    """As `Editable.render` would show it."""


@runtime_checkable
class Redraws(Protocol):
    """What redraws images: a `Guidance`."""

    def redraw(self, image: Shown, source_image: Shown, config: RedrawConfig, keys: Sequence[Hashable] | None) -> Shown:
        """See `Guidance.redraw`."""


@torch.no_grad()
def redraw(editable: Editable[View], guidance: Redraws, config: RedrawConfig) -> Goal[View]:
    """Have the diffusion model redraw what a thing shows by now.

    Args:
        editable: Shows images, not latents.
        guidance: Its prompts are set.
        config: How strongly to redraw.
    """
    view = editable.next_view()
    now, before = editable.render(view), editable.source(view)
    return Goal(view, guidance.redraw(now, before, config, editable.keys(view)))


COARSEST = 32
"""Pixels on a side to which a difference is halved before anything is fit to it."""


def coarse_to_fine(difference: Shown, share: float) -> Float[Tensor, ""]:
    """Return the mean square of a difference, and of what is left when it is halved again and again, to `COARSEST`.

    An edge feels only the pixels that it crosses; in the halved images it crosses more, and is drawn to where it should
    be from farther away. There it knows less well where to stop.

    Args:
        difference: Of two images.
        share: Of the coarse images in the sum. Each counts twice as much as the next finer one.
    """
    total, weight = difference.square().mean(), share
    while weight > 0 and min(difference.shape[-2:]) >= 2 * COARSEST:
        difference = F.avg_pool2d(F.pad(difference, (1, 1, 1, 1), mode="replicate"), kernel_size=4, stride=2)
        weight *= 2
        total = total + weight * difference.square().mean()
    return total


class Fit(Generic[View]):
    """Steps of a fit to a goal, from coarse to fine.

    Args:
        descent: What changes, in how many steps.
        goal: Makes the goal. Called at the beginning of each round.
        rounds: Into how many the steps are divided.
    """

    def __init__(self, descent: Descent[View], goal: Callable[[], Goal[View]], rounds: int = 1) -> None:
        self.descent, self._make_goal = descent, goal
        self.steps, self.done = descent.steps, 0
        self._length = -(-descent.steps // rounds)
        self._goal: Goal[View] | None = None

    def step(self) -> StepReport:
        """Take one step towards the goal."""
        number = self.done % self._length
        if self._goal is None or number == 0:
            self._goal = self._make_goal()
        difference = self.descent.editable.render(self._goal.view) - self._goal.images
        metrics = self.descent.follow(coarse_to_fine(difference, 1 - number / max(1, self._length - 1)))
        self.done += 1
        return StepReport(self.done, self.steps, {"photometric": float(difference.detach().square().mean()), **metrics})

    def finish(self) -> None:
        """Do nothing more."""


class EditLoop:
    """An edit: one stage after another, each finished with its last step."""

    title = "Editing"
    """What the progress bar says that it does."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.steps = sum(stage.steps for stage in stages)
        """Steps of all stages."""
        self.done = 0
        """Steps taken so far."""

    def step(self) -> StepReport:
        """Take the next step of the stage that is on."""
        number = self.done
        for stage in self.stages:
            if number < stage.steps:
                break
            number -= stage.steps
        else:
            raise RuntimeError("All steps are taken.")
        report = stage.step()
        self.done += 1
        if number + 1 == stage.steps:
            stage.finish()
        return replace(report, step=self.done, steps=self.steps)

    def finish(self) -> None:
        """Do what comes after the last step: nothing, unless a subclass has something."""

    def run(self, report: Callable[[StepReport], None] = lambda report: None) -> bool:
        """Take the steps that are left behind a progress bar with the time left, and finish.

        Args:
            report: Called after each step.

        Returns:
            Whether all were taken; False after Ctrl-C, which leaves things as the last step left them. They are
            finished all the same, unless Ctrl-C comes again.
        """
        complete = self._take_steps(report)
        with contextlib.suppress(KeyboardInterrupt):
            self.finish()
        return complete

    def _take_steps(self, report: Callable[[StepReport], None]) -> bool:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            bar = progress.add_task(self.title, total=self.steps, completed=self.done)
            try:
                while self.done < self.steps:
                    done = self.step()
                    report(done)
                    progress.update(bar, completed=done.step)
            except KeyboardInterrupt:
                return False
        return True
