"""What is distilled: every objective as a row of one form.

Write x for a clean latent, ᾱ_t for the cumulative signal power of the noise schedule, and ε̂(x, y) for the noise that
the model predicts under the prompt y in x_t = √ᾱ_t·x + √(1−ᾱ_t)·ε, with the same ε for every x. Every objective here
pulls on the target latent with the gradient

    g = χ(t) · M · (Σ_p c_p·ε̂_p + c_ε·ε)  +  ψ(t) · (x_tgt − x_src)
        \\__________ text term __________/     \\__ identity term __/

over predictions p: pairs of a latent (x_tgt or x_src) and a prompt (y_tgt, y_src or none). Classifier-free guidance is
such a sum too. The text term moves the edit towards the target prompt; the identity term ties it to the source. M is a
mask (``localization``), or 1. Only predictions whose coefficient is not 0 are asked for, all in one call of the UNet.

To add an objective: write its coefficients as a function of (guidance scale, parameters) and its two weights as
functions of (schedule, t, parameters), then add one row to ``OBJECTIVES`` and its name to ``ObjectiveName``.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """A discrete noise schedule over T training steps.

    Raises:
        ValueError: if the two tables are not float vectors of one length, if ``alphas_cumprod`` does not fall
            strictly or leaves [0, 1], or if ``betas`` leaves (0, 1].
    """

    alphas_cumprod: Float[Tensor, " steps"]
    """ᾱ_t, the share of signal power left at step t: falls from about 1 to about 0."""
    betas: Float[Tensor, " steps"]
    """β_t, the noise power added from step t−1 to step t, in (0, 1]."""

    def __post_init__(self) -> None:
        alphas_cumprod, betas = self.alphas_cumprod, self.betas
        if alphas_cumprod.ndim != 1 or alphas_cumprod.shape != betas.shape or len(betas) < 2:
            raise ValueError(
                "a schedule needs alphas_cumprod and betas as two vectors of one length, got shapes "
                f"{tuple(alphas_cumprod.shape)} and {tuple(betas.shape)}"
            )
        if not (alphas_cumprod.is_floating_point() and betas.is_floating_point()):
            raise ValueError("a schedule needs floating-point alphas_cumprod and betas")
        if not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError("a schedule's betas must lie in (0, 1]")
        falls = bool((alphas_cumprod.diff() < 0).all())
        if not (falls and bool(((alphas_cumprod >= 0) & (alphas_cumprod <= 1)).all())):
            raise ValueError("a schedule's alphas_cumprod must fall strictly and lie in [0, 1]")

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> "Schedule":
        """The schedule of a diffusers scheduler, in double precision on the CPU.

        ᾱ is recomputed from β in float64: ψ is a difference of nearly equal numbers (0.004 at t = 979), of
        which a product of a thousand float32 factors would leave few digits.

        Raises:
            UserError: if the scheduler has no table of betas, as those of flow-matching models.
        """
        betas = getattr(scheduler, "betas", None)
        if not isinstance(betas, Tensor):
            raise UserError(
                f"The scheduler {type(scheduler).__name__} has no noise schedule (betas): use a model of the "
                "Stable Diffusion 1.x or 2.x type, not a flow-matching one."
            )
        betas = betas.detach().to("cpu", torch.float64)
        return cls(alphas_cumprod=torch.cumprod(1 - betas, dim=0), betas=betas)

    @property
    def num_steps(self) -> int:
        """T, the number of training steps."""
        return len(self.betas)


@dataclass(frozen=True)
class _Posterior:
    """q(x_s | x_t, x_0) = N(c0·x_0 + c1·x_t, σ²), its coefficients for each time asked for."""

    signal_t: Float[Tensor, " times"]  # √ᾱ_t
    signal_s: Float[Tensor, " times"]  # √ᾱ_s
    noise_t: Float[Tensor, " times"]  # √(1−ᾱ_t)
    c0: Float[Tensor, " times"]
    c1: Float[Tensor, " times"]
    sigma: Float[Tensor, " times"]


def _posterior(schedule: Schedule, t: Int[Tensor, " times"], stride: int, consistent_beta: bool) -> _Posterior:
    """Ho et al. 2020, equation 7, with the previous time s = t − stride."""
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    if bool((t < stride).any()) or bool((t >= schedule.num_steps).any()):
        raise ValueError(f"t must lie in [{stride}, {schedule.num_steps - 1}] for s = t - {stride} to exist")
    alpha_bar_t = schedule.alphas_cumprod[t]
    alpha_bar_s = schedule.alphas_cumprod[t - stride]
    beta = 1 - alpha_bar_t / alpha_bar_s if consistent_beta else schedule.betas[t]
    return _Posterior(
        signal_t=alpha_bar_t.sqrt(),
        signal_s=alpha_bar_s.sqrt(),
        noise_t=(1 - alpha_bar_t).sqrt(),
        c0=alpha_bar_s.sqrt() * beta / (1 - alpha_bar_t),
        c1=(1 - beta).sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t),
        sigma=((1 - alpha_bar_s) / (1 - alpha_bar_t) * beta).sqrt(),
    )


def psi(
    schedule: Schedule, t: Int[Tensor, " times"], stride: int, consistent_beta: bool = False
) -> Float[Tensor, " times"]:
    """ψ(t), the weight of PDS's identity term: (√ᾱ_s − c0 − c1·√ᾱ_t) / σ with s = t − stride.

    It comes from matching the stochastic latents z = (x_s − μ(x_t, ε̂)) / σ of source and target (Koo et al.,
    Posterior Distillation Sampling, CVPR 2024), in the form that is left once their noises have cancelled.

    The published code takes the ONE-STEP β_t of the training schedule together with a stride of several
    steps. With the β that belongs to the stride, or with stride 1, ψ is identically zero and PDS turns into
    χ-weighted DDS: the identity term lives on that mismatch, which is therefore kept on purpose.

    Args:
        schedule: the noise schedule.
        t: times in [stride, T−1]. Checked on the host, so pass CPU tensors where speed matters.
        stride: training steps between t and s; T / (number of inference steps).
        consistent_beta: use β = 1 − ᾱ_t/ᾱ_s, which belongs to the stride, instead (gives 0; for comparison).

    Raises:
        ValueError: if ``stride`` < 1 or some t is out of range.
    """
    q = _posterior(schedule, t, stride, consistent_beta)
    return (q.signal_s - q.c0 - q.c1 * q.signal_t) / q.sigma


def chi(
    schedule: Schedule, t: Int[Tensor, " times"], stride: int, consistent_beta: bool = False
) -> Float[Tensor, " times"]:
    """χ(t), the weight of PDS's text term: c0 · √((1−ᾱ_t)/ᾱ_t) / σ. Arguments and errors as in ``psi``."""
    q = _posterior(schedule, t, stride, consistent_beta)
    return q.c0 * q.noise_t / q.signal_t / q.sigma


