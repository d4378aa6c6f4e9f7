"""Redrawing by SDEdit (Meng et al. 2022): some noise is added to an edited latent, and the model takes it off again.

Distillation pulls on a blurry compromise of many noisy predictions; the model's own sampler, started close to it, makes
a sharp picture of it. A mask keeps the source wherever nothing was edited.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.checks import at_least, check_parts, finite, share
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.flow_edit import NO_FLOW_EDIT, FlowEdit, FlowEditConfig, Masks
from pds_nerfstudio.guidance.latents import resize
from pds_nerfstudio.guidance.likelihood import likeliest
from pds_nerfstudio.guidance.masks import sharpen
from pds_nerfstudio.guidance.objectives.form import Latents, guided_target
from pds_nerfstudio.guidance.prompted import PromptedDenoiser
from pds_nerfstudio.guidance.schedule import Levels
from pds_nerfstudio.guidance.timesteps import falling_timesteps


@dataclass
class RedrawConfig:
    """How the diffusion model redraws what an edit has made."""

    strength: float = 0.35
    """Noise added before a picture is redrawn, as a share of the noise schedule (0 to 1; see t_min of the guidance).
    Small values mend detail, large ones invent it anew."""
    denoising_steps: int = 5
    """DDIM steps that redraw a picture. More are slower and cleaner."""
    guidance_scale: float = 2.0
    """Classifier-free guidance of the target prompt while redrawing. The edit has said already what to draw, so little
    is enough; Stable Diffusion may want 7.5 and more."""
    tries: int = 1
    """How often to redraw, each time with other noise. The one is taken that suits the target prompt best, in which the
    model best sees noise that is added, and that is not far from the source."""
    flow_edit: FlowEditConfig = NO_FLOW_EDIT
    """Redraw from the source by FlowEdit or its kind instead, whose options then take the place of those above."""

    def check(self) -> None:
        """Refuse values that nothing can be redrawn with.

        Raises:
            UserError: Naming the field.
        """
        share(self, "strength", above=True, of="the noise")
        finite(self, "guidance_scale")
        at_least(self, 1, "denoising_steps", "tries")
        check_parts(self, "flow_edit")

    def with_less(self, left: float) -> "RedrawConfig":
        """Return how to redraw with a share of the noise, in steps of the same length.

        Args:
            left: The share, above 0, up to 1.
        """
        flow_edit = replace(
            self.flow_edit, start=left * self.flow_edit.start, steps=math.ceil(left * self.flow_edit.steps)
        )
        return replace(
            self,
            strength=left * self.strength,
            denoising_steps=math.ceil(left * self.denoising_steps),
            flow_edit=flow_edit,
        )


def sdedit(
    latents: Latents,
    source: Latents,
    mask: Float[Tensor, "batch 1 height width"],
    noise: Latents,
    times: Int[Tensor, " steps"],
    levels: Levels,
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
        levels: Of the model's times.
        predict: The noise that the model sees in noisy latents at a time, guided by the target prompt.
    """
    powers = torch.cat([levels.alphas_cumprod[times], levels.alphas_cumprod.new_ones(1)])
    mixed = torch.lerp(source, latents, mask)
    x = powers[0].sqrt() * mixed + (1 - powers[0]).sqrt() * noise
    for t, now, after in zip(times, powers[:-1], powers[1:], strict=True):
        predicted = predict(x, t.expand(len(x)))
        clean = (x - (1 - now).sqrt() * predicted) / now.sqrt()
        x = after.sqrt() * clean + (1 - after).sqrt() * predicted
        kept = after.sqrt() * source + (1 - after).sqrt() * noise
        x = torch.lerp(kept, x, mask)
    return x


def edited_region(latents: Latents, source: Latents) -> Float[Tensor, "batch 1 height width"]:
    """Return where an edit has changed latents by more than the noise that an edit brings, in 0..1.

    Latents are scaled to a standard deviation of 1; an edit's noise moves them by less than a tenth of that on average
    over channels and 3×3 pixels.
    """
    change = (latents - source).abs().mean(dim=1, keepdim=True)
    blurred = F.avg_pool2d(F.pad(change, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
    return sharpen(blurred, low=0.1, high=0.3)


def redraw_latents(
    prompted: PromptedDenoiser,
    draws: Draws,
    latents: Latents,
    source: Latents,
    mask: Float[Tensor, "batch 1 height width"],
    config: RedrawConfig,
    localizing: GuidanceConfig,
    learn: Callable[[Masks], Masks] | None = None,
) -> Latents:
    """Return latents as the model redraws them for the target prompt.

    Warns where the model's answers are not finite numbers, and keeps those latents as they are.

    Args:
        prompted: The model under its prompts.
        draws: Noise is drawn from.
        latents: What was edited.
        source: The same before the edit.
        mask: How much each place may change, in 0..1.
        config: How to redraw.
        localizing: Says whether a `flow_edit` leaves alone what the prompts agree on.
        learn: Averages the masks of what they disagree on, for a `flow_edit`; see `FlowEdit`.
    """
    if config.tries > 1:
        once = replace(config, tries=1)
        given = prompted, draws, latents, source, mask, once, localizing, learn
        tries = [redraw_latents(*given) for _ in range(config.tries)]
        return likeliest(prompted, draws, tries, source)
    if config.flow_edit.method != "off":
        return FlowEdit(prompted, draws, source, latents, config.flow_edit, localizing, mask, learn).run()
    terms, schedule = guided_target(config.guidance_scale), prompted.denoiser.schedule
    times = falling_timesteps(schedule, config.strength, config.denoising_steps, latents.device)

    def predict(x_t: Latents, t: Int[Tensor, " batch"]) -> Latents:
        return prompted.combined(terms, {"target": x_t}, t, beside=source)

    redrawn = sdedit(latents, source, mask, draws.noise(latents), times, prompted.denoiser.levels, predict)
    return finite_or_before(redrawn, latents)


def finite_or_before(redrawn: Latents, before: Latents) -> Latents:
    """Return what was redrawn, and what was there before for elements that are not finite; warn if there are any."""
    finite = redrawn.isfinite().all(dim=(1, 2, 3), keepdim=True)
    if not bool(finite.all()):
        warnings.warn(
            "The model's redrawing is not made of finite numbers, and the edit stays as it was before: set dtype to "
            "float32, or give another model.",
            stacklevel=3,
        )
    return torch.where(finite, redrawn, before)


def put_back(
    redrawn: Float[Tensor, "batch 3 height width"],
    source: Float[Tensor, "batch 3 height width"],
    mask: Float[Tensor, "batch 1 latent_height latent_width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Return redrawn images with the source's pixels outside a mask of their latents."""
    # What the edit leaves behind, shadows and old outlines, lies just beside what it draws.
    grown = F.max_pool2d(mask, kernel_size=3, stride=1, padding=1)
    share = resize(grown, (redrawn.shape[-2], redrawn.shape[-1])).to(redrawn)
    return share * redrawn + (1 - share) * source
