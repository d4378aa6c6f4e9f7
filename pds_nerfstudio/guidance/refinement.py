"""SDEdit: a picture is made noisy and denoised again under a prompt, which mends what a distilled edit left unclear."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser


@dataclass
class RefinementConfig:
    """How renders of a finished edit are redrawn by the diffusion model, to be fitted again."""

    strength: float = 0.35
    """Noise added before a render is redrawn, as a share of the model's noise schedule (0 to 1). Small values mend
    detail, large ones invent it anew in each view."""
    denoising_steps: int = 5
    """DDIM steps that redraw a render. More are slower and cleaner."""
    guidance_scale: float = 2.0
    """Classifier-free guidance of the target prompt while redrawing. The edit has said already what to draw, so little
    is enough; Stable Diffusion may want 7.5 and more."""
    rounds: int = 2
    """Each view is redrawn from its current render every so many times that it comes up."""

    def check(self) -> None:
        """Refuse values that no refinement can use.

        Raises:
            UserError: naming the field.
        """
        if not 0 < self.strength <= 1:
            raise UserError(f"refinement.strength is {self.strength}: give a share of the noise above 0, up to 1.")
        if not 0 <= self.guidance_scale < float("inf"):
            raise UserError(f"refinement.guidance_scale is {self.guidance_scale}: give a finite number from 0 up.")
        for name in ("denoising_steps", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"refinement.{name} is {getattr(self, name)}: give at least 1.")


@torch.no_grad()
def sdedit(
    denoiser: Denoiser,
    latents: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    embeddings: Float[Tensor, "2 tokens width"],
    config: RefinementConfig,
) -> Float[Tensor, "batch channels height width"]:
    """Add noise up to ``strength`` and take it off again by DDIM.

    Meng et al., SDEdit, 2022; the deterministic sampler is equation 12 of Song et al., DDIM, 2021, with σ = 0.

    Args:
        denoiser: the diffusion model.
        latents: of the pictures to redraw, on the denoiser's device.
        noise: standard normal.
        embeddings: of the prompt, and of the empty prompt.
        config: how strongly, in how many steps.
    """
    batch, last = len(latents), denoiser.schedule.num_steps - 1
    first = max(1, round(config.strength * last))
    # Ends at the schedule's first time, whose prediction of the clean latent is the result.
    times = torch.linspace(first, 0, config.denoising_steps + 1).round().long().unique().flip(0).tolist()
    both = embeddings.repeat_interleave(batch, dim=0)
    x = denoiser.add_noise(latents, noise, torch.full((batch,), times[0], device=latents.device))
    for t, next_t in zip(times[:-1], times[1:], strict=True):
        at = torch.full((2 * batch,), t, device=latents.device)
        conditional, unconditional = denoiser.predict_noise(x.repeat(2, 1, 1, 1), at, both).chunk(2)
        predicted = unconditional + config.guidance_scale * (conditional - unconditional)
        signal = denoiser.alphas_cumprod[t]
        clean = (x - (1 - signal).sqrt() * predicted) / signal.sqrt()
        x = clean if next_t == 0 else denoiser.add_noise(clean, predicted, at[:batch] * 0 + next_t)
    return x
