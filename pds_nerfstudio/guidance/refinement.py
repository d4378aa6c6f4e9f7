"""Refinement by SDEdit (Meng et al. 2022): some noise is added to an edited latent, and the model takes it off again.

Distillation pulls on a blurry compromise of many noisy predictions; the model's own sampler, started close to it, makes
a sharp picture of it. A mask keeps the source wherever nothing was edited.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.guidance.localization import sharpen

Latents = Float[Tensor, "batch channels height width"]


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
