"""The loop that edits a drawing by text, in up to three stages, of which each can be left out.

1. The guidance edits the picture of the drawing (`images`), and the drawing is fit to that picture. Pictures follow the
   guidance well, and a fit to a picture that stands still is free of noise.
2. The drawing follows the gradient of the guidance directly, through the rasteriser.
3. The diffusion model redraws the picture of the drawing from time to time, and the drawing is fit to that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from pds_nerfstudio.checks import at_least, finite, share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.guidance import Guidance, GuidanceConfig
from pds_nerfstudio.guidance.refinement import RefinementConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.runs import StepReport, take_steps
from pds_nerfstudio.vector.edit.augmentation import Augmentation
from pds_nerfstudio.vector.edit.editor import ParameterGroup, VectorEditor
from pds_nerfstudio.vector.edit.optimizer import BlockAdam
from pds_nerfstudio.vector.edit.stages import Descent, Draft, Fit, Guided, Redrawing, Showing, Stage


@dataclass
class VectorEditConfig:
    """How a drawing follows the guidance."""

    draft: ImageEditConfig = field(
        default_factory=lambda: ImageEditConfig(steps=80, refine=0.5, refine_steps=6, refine_scale=3.0)
    )
    """First the guidance edits the picture of the drawing, as pds-image edits a picture, without asking what paths can
    do. This says how."""
    fit_steps: int = 150
    """Then paths, points and paints are fit to that picture, in so many steps. 0 leaves out both it and the draft."""
    steps: int = 0
    """Steps in which the drawing follows the gradient of the guidance directly, as published. They need no draft, but
    hundreds of steps and more care: each is noisy, and what paths have lost they hardly find again."""
    refine_steps: int = 0
    """Steps that refine the edit at the end: the picture of the drawing is redrawn by the diffusion model, and paths
    and paints are fit to that. 0 leaves them out: with the embedded model they mended subjects and spoilt hats."""
    refine_rounds: int = 2
    """How many times it is redrawn on the way, each time from what the drawing looks like by then."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    """How the diffusion model redraws the picture."""
    fit_rate: float = 1.0
    """Learning rates of fitting, as a share of those below."""
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
    """Share of the learning rates that is left when a draft has been fit, at the end of the steps, and at the end of
    the refinement; they fall evenly on the way, which settles noise."""
    stay_near: float = 0.002
    """Share of its way that everything goes back in each of the `steps`, so that only what the guidance keeps pushing
    ends up far from where it was. It falls with the learning rates."""
    crossing: float = 0.3
    """Resistance against curves that cross themselves, as a multiple of the typical pull on a point."""
    views: int = 1
    """Pictures shown to the guidance at a time. More cost more, and average out noise. Without random crops and
    backgrounds they are equal and only the noise differs."""
    background: str = "white"
    """Colour below the drawing: any CSS colour, or 'random' for another one each time (white below the draft)."""
    crop: float = 1.0
    """Smallest random crop, as a share of the canvas, for edits that should not depend on the framing; 1
    always shows the whole drawing, as to the draft."""
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
        at_least(self, 1, "refine_rounds", "views")
        at_least(self, 0, "fit_steps", "steps", "refine_steps")
        if self.fit_steps == self.steps == self.refine_steps == 0:
            raise UserError("fit_steps, steps and refine_steps are all 0: nothing would be done.")
        finite(self, *(f"{group}_lr" for group in self.rates), "crossing", "fit_rate")
        share(self, "final_rate", above=True)
        share(self, "stay_near", below=True)
        if not self.groups:
            raise UserError("All learning rates are 0: let paths, points, colors, strokes or gradients change.")
        self.draft.check()
        self.refinement.check()
        self.augmentation.check()


def drawing_guidance() -> GuidanceConfig:
    """The guidance with what was best for drawings of the embedded world."""
    return GuidanceConfig(t_schedule="annealed", t_max=0.98, t_min=0.3, identity_weight=1.0, localize=1.0)


class VectorEditLoop:
    """Edits a drawing step by step."""

    def __init__(self, editor: VectorEditor, guidance: Guidance, config: VectorEditConfig) -> None:
        """Prepares the loop.

        Args:
            editor: what is edited.
            guidance: what with; its prompts are set.
            config: how.

        Raises:
            UserError: the configuration means nothing, or the canvas is too small for the model.
        """
        config.check()
        self.editor, self.config = editor, config
        self.done = 0
        """Steps taken so far."""
        self.draft: Draft | None = None
        """Edits the picture that the drawing is fit to, if there is one."""
        self._stages: list[Stage] = []
        showing = Showing(editor, config.augmentation, config.views, config.seed)
        if config.fit_steps > 0:
            self.draft = Draft(showing, guidance, config.draft)
            self._stages += [
                self.draft,
                Fit(showing, self._fit_descent(config.fit_steps), self.draft.goal, config.fit_steps),
            ]
        if config.steps > 0:
            descent = self._descent(BlockAdam(editor.parameter_groups(config.rates)), config.steps)
            self._stages.append(Guided(showing, descent, guidance, config.steps, config.stay_near))
        if config.refine_steps > 0:
            redrawing = Redrawing(showing, guidance, config.refinement)
            descent = self._fit_descent(config.refine_steps)
            self._stages.append(Fit(showing, descent, redrawing.goal, config.refine_steps, config.refine_rounds))
        self.steps = sum(stage.steps for stage in self._stages)
        """Steps of all stages."""

    def _fit_descent(self, steps: int) -> Descent:
        """To a goal that stands still every number may go at its own pace, by Adam (Kingma and Ba 2015)."""
        rates = {group: self.config.fit_rate * rate for group, rate in self.config.rates.items()}
        return self._descent(torch.optim.Adam(self.editor.parameter_groups(rates)), steps)

    def _descent(self, optimizer: torch.optim.Optimizer, steps: int) -> Descent:
        return Descent(self.editor, optimizer, steps, self.config.final_rate, self.config.crossing)

    def step(self) -> StepReport:
        """The next step of the stage that is on."""
        number = self.done
        for stage in self._stages:
            if number < stage.steps:
                break
            number -= stage.steps
        metrics = stage.step(number)
        self.done += 1
        return StepReport(self.done, self.steps, metrics or {}, skipped=metrics is None)

    def run(self, report: Callable[[StepReport], None]) -> bool:
        """Takes the steps that are left.

        Args:
            report: called after each step.

        Returns:
            Whether all were taken; False after Ctrl-C, which leaves the drawing as the last step left it.
        """
        return take_steps(self.step, self.steps - self.done, report)
