"""Refinement by SDEdit (Meng et al. 2022): some noise is added to an edited latent, and the model takes it off again.

Distillation pulls on a blurry compromise of many noisy predictions; the model's own sampler, started close to it, makes
a sharp picture of it. A mask keeps the source wherever nothing was edited.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.localization import sharpen
from pds_nerfstudio.guidance.objectives import Latents


@dataclass
class RefinementConfig:
    """How the diffusion model redraws what an edit has made."""

    strength: float = 0.35
    """Noise added before a picture is redrawn, as a share of the model's noise schedule (0 to 1). Small values mend
    detail, large ones invent it anew."""
    denoising_steps: int = 5
    """DDIM steps that redraw a picture. More are slower and cleaner."""
    guidance_scale: float = 2.0
    """Classifier-free guidance of the target prompt while redrawing. The edit has said already what to draw, so little
    is enough; Stable Diffusion may want 7.5 and more."""

    def check(self) -> None:
        """Refuse values that no refinement can use.

        Raises:
            UserError: naming the field.
        """
        if not 0 < self.strength <= 1:
            raise UserError(f"refinement.strength is {self.strength}: give a share of the noise above 0, up to 1.")
        if not 0 <= self.guidance_scale < float("inf"):
            raise UserError(f"refinement.guidance_scale is {self.guidance_scale}: give a finite number from 0 up.")
        if self.denoising_steps < 1:
            raise UserError(f"refinement.denoising_steps is {self.denoising_steps}: give at least 1.")


def sdedit(
    latents: Latents,
    source: Latents,
    mask: Float[Tensor, "batch 1 height width"],
    noise: Latents,
    times: Int[Tensor, " steps"],
    alphas_cumprod: Float[Tensor, " times"],
    predict: Callable[[Latents, Int[Tensor, " batch"]], Latents],
) -> Latents:
    """Add noise up to the first time, and take it off step by step by DDIM (Song et al. 2021, η = 0).

    Where the mask is 0 each step is replaced by the source with its share of the noise (as in RePaint, Lugmayr et al.
    2022), which the last step leaves as the source itself.

    Args:
        latents: What was edited.
        source: The same before the edit.
        mask: How much each place may change, in 0..1.
        noise: Standard normal.
        times: Falling, from the noise to start with. After the last comes the end, without noise.
        alphas_cumprod: ᾱ at each time of the model.
        predict: The noise that the model sees in noisy latents at a time, guided by the target prompt.
    """
    levels = torch.cat([alphas_cumprod[times], alphas_cumprod.new_ones(1)])
    mixed = torch.lerp(source, latents, mask)
    x = levels[0].sqrt() * mixed + (1 - levels[0]).sqrt() * noise
    for t, now, after in zip(times, levels[:-1], levels[1:], strict=True):
        predicted = predict(x, t.expand(len(x)))
        clean = (x - (1 - now).sqrt() * predicted) / now.sqrt()
        x = after.sqrt() * clean + (1 - after).sqrt() * predicted
        kept = after.sqrt() * source + (1 - after).sqrt() * noise
        x = torch.lerp(kept, x, mask)
    return x


def edited_region(latents: Latents, source: Latents) -> Float[Tensor, "batch 1 height width"]:
    """Where an edit has changed latents by more than the noise that an edit brings, in 0..1.

    Latents are scaled to a standard deviation of 1; an edit's noise moves them by less than a tenth of that on average
    over channels and 3×3 pixels.
    """
    change = (latents - source).abs().mean(dim=1, keepdim=True)
    blurred = F.avg_pool2d(F.pad(change, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
    return sharpen(blurred, low=0.1, high=0.3)
