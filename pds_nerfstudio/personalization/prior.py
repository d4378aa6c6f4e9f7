"""What a model thinks of a subject's kind: latents that it draws itself, which keep that alive in training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.redraw import sdedit
from pds_nerfstudio.guidance.timesteps import falling_timesteps

Latent = Float[Tensor, "1 channels height width"]


def draw_prior(
    denoiser: Denoiser, prompt: str, count: int, side: int, steps: int, draws: Draws
) -> Iterator[Float[Tensor, "1 channels height width"]]:
    """Yield latents that the model draws from nothing but noise, with the guidance that suits it.

    Args:
        denoiser: The model, not trained yet.
        prompt: What they show.
        count: How many.
        side: Of their pictures, in pixels; rounded down to what the model takes.
        steps: DDIM steps of each (Song et al. 2021); Euler steps, of a flow.
        draws: Noise is drawn from.
    """
    network = denoiser.network
    places = max(side // denoiser.size_multiple, 1) * denoiser.size_multiple // network.vae_scale_factor
    shape = (1, network.latent_channels, places, places)
    empty = torch.zeros(shape, device=denoiser.device, dtype=denoiser.result_dtype)
    everywhere = torch.ones_like(empty[:, :1])
    guided = network.guidance_scale != 1
    condition = denoiser.encode_prompts([prompt, None] if guided else [prompt])
    times = falling_timesteps(denoiser.schedule, 1.0, steps, denoiser.device)

    def predict(x_t: Latent, t: Int[Tensor, " batch"]) -> Latent:
        seen = denoiser.predict_noise(x_t, t, condition)
        if not guided:
            return seen
        prompted, unprompted = seen.chunk(2)
        return unprompted + network.guidance_scale * (prompted - unprompted)

    for _ in range(count):
        yield sdedit(empty, empty, everywhere, draws.noise(empty), times, denoiser.levels, predict)
