"""The loop that edits a drawing by text: render, ask the guidance, follow its gradient."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.runs import StepReport, take_steps
from pds_nerfstudio.vector.augmentation import Augmentation
from pds_nerfstudio.vector.editor import ParameterGroup, VectorEditor
from pds_nerfstudio.vector.optimizer import BlockAdam


class GuidanceResult(Protocol):
    """What the loop needs to know of a step of guidance."""

    @property
    def loss(self) -> Float[Tensor, ""]:
        """Its gradient by the image is the edit."""

    @property
    def finite(self) -> Bool[Tensor, ""]:
        """Whether that gradient can be followed."""

    @property
    def metrics(self) -> dict[str, Float[Tensor, ""]]:
        """Numbers to log."""


class ImageGuidance(Protocol):
    """Turns images and their sources into a loss, as `guidance.Guidance` does."""

    def __call__(
        self,
        image: Float[Tensor, "b 3 h w"],
        source_image: Float[Tensor, "b 3 h w"],
        progress: float,
        keys: Sequence[Hashable] | None = None,
    ) -> GuidanceResult:
        """One step."""


@dataclass
class VectorEditConfig:
    """How a drawing follows the guidance."""

    steps: int = 500
    """Steps of optimisation."""
    paths_lr: float = 1.5
    """How far whole paths are shifted, turned, stretched and slanted in a step, in pixels of a 512-pixel canvas
    at their farthest point; 0 leaves all movement to the points."""
    points_lr: float = 0.4
    """How far points move in a step, in pixels of a 512-pixel canvas; 0 holds them."""
    colors_lr: float = 0.015
    """How far colours (0 to 1) change in a step; 0 holds them."""
    opacities_lr: float = 0.0
    """How far opacities (0 to 1) change in a step. At 0 they stay, so that a part which should be elsewhere has
    to go there and cannot fade away."""
    strokes_lr: float = 0.03
    """How far stroke widths change in a step, in pixels of a 512-pixel canvas; 0 holds them."""
    gradients_lr: float = 0.2
    """How far ends and stops of gradients move in a step, in hundredths of their length; 0 holds them."""
    final_rate: float = 0.1
    """Share of the learning rates that is left at the end; they fall evenly on the way, which settles the
    noise that the guidance brings."""
    stay_near: float = 0.002
    """Share of its way that everything goes back in each step, so that only what the guidance keeps pushing
    ends up far from where it was. It falls with the learning rates."""
    crossing: float = 0.3
    """Resistance against curves that cross themselves, as a multiple of the typical pull on a point."""
    views: int = 1
    """Framings shown to the guidance in each step. More cost more, and average out noise. Without random
    crops and backgrounds they are equal and only the noise differs."""
    background: str = "white"
    """Colour below the drawing: any CSS colour, or 'random' for another one each time."""
    crop: float = 1.0
    """Smallest random crop, as a share of the canvas, for edits that should not depend on the framing; 1
    always shows the whole drawing."""
    seed: int = 0
    """Seeds crops and backgrounds."""

    @property
    def rates(self) -> dict[ParameterGroup, float]:
        """Learning rate of each group of parameters."""
        return {
            "paths": self.paths_lr,
            "points": self.points_lr,
            "colors": self.colors_lr,
            "opacities": self.opacities_lr,
            "strokes": self.strokes_lr,
            "gradients": self.gradients_lr,
        }

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """The groups that may change."""
        return tuple(name for name, rate in self.rates.items() if rate > 0)

    @property
    def augmentation(self) -> Augmentation:
        """Crops and backgrounds."""
        return Augmentation(self.background, self.crop)

    def check(self) -> None:
        """Refuses values that mean nothing.

        Raises:
            UserError: naming the option.
        """
        for name in ("steps", "views"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: give at least 1.")
        for name in ("paths_lr", "points_lr", "colors_lr", "opacities_lr", "strokes_lr", "gradients_lr", "crossing"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}: give a finite number from 0 up.")
        if not 0 < self.final_rate <= 1:
            raise UserError(f"final_rate is {self.final_rate}: give a share above 0, up to 1.")
        if not 0 <= self.stay_near < 1:
            raise UserError(f"stay_near is {self.stay_near}: give a share from 0 to below 1.")
        if not self.groups:
            raise UserError("All learning rates are 0: let paths, points, colors, strokes or gradients change.")
        self.augmentation.check()


class VectorEditLoop:
    """Edits a drawing step by step."""

    def __init__(self, editor: VectorEditor, guidance: ImageGuidance, config: VectorEditConfig) -> None:
        """Prepares the loop.

        Args:
            editor: what is edited.
            guidance: what with; its prompts are set.
            config: how.

        Raises:
            UserError: the configuration means nothing.
        """
        config.check()
        self.editor, self.guidance, self.config = editor, guidance, config
        self.done = 0
        """Steps taken so far."""
        self.optimizer = BlockAdam(editor.parameter_groups(config.rates))
        left = config.final_rate
        self._schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, left, max(config.steps - 1, 1))
        self._generator = torch.Generator().manual_seed(config.seed)

    def step(self) -> StepReport:
        """One step: render some framings, ask the guidance, follow it, hold the drawing together."""
        editor, config = self.editor, self.config
        augmentation = config.augmentation
        framings = [
            augmentation.draw(editor.view, editor.canvas, self._generator, editor.source.points)
            for _ in range(config.views)
        ]
        image = torch.cat([editor.render(f.background, f.view) for f in framings])
        with torch.no_grad():
            source = torch.cat([editor.render(f.background, f.view, source=True) for f in framings])
        keys = None if augmentation.varies else range(len(framings))
        output = self.guidance(image, source, self.done / config.steps, keys)
        self.done += 1
        report = StepReport(self.done, config.steps, {k: float(v) for k, v in output.metrics.items()})
        if not bool(output.finite):
            report.skipped = True
            return report
        self.optimizer.zero_grad()
        output.loss.backward()
        report.metrics["crossing"] = self._resist_crossing()
        self.optimizer.step()
        self._schedule.step()
        editor.pull_back(config.stay_near * self._share_of_rates())
        editor.project()
        return report

    def _share_of_rates(self) -> float:
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["initial_lr"]

    def _resist_crossing(self) -> float:
        """Adds the gradient of the crossing loss to that of the points, on the scale of what is there."""
        points = self.editor.changes.get("points")
        if points is None or points.grad is None:
            return 0.0
        loss = self.editor.crossing_loss()
        (resistance,) = torch.autograd.grad(loss, points)
        points.grad += self.config.crossing * points.grad.square().mean().sqrt() * resistance
        return float(loss.detach())

    def run(self, report: Callable[[StepReport], None]) -> bool:
        """Takes the steps that are left.

        Args:
            report: called after each step.

        Returns:
            Whether all were taken; False after Ctrl-C, which leaves the drawing as the last step left it.
        """
        return take_steps(self.step, self.config.steps - self.done, report)
