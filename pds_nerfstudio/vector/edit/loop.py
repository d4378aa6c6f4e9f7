"""The loop that edits a drawing by text, in up to three stages, of which each can be left out.

1. The guidance edits a render of the drawing (`images`), and the drawing is fit to that picture. Pictures follow the
   guidance well, and a fit to a picture that stands still is free of noise.
2. The drawing follows the gradient of the guidance directly, through the rasteriser.
3. The diffusion model redraws a render of the drawing from time to time, and the drawing is fit to that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.checks import at_least, check_parts, finite, seeds, share
from pds_nerfstudio.editing import EditLoop, Fit, Guide, Stage, StepReport, redraw
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.augmentation import Augmentation
from pds_nerfstudio.vector.edit.editable import Draft, DrawingDescent, FramedDrawing
from pds_nerfstudio.vector.edit.editor import ParameterGroup, VectorEditor
from pds_nerfstudio.vector.edit.given_draft import GivenDraft
from pds_nerfstudio.vector.edit.holding import Held, Holding
from pds_nerfstudio.vector.edit.optimizer import BlockAdam
from pds_nerfstudio.vector.edit.path_fit import PathFit, Vanished


@dataclass
class VectorEditConfig:
    """How a drawing follows the guidance."""

    draft: ImageEditConfig = field(
        default_factory=lambda: ImageEditConfig(steps=80, refine=0.6, refine_steps=8, refine_scale=3.0, refine_tries=10)
    )
    """How the guidance first edits a render of the drawing, as pds-image edits a picture, whether or not paths can
    follow. The result is the draft."""
    fit_steps: int = 150
    """Steps in which paths, points and paints are then fit to the draft. 0 leaves out both the fit and the draft."""
    new_paths: int = 8
    """How many new paths, at most, may show what the old ones cannot. Paths that show the same in the draft then stay
    as they are, to the byte. At 0 there are none, and all paths follow the draft."""
    vanished: Vanished = "hide"
    """What becomes of paths that the draft does not show any more, if there may be new ones. keep: they go elsewhere.
    hide: they get display="none". remove: they go from the file, with what only draws them again."""
    steps: int = 0
    """Steps in which the drawing follows the gradient of the guidance directly, as published. This needs no draft, but
    hundreds of steps and more care: each step is noisy, and paths hardly recover a shape that they have lost."""
    refine_steps: int = 0
    """Steps that refine the edit at the end: the diffusion model redraws a render of the drawing, and paths and paints
    are fit to that. 0 leaves them out: with the embedded model they made subjects better and hats worse."""
    refine_rounds: int = 2
    """How many times the drawing is redrawn during these steps, each time from its current render."""
    refinement: RedrawConfig = field(default_factory=RedrawConfig)
    """How the diffusion model redraws it."""
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
    """Share of every change that is taken back in each of the `steps`, so that only what the guidance keeps pushing
    ends up far from where it was. It falls with the learning rates."""
    crossing: float = 0.3
    """Resistance against curves that cross themselves, as a multiple of the typical pull on a point."""
    views: int = 1
    """Renders shown to the guidance in each step. More take longer and average out noise. Without random crops and
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
        """Return the learning rate of each group of parameters."""
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
        """Return the groups that may change."""
        return tuple(name for name, rate in self.rates.items() if rate > 0)

    @property
    def augmentation(self) -> Augmentation:
        """Return how crops and backgrounds are drawn."""
        return Augmentation(self.background, self.crop)

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 1, "refine_rounds", "views")
        at_least(self, 0, "fit_steps", "new_paths", "steps", "refine_steps")
        if self.fit_steps == self.steps == self.refine_steps == 0:
            raise UserError("`fit_steps`, `steps` and `refine_steps` are all 0: nothing would be done.")
        finite(self, *(f"{group}_lr" for group in self.rates), "crossing", "fit_rate")
        share(self, "final_rate", above=True)
        share(self, "stay_near", below=True)
        seeds(self, "seed")
        if not self.groups:
            raise UserError("All learning rates are 0: give `paths_lr`, `points_lr` or `colors_lr` a value above 0.")
        check_parts(self, "draft", "refinement")
        self.augmentation.check()


def drawing_guidance() -> GuidanceConfig:
    """Return the guidance with what was best for drawings of the embedded world."""
    return GuidanceConfig(t_schedule="annealed", t_max=0.98, t_min=0.3, identity_weight=1.0, localize=1.0)