@dataclass
class DreamCatalystParameters:
    """Weights of the objective 'dreamcatalyst': χ = delta + gamma·τ^(1/e), ψ = psi0·e^τ with τ = t/T."""

    delta: float = 0.2
    """Text weight at t = 0. Its paper uses 0.2 for NeRFs and 0.05 for Gaussian splats."""
    gamma: float = 0.8
    """How much the text weight grows from t = 0 to t = T. Its paper uses 0.8 for NeRFs and 0.2 for splats."""
    psi0: float = 0.075
    """Identity weight at t = 0; it grows to psi0·e at t = T. Larger stays closer to the source."""


@dataclass
class SsdParameters:
    """Weights of the objective 'ssd' beside the guidance scale, which weights the change of prompts."""

    trajectory: float = 2.0
    """How strongly the edit is held to the trajectory of the source."""
    enhancement: float = 5.5
    """How much the target prompt counts by itself: more for changes of style."""
    psi0: float = 0.075
    """Identity weight, which grows with e^τ and falls with the signal at t."""


@dataclass
class LusdParameters:
    """Weights of the objective 'lusd'."""

    identity: float = 0.02
    """Share of the pull back to the source, from 0 to 1; the text has the rest."""
    first_std: float = 0.15
    """Standard deviation that each gradient is given when the edit begins."""
    last_std: float = 0.01
    """The same when the edit ends; it falls evenly on the way."""


