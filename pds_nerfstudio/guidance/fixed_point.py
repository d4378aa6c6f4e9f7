"""Noise that agrees with the source prompt about the source.

A prompt fits countless pictures, so the prediction for a noisy source points to none in particular, and what it misses
by is lost from the edit's identity. Fixed-point regularisation (IDS, Kim et al., CVPR 2025) moves the noisy source
until the clean picture that the model sees in it is the source, and takes the noise that this stands for, for both
branches.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.objectives.form import Latents, guided_source
from pds_nerfstudio.guidance.prompted import PromptedDenoiser
from pds_nerfstudio.guidance.schedule import Levels


def fixed_point_noise(
    source: Latents,
    noise: Latents,
    t: Int[Tensor, " batch"],
    levels: Levels,
    predict: Callable[[Latents], Latents],
    steps: int,
    rate: float,
) -> Latents:
    """Descend by ‖x_src − x̂_0(x_t)‖ in x_t from x_t = √ᾱ·x_src + √(1−ᾱ)·ε, where x̂_0 = (x_t − √(1−ᾱ)·ε̂)/√ᾱ.

    Args:
        source: Clean latents of the source.
        noise: ε to begin with.
        t: Time of each element.
        levels: Of the model's times.
        predict: The guided noise that the model sees in x_t under the source prompt; differentiable.
        steps: Of gradient descent, each a forward and a backward pass of the model.
        rate: Length of a step, since the gradient of a norm comes near to a direction.

    Returns:
        The ε that x_t stands for in the end; no standard normal any more.
    """
    signal, spread = levels.signal(t), levels.noise(t)
    x_t = signal * source + spread * noise
    for _ in range(steps):
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            clean = (x_t - spread * predict(x_t)) / signal
            # The sum keeps the elements apart: each norm depends on its own x_t alone.
            distance = (source - clean).flatten(1).norm(dim=1).sum()
            (gradient,) = torch.autograd.grad(distance, x_t)
        x_t = x_t.detach() - rate * gradient
    return (x_t.detach() - signal * source) / spread


def agreeing_noise(
    prompted: PromptedDenoiser, source: Latents, noise: Latents, t: Int[Tensor, " batch"], config: GuidanceConfig
) -> Latents:
    """Return noise that the guided model agrees with about the source; the same noise where no steps are configured.

    Args:
        prompted: The model under its prompts.
        source: Clean latents of the source.
        noise: ε to begin with.
        t: Time of each element.
        config: With the number of steps, their length, and the guidance scale.
    """
    if config.fixed_point_steps == 0:
        return noise
    terms, levels = guided_source(config.guidance_scale), prompted.denoiser.levels

    def predict(x_t: Latents) -> Latents:
        return prompted.combined(terms, {"source": x_t}, t, beside=source)

    return fixed_point_noise(source, noise, t, levels, predict, config.fixed_point_steps, config.fixed_point_rate)
