r"""The one form that every objective has.

Write x for a clean latent, ᾱ_t for the cumulative signal power of the noise schedule, and ε̂(x, y) for the noise that
the model predicts under the prompt y in x_t = √ᾱ_t·x + √(1−ᾱ_t)·ε, with the same ε for every x. Every objective pulls
on the target latent with the gradient

    g = χ(t) · M · (Σ_p c_p·ε̂_p + c_ε·ε)  +  ψ(t) · (x_tgt − x_src)
        \\__________ text term __________/     \\__ identity term __/

over predictions p: pairs of a latent (x_tgt or x_src) and a prompt (y_tgt, y_src or none). Classifier-free guidance is
such a sum too. The text term moves the edit towards the target prompt; the identity term ties it to the source. M is a
mask (`masks`), or 1. Only predictions whose coefficient is not 0 are asked for, all in one call of the network.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.guidance.schedule import Schedule


class Prediction(NamedTuple):
    """ε̂ of one noisy latent under one prompt: what a network is asked for."""

    latent: Literal["target", "source"]
    prompt: Literal["target", "source", "none"]


TARGET = Prediction("target", "target")
"""ε̂(x_tgt, y_tgt)."""
TARGET_AS_SOURCE = Prediction("target", "source")
"""ε̂(x_tgt, y_src): what the source prompt says about the edit."""
TARGET_UNPROMPTED = Prediction("target", "none")
"""ε̂(x_tgt, ∅)."""
SOURCE = Prediction("source", "source")
"""ε̂(x_src, y_src)."""
SOURCE_UNPROMPTED = Prediction("source", "none")
"""ε̂(x_src, ∅)."""
NOISE: Literal["noise"] = "noise"
"""ε, the noise that was added."""

Operand = Prediction | Literal["noise"]
Combination = Mapping[Operand, float]
"""A linear combination: the coefficient of each prediction, and of the noise."""
Latents = Float[Tensor, "batch channels height width"]
Times = Int[Tensor, " times"]
Weights = Float[Tensor, " times"]


class Objective(ABC):
    """One objective: its coefficients, its weights over time, and, as the fields of a dataclass, its parameters."""

    @abstractmethod
    def text(self, guidance_scale: float) -> Combination:
        """Return c_p and c_ε, the coefficients of the text term."""

    @abstractmethod
    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return χ(t).

        Args:
            schedule: The noise levels.
            t: Times from `stride` to T−1, on the CPU.
            stride: Training steps from t back to s, for the objectives that look at two times.
        """

    def identity_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return ψ(t), with arguments as in `text_weight`; without an identity term, 0."""
        return constant(0, schedule, t)

    def check(self) -> None:  # noqa: B027, most have nothing to refuse
        """Refuse parameters that mean nothing.

        Raises:
            UserError: Naming the parameter.
        """

    def contrast(self, guidance_scale: float) -> Combination | None:
        """Return what is near 0 where the two prompts agree, and so says where to edit.

        None if one of the prompts is never looked at.
        """
        return None

    def std(self, progress: float) -> float | None:
        """Return the standard deviation that the gradient of each element is scaled to, or None to leave it as it is.

        Args:
            progress: The share of the run that is done.
        """
        return None


def linear(*terms: tuple[float, Operand]) -> Combination:
    """Return the combination of the terms, those of one operand added up."""
    total: dict[Operand, float] = {}
    for coefficient, operand in terms:
        total[operand] = total.get(operand, 0.0) + coefficient
    return total


def predictions_of(*combinations: Combination) -> list[Prediction]:
    """Return what a network has to be asked for: the predictions that count, each once, the latents in turn."""
    counting = (o for combination in combinations for o, coefficient in combination.items() if coefficient)
    of_latent: dict[str, list[Prediction]] = {}
    for operand in dict.fromkeys(counting):
        if isinstance(operand, Prediction):
            of_latent.setdefault(operand.latent, []).append(operand)
    rounds = itertools.zip_longest(*of_latent.values())
    return [prediction for some in rounds for prediction in some if prediction is not None]


def combine(combination: Combination, predictions: Mapping[Prediction, Latents], noise: Latents) -> Latents:
    """Return the value of a combination; predictions without a coefficient need not be there."""
    total = torch.zeros_like(noise)
    for operand, coefficient in combination.items():
        if coefficient:
            total = total + coefficient * (predictions[operand] if isinstance(operand, Prediction) else noise)
    return total


def guided_target(guidance_scale: float) -> Combination:
    """Return classifier-free guidance u + w·(c − u) (Ho and Salimans 2022) of the target towards its prompt."""
    return linear((guidance_scale, TARGET), (1 - guidance_scale, TARGET_UNPROMPTED))


def guided_source(guidance_scale: float) -> Combination:
    """Return the same of the source towards its own prompt."""
    return linear((guidance_scale, SOURCE), (1 - guidance_scale, SOURCE_UNPROMPTED))


def guided_difference(guidance_scale: float) -> Combination:
    """Return target minus source, each guided towards its own prompt (Hertz et al., Delta Denoising Score, 2023)."""
    target, source = guided_target(guidance_scale), guided_source(guidance_scale)
    return {**target, **{operand: -coefficient for operand, coefficient in source.items()}}


def prompt_difference() -> Combination:
    """Return what the two prompts say about one and the same latent; no guidance scale is needed."""
    return linear((1.0, TARGET), (-1.0, TARGET_AS_SOURCE))


def constant(value: float, schedule: Schedule, t: Times) -> Weights:
    """Return the same weight at all times."""
    return torch.full_like(schedule.alphas_cumprod[t], value)


def tau(schedule: Schedule, t: Times) -> Weights:
    """Return t/T of Stable Diffusion, which such weights were made for, at the signal-to-noise ratio of t."""
    return schedule.shares[t]


def weight_table(
    weight: Callable[[Schedule, Times, int], Weights], schedule: Schedule, stride: int
) -> Float[Tensor, " steps"]:
    """Return a weight at every time, to be looked up as `table[t]`.

    Times without a previous time (t < stride) hold NaN, so that one drawn by mistake cannot pass unnoticed.
    """
    t = torch.arange(stride, schedule.num_steps)
    missing = torch.full((stride,), torch.nan, dtype=schedule.betas.dtype)
    return torch.cat([missing, weight(schedule, t, stride)])