class Later:
    """A stage that is made when its first step is taken.

    Args:
        steps: How many it has.
        make: Makes it.
    """

    def __init__(self, steps: int, make: Callable[[], Stage]) -> None:
        self.steps = steps
        self._make = make
        self._stage: Stage | None = None

    def step(self) -> StepReport:
        """Take the next step."""
        if self._stage is None:
            self._stage = self._make()
        return self._stage.step()

    def finish(self) -> None:
        """Do what comes after the last step."""
        if self._stage is not None:
            self._stage.finish()


def _needed(guidance: Guidance | None) -> Guidance:
    if guidance is None:
        raise UserError("steps and refine_steps need prompts and a model: set them to 0 to fit to a draft alone.")
    return guidance


class VectorEditLoop(EditLoop):
    """The edit of a drawing, in up to three stages.

    Args:
        editor: What is edited.
        guidance: What with; its prompts are set. None is enough where a draft is given and no stage needs guidance.
        config: How.
        holding: What may change; everything by default.
        picture: A draft made elsewhere, of the editor's canvas, in place of one that the guidance makes.

    Raises:
        UserError: If the configuration means nothing, selectors pick nothing, the canvas is too small for the model, or
            a stage needs guidance and there is none.
    """

    def __init__(
        self,
        editor: VectorEditor,
        guidance: Guidance | None,
        config: VectorEditConfig,
        holding: Holding | None = None,
        picture: Float[Tensor, "3 canvas canvas"] | None = None,
    ) -> None:
        config.check()
        if picture is not None and config.fit_steps == 0:
            raise UserError("fit_steps is 0, and so nothing would be fit to the draft: give at least 1.")
        self._config = config
        self._drawing = drawing = FramedDrawing(editor, config.augmentation, config.views, config.seed)
        self.draft: Draft | GivenDraft | None = None
        """The picture that the drawing is fit to, if there is one, or the edit that makes it."""
        self.path_fit: PathFit | None = None
        """The fit to it, if there may be new paths."""
        held = Held.of(editor, holding or Holding())
        stages: list[Stage] = []
        if picture is not None:
            self.draft = GivenDraft(drawing, picture)
        elif config.fit_steps > 0:
            self.draft = Draft(drawing, _needed(guidance), config.draft)
            stages.append(self.draft)
        if self.draft is not None:
            if config.new_paths > 0:
                self.path_fit = PathFit(
                    drawing, self.draft.goal, self._partly, config.fit_steps, config.new_paths, config.vanished, held
                )
            stages.append(self.path_fit or Fit(self._fitting(config.fit_steps), self.draft.goal))
        if config.steps > 0:
            asked = _needed(guidance)
            stages.append(self._later(config.steps, lambda: Guide(self._following(config.steps), asked)))
        if config.refine_steps > 0:
            goal = partial(redraw, drawing, _needed(guidance), config.refinement)
            rounds = config.refine_rounds
            make = lambda: Fit(self._fitting(config.refine_steps), goal, rounds)  # noqa: E731
            stages.append(self._later(config.refine_steps, make))
        super().__init__(stages)

    def _later(self, steps: int, make: Callable[[], Stage]) -> Stage:
        """Return a stage; what has new paths before it is made when they are there."""
        return make() if self.path_fit is None else Later(steps, make)

    def _partly(self, steps: int, paths: float, points: float, paints: float) -> DrawingDescent:
        """Return a descent to a fixed goal at shares of the rates."""
        config = self._config
        shares = {"paths": paths, "points": points, "strokes": min(points, 1.0)}
        rates = {group: config.fit_rate * rate * shares.get(group, paints) for group, rate in config.rates.items()}
        optimizer = torch.optim.Adam(self._drawing.editor.parameter_groups(rates))
        return DrawingDescent(self._drawing, optimizer, steps, config.final_rate, config.crossing)

    def _fitting(self, steps: int) -> DrawingDescent:
        """Return a descent to a fixed goal: each number at its own pace, by Adam (Kingma and Ba 2015)."""
        config = self._config
        rates = {group: config.fit_rate * rate for group, rate in config.rates.items()}
        optimizer = torch.optim.Adam(self._drawing.editor.parameter_groups(rates))
        return DrawingDescent(self._drawing, optimizer, steps, config.final_rate, config.crossing)

    def _following(self, steps: int) -> DrawingDescent:
        """Return a descent along the guidance, which is noisy: all numbers of a tensor at one pace, by `BlockAdam`."""
        config = self._config
        optimizer = BlockAdam(self._drawing.editor.parameter_groups(config.rates))
        return DrawingDescent(self._drawing, optimizer, steps, config.final_rate, config.crossing, config.stay_near)