@dataclass(frozen=True)
class ObjectiveParameters:
    """What an objective may depend on besides the schedule, t and the guidance scale."""

    stride: int
    """Training steps from t back to s, for the objectives that look at two times."""
    dreamcatalyst: DreamCatalystParameters = field(default_factory=DreamCatalystParameters)
    """Weights of the objective 'dreamcatalyst'."""
    ssd: SsdParameters = field(default_factory=SsdParameters)
    """Weights of the objective 'ssd'."""
    lusd: LusdParameters = field(default_factory=LusdParameters)
    """Weights of the objective 'lusd'."""


class Prediction(NamedTuple):
    """ε̂ of one noisy latent under one prompt: what a UNet is asked for."""

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


def linear(*terms: tuple[float, Operand]) -> Combination:
    """The combination of the terms, those of one operand added up."""
    total: dict[Operand, float] = {}
    for coefficient, operand in terms:
        total[operand] = total.get(operand, 0.0) + coefficient
    return total


def predictions_of(*combinations: Combination) -> list[Prediction]:
    """What the UNet has to be asked for: the predictions that count, each once, the latents in turn."""
    counting = (o for combination in combinations for o, coefficient in combination.items() if coefficient)
    of_latent: dict[str, list[Prediction]] = {}
    for operand in dict.fromkeys(counting):
        if isinstance(operand, Prediction):
            of_latent.setdefault(operand.latent, []).append(operand)
    rounds = itertools.zip_longest(*of_latent.values())
    return [prediction for some in rounds for prediction in some if prediction is not None]


def combine(combination: Combination, predictions: Mapping[Prediction, Latents], noise: Latents) -> Latents:
    """The value of a combination; predictions without a coefficient need not be there."""
    total = torch.zeros_like(noise)
    for operand, coefficient in combination.items():
        if coefficient:
            total = total + coefficient * (predictions[operand] if isinstance(operand, Prediction) else noise)
    return total


Coefficients = Callable[[float, ObjectiveParameters], Combination]
"""A combination as a function of the guidance scale."""
Weight = Callable[[Schedule, Int[Tensor, " times"], ObjectiveParameters], Float[Tensor, " times"]]
"""A weight as a function of time."""


def guided_target(guidance_scale: float) -> Combination:
    """Classifier-free guidance u + w·(c − u) (Ho and Salimans 2022) of the target towards its prompt."""
    return linear((guidance_scale, TARGET), (1 - guidance_scale, TARGET_UNPROMPTED))


def guided_source(guidance_scale: float) -> Combination:
    """The same of the source towards its own prompt."""
    return linear((guidance_scale, SOURCE), (1 - guidance_scale, SOURCE_UNPROMPTED))


def _guided_difference(guidance_scale: float, parameters: ObjectiveParameters) -> Combination:
    """Target and source, each guided towards its own prompt (Hertz et al., Delta Denoising Score, 2023)."""
    target, source = guided_target(guidance_scale), guided_source(guidance_scale)
    return {**target, **{operand: -coefficient for operand, coefficient in source.items()}}


def _guided_residual(guidance_scale: float, parameters: ObjectiveParameters) -> Combination:
    """Poole et al., DreamFusion, 2022: what the guided model sees in place of the noise."""
    return {**guided_target(guidance_scale), NOISE: -1.0}


def _prompt_difference(guidance_scale: float, parameters: ObjectiveParameters) -> Combination:
    """What the two prompts say about one and the same latent; no guidance scale is needed."""
    return linear((1.0, TARGET), (-1.0, TARGET_AS_SOURCE))


def _ssd_text(guidance_scale: float, parameters: ObjectiveParameters) -> Combination:
    """Zhu et al., Stable Score Distillation, 2025: the source's trajectory, the change of prompt, the target prompt."""
    trajectory, prompt = parameters.ssd.trajectory / 2, guidance_scale / 2
    enhancement = parameters.ssd.enhancement
    return linear(
        *((trajectory, TARGET_AS_SOURCE), (-trajectory, SOURCE_UNPROMPTED)),
        *((prompt, TARGET), (-prompt, TARGET_AS_SOURCE)),
        *((enhancement, TARGET), (-enhancement, TARGET_UNPROMPTED)),
    )


