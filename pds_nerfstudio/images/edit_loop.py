"""The loop that edits pictures by text: ask the guidance, follow its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pds_nerfstudio.checks import at_least, check_parts, finite, share
from pds_nerfstudio.editing import Descent, EditLoop, Guide, Stage, StepReport, check_followed
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.flow_edit import NO_FLOW_EDIT, FlowEditConfig
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.editor import ImageEditor, ParameterName


@dataclass
class ImageEditConfig:
    """How a picture follows the guidance."""

    parameters: ParameterName = "latent"
    """What is optimised. latent: the picture as the model sees it, quick and clean. pixels: the picture itself, at the
    size that the model works at, for changes that a latent does not hold."""
    steps: int = 100
    """Steps of optimisation."""
    latent_lr: float = 0.05
    """How far latents move in a step; typical latents are between -2 and 2."""
    pixels_lr: float = 0.02
    """How far pixels move in a step; they are between 0 and 1."""
    final_rate: float = 0.1
    """Share of the learning rate that is left at the end; it falls evenly on the way, which settles the noise that the
    guidance brings."""

    flow_edit: FlowEditConfig = NO_FLOW_EDIT
    """Edit the latent by FlowEdit or its kind, from noise to none, in place of the steps of optimisation above. The
    objective and its weights then have no say; `localize` of the guidance has."""

    refine: float = 0.35
    """At the end, the diffusion model redraws what the edit has changed, which sharpens it: it adds noise up to this
    share of the noise schedule and removes it again. More redraws more; 0 leaves it out."""
    refine_steps: int = 6
    """Steps of the sampler that takes it off."""
    refine_scale: float = 2.0
    """How strongly the redrawing obeys the target prompt; for Stable Diffusion take 7.5."""
    refine_tries: int = 1
    """How often it is redrawn, each time with other noise. The one is taken that suits the target prompt best, in which
    the model best sees noise that is added, and that is not far from the source."""

    @property
    def learning_rate(self) -> float:
        """Return that of the parameters chosen."""
        return self.latent_lr if self.parameters == "latent" else self.pixels_lr

    @property
    def redrawing(self) -> RedrawConfig:
        """Return how the diffusion model redraws the edit at the end."""
        return RedrawConfig(self.refine, self.refine_steps, self.refine_scale, self.refine_tries)

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 1, "steps", "refine_steps", "refine_tries")
        finite(self, "latent_lr", "pixels_lr", above=True)
        finite(self, "refine_scale")
        share(self, "refine", give="a share of the noise schedule from 0 to 1")
        share(self, "final_rate", above=True)
        check_parts(self, "flow_edit")
        if self.flow_edit.method != "off" and self.parameters != "latent":
            raise UserError("`flow_edit` changes latents: set `parameters` to latent, or `flow_edit.method` to off.")


def picture_guidance() -> GuidanceConfig:
    """Return the guidance that was best for pictures of the embedded world (docs/experiments.md has the figures)."""
    return GuidanceConfig(
        t_schedule="annealed",
        t_max=1.0,
        t_min=0.3,
        t_power=2.0,
        identity_weight=4.0,
        identity_inside=0.3,
        localize=1.0,
    )


class FlowEditing:
    """The steps of a `FlowEdit`, as a stage of an edit.

    Args:
        editor: Has the latents that are edited.
        config: How.
    """

    def __init__(self, editor: ImageEditor, config: FlowEditConfig) -> None:
        self._editor, self._edit = editor, editor.flow_edit(config)
        self.steps, self._followed = config.steps, 0

    def step(self) -> StepReport:
        """Take the next step; one that is not finite is left out."""
        finite = self._edit.step()
        self._followed += finite
        self._editor.parameter = self._edit.latents
        change = (self._edit.latents - self._editor.start).square().mean().sqrt()
        return StepReport(self._edit.done, self.steps, {"latent_change_rms": float(change)}, skipped=not finite)

    def finish(self) -> None:
        """Refuse to call an edit done of which no step was taken (UserError)."""
        check_followed(self._edit.done, self._followed)


class ImageEditLoop(EditLoop):
    """The edit of pictures, at the end of which the diffusion model redraws what has changed.

    Args:
        editor: What is edited, and by what guidance.
        config: How.

    Raises:
        UserError: If the configuration means nothing.
    """

    def __init__(self, editor: ImageEditor, config: ImageEditConfig) -> None:
        config.check()
        self.editor, self.config = editor, config
        super().__init__(
            [self._guided() if config.flow_edit.method == "off" else FlowEditing(editor, config.flow_edit)]
        )

    def _guided(self) -> Stage:
        editor, config = self.editor, self.config
        optimizer = torch.optim.Adam([editor.parameter], lr=config.learning_rate)
        descent = Descent(editor, optimizer, config.steps, config.final_rate)
        return Guide(descent, editor.guidance.latent_loss if editor.latent else editor.guidance)

    def finish(self) -> None:
        """Let the diffusion model redraw what the edit has changed, if the configuration asks for it."""
        if self.config.refine > 0:
            self.editor.redraw(self.config.redrawing)
