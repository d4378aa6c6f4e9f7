"""What networks are shown, and what they answer: noise, a velocity, or the velocity of a flow, all made one.

Networks differ in what they were trained to predict (Karras et al. 2022, table 1, has the common view). These
functions are the only place that knows how.
"""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.guidance.schedule import Levels

Parametrization = Literal["noise", "velocity", "flow"]
"""What a network predicts. noise: ε, of x_t. velocity: √ᾱ_t·ε − √(1−ᾱ_t)·x, of x_t (Salimans and Ho 2022). flow:
ε − x, of z_τ = (1−τ)·x + τ·ε (Liu et al. 2023)."""


def shown(
    kind: Parametrization, x_t: Float[Tensor, "batch channels height width"], t: Int[Tensor, " batch"], levels: Levels
) -> tuple[Float[Tensor, "batch channels height width"], Tensor]:
    """Return the latent and the time that the network is given for x_t and t.

    The time is t itself, an index into the schedule; for a flow it is τ in (0, 1).
    """
    if kind == "flow":
        return x_t / (levels.signal(t) + levels.noise(t)), levels.flow_time(t)
    return x_t, t


def as_noise(
    kind: Parametrization,
    answer: Float[Tensor, "questions channels height width"],
    x_t: Float[Tensor, "batch channels height width"],
    t: Int[Tensor, " batch"],
    levels: Levels,
) -> Float[Tensor, "questions channels height width"]:
    """Return the noise ε̂ that the network's answers mean.

    ε̂ = √ᾱ_t·v + √(1−ᾱ_t)·x_t for a velocity, ε̂ = z_τ + (1−τ)·v for a flow.

    Args:
        kind: What the network predicts.
        answer: Its answers, one or more rounds over the batch, one after the other.
        x_t: The noisy latents.
        t: Their times.
        levels: Of the network's schedule.
    """
    if kind == "noise":
        return answer
    rounds: Tensor = answer.unflatten(0, (-1, len(x_t)))
    if kind == "velocity":
        return (levels.signal(t) * rounds + levels.noise(t) * x_t.to(answer)).flatten(0, 1)
    latent, time = shown(kind, x_t, t, levels)
    return (latent.to(answer) + (1 - time[:, None, None, None]) * rounds).flatten(0, 1)


def right_answer(
    kind: Parametrization,
    x: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    t: Int[Tensor, " batch"],
    levels: Levels,
) -> Float[Tensor, "batch channels height width"]:
    """Return what the network should answer for the latents x under this noise: what it was trained towards.

    Args:
        kind: What the network predicts.
        x: Clean latents.
        noise: Standard normal.
        t: The times at which it is asked.
        levels: Of the network's schedule.
    """
    if kind == "noise":
        return noise
    if kind == "velocity":
        return levels.signal(t) * noise - levels.noise(t) * x
    return noise - x