def _constant(value: float) -> Weight:
    return lambda schedule, t, parameters: torch.full_like(schedule.alphas_cumprod[t], value)


def _pds_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    return chi(schedule, t, parameters.stride)


def _pds_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    return psi(schedule, t, parameters.stride)


def _sds_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """w(t) = σ_t² of Poole et al., DreamFusion, 2022, as everyone implements it: 1 − ᾱ_t."""
    return 1 - schedule.alphas_cumprod[t]


def _tau(schedule: Schedule, t: Tensor) -> Tensor:
    return t.to(schedule.alphas_cumprod) / schedule.num_steps


def _dreamcatalyst_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Kim et al., DreamCatalyst, 2024: δ + γ·τ^(1/e)."""
    return parameters.dreamcatalyst.delta + parameters.dreamcatalyst.gamma * _tau(schedule, t) ** (1 / math.e)


def _dreamcatalyst_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Kim et al., DreamCatalyst, 2024: ψ0·e^τ."""
    return parameters.dreamcatalyst.psi0 * _tau(schedule, t).exp()


def _ssd_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Zhu et al., Stable Score Distillation, 2025: ψ0·e^τ times the difference of the noisy latents."""
    return parameters.ssd.psi0 * _tau(schedule, t).exp() * schedule.alphas_cumprod[t].sqrt()


def _lusd_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Chinchuthakun et al., LUSD, 2025: 1 − λ."""
    return _constant(1 - parameters.lusd.identity)(schedule, t, parameters)


def _lusd_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Chinchuthakun et al., LUSD, 2025: λ."""
    return _constant(parameters.lusd.identity)(schedule, t, parameters)


def _lusd_std(progress: float, parameters: ObjectiveParameters) -> float:
    """Chinchuthakun et al., LUSD, 2025: the standard deviation that a gradient is given, falling over the edit."""
    first, last = parameters.lusd.first_std, parameters.lusd.last_std
    return first + (last - first) * min(max(progress, 0.0), 1.0)


@dataclass(frozen=True)
class Objective:
    """One row of the form at the top of this module."""

    text: Coefficients
    """c_p, and c_ε."""
    text_weight: Weight
    """χ(t)."""
    identity_weight: Weight
    """ψ(t)."""
    contrast: Coefficients | None
    """What is near 0 where the two prompts agree, and so says where to edit; None if one prompt is never looked at."""
    std: Callable[[float, ObjectiveParameters], float] | None = None
    """Standard deviation that the gradient of each element is scaled to, by the share of the run that is done; None
    leaves it as it is."""


ObjectiveName = Literal["pds", "sds", "dds", "dreamcatalyst", "ssd", "lusd"]

OBJECTIVES: dict[ObjectiveName, Objective] = {
    "pds": Objective(_guided_difference, _pds_text, _pds_identity, _guided_difference),
    "sds": Objective(_guided_residual, _sds_text, _constant(0), None),
    "dds": Objective(_guided_difference, _constant(1), _constant(0), _guided_difference),
    "dreamcatalyst": Objective(_guided_difference, _dreamcatalyst_text, _dreamcatalyst_identity, _guided_difference),
    "ssd": Objective(_ssd_text, _constant(1), _ssd_identity, _prompt_difference),
    "lusd": Objective(_prompt_difference, _lusd_text, _lusd_identity, _prompt_difference, _lusd_std),
}
"""Every objective by the name that the command line knows it by."""


def weight_table(weight: Weight, schedule: Schedule, parameters: ObjectiveParameters) -> Float[Tensor, " steps"]:
    """A weight at every time, to be looked up as ``table[t]``.

    Times without a previous time (t < stride) hold NaN, so that one drawn by mistake cannot pass unnoticed.
    """
    t = torch.arange(parameters.stride, schedule.num_steps)
    missing = torch.full((parameters.stride,), torch.nan, dtype=schedule.betas.dtype)
    return torch.cat([missing, weight(schedule, t, parameters)])
