"""The loop that edits pictures by text: ask the guidance, follow its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pds_nerfstudio.editing import Descent, EditLoop, Guide
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.guidance import GuidanceConfig
from pds_nerfstudio.guidance.refinement import RefinementConfig
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

    refine: float = 0.35
    """What the edit has changed is sharpened at the end: so much noise, as a share of the model's noise schedule, is
    added and taken off again. More redraws more; 0 leaves it out."""
    refine_steps: int = 6
    """Steps of the sampler that takes it off."""
    refine_scale: float = 2.0
    """How strongly that sampler obeys the target prompt; models of the real world want 7.5."""

    @property
    def learning_rate(self) -> float:
        """Return that of the parameters chosen."""
        return self.latent_lr if self.parameters == "latent" else self.pixels_lr

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        if self.steps < 1:
            raise UserError(f"steps is {self.steps}: give at least 1.")
        for name in ("latent_lr", "pixels_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}: give a finite number above 0.")
        if not 0 <= self.refine <= 1:
            raise UserError(f"refine is {self.refine}: give a share of the noise schedule from 0 to 1.")
        if self.refine_steps < 1:
            raise UserError(f"refine_steps is {self.refine_steps}: give at least 1.")
        if not 0 <= self.refine_scale < float("inf"):
            raise UserError(f"refine_scale is {self.refine_scale}: give a finite number from 0 up.")
        if not 0 < self.final_rate <= 1:
            raise UserError(f"final_rate is {self.final_rate}: give a share above 0, up to 1.")


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
        optimizer = torch.optim.Adam([editor.parameter], lr=config.learning_rate)
        descent = Descent(editor, optimizer, config.steps, config.final_rate)
        super().__init__([Guide(descent, editor.guidance.latent_loss if editor.latent else editor.guidance)])

    def finish(self) -> None:
        """Have the diffusion model redraw what the edit has changed, as far as the configuration wants it."""
        if self.config.refine > 0:
            config = self.config
            self.editor.redraw(RefinementConfig(config.refine, config.refine_steps, config.refine_scale))
