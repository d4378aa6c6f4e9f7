"""What is distilled: every objective as a row of one form.

Write x for a clean latent, ᾱ_t for the cumulative signal power of the noise schedule, and ε̂ for the noise
that the model predicts (with classifier-free guidance) in x_t = √ᾱ_t·x + √(1−ᾱ_t)·ε. Every objective here
pulls on the target latent with the gradient

    g = χ(t) · (ε̂_tgt − reference)  +  ψ(t) · (x_tgt − x_src)
        \\______ text term ______/       \\__ identity term __/

where the reference is the prediction for the source under the source prompt, or the noise ε itself. The text
term moves the edit towards the target prompt; the identity term ties it to the source.

To add an objective: write its two weights as functions of (schedule, t, parameters), add one row to
``OBJECTIVES`` and its name to ``ObjectiveName``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True)
class ObjectiveParameters:
    """What the weights of an objective may depend on besides the schedule and t."""

    stride: int
    """Training steps from t back to s, for the objectives that look at two times."""
    dreamcatalyst: DreamCatalystParameters = field(default_factory=DreamCatalystParameters)
    """Weights of the objective 'dreamcatalyst'."""


Weight = Callable[[Schedule, Int[Tensor, " times"], ObjectiveParameters], Float[Tensor, " times"]]
"""A weight as a function of time."""


def _pds_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    return chi(schedule, t, parameters.stride)


def _pds_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    return psi(schedule, t, parameters.stride)


def _sds_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """w(t) = σ_t² of Poole et al., DreamFusion, 2022, as everyone implements it: 1 − ᾱ_t."""
    return 1 - schedule.alphas_cumprod[t]


def _dds_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Hertz et al., Delta Denoising Score, 2023: the bare difference of predictions."""
    return torch.ones_like(schedule.alphas_cumprod[t])


def _no_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    return torch.zeros_like(schedule.alphas_cumprod[t])


def _dreamcatalyst_text(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Kim et al., DreamCatalyst, 2024: δ + γ·τ^(1/e)."""
    tau = t.to(schedule.alphas_cumprod) / schedule.num_steps
    return parameters.dreamcatalyst.delta + parameters.dreamcatalyst.gamma * tau ** (1 / math.e)


def _dreamcatalyst_identity(schedule: Schedule, t: Tensor, parameters: ObjectiveParameters) -> Tensor:
    """Kim et al., DreamCatalyst, 2024: ψ0·e^τ."""
    tau = t.to(schedule.alphas_cumprod) / schedule.num_steps
    return parameters.dreamcatalyst.psi0 * tau.exp()


@dataclass(frozen=True)
class Objective:
    """One row of the form at the top of this module."""

    text_weight: Weight
    """χ(t)."""
    identity_weight: Weight
    """ψ(t)."""
    reference: Literal["source", "noise"]
    """What the target's prediction is compared with: the source's prediction, or the noise that was added."""


ObjectiveName = Literal["pds", "sds", "dds", "dreamcatalyst"]

OBJECTIVES: dict[ObjectiveName, Objective] = {
    "pds": Objective(_pds_text, _pds_identity, "source"),
    "sds": Objective(_sds_text, _no_identity, "noise"),
    "dds": Objective(_dds_text, _no_identity, "source"),
    "dreamcatalyst": Objective(_dreamcatalyst_text, _dreamcatalyst_identity, "source"),
}
"""Every objective by the name that the command line knows it by."""


def weight_table(weight: Weight, schedule: Schedule, parameters: ObjectiveParameters) -> Float[Tensor, " steps"]:
    """A weight at every time, to be looked up as ``table[t]``.

    Times without a previous time (t < stride) hold NaN, so that one drawn by mistake cannot pass unnoticed.
    """
    t = torch.arange(parameters.stride, schedule.num_steps)
    missing = torch.full((parameters.stride,), torch.nan, dtype=schedule.betas.dtype)
    return torch.cat([missing, weight(schedule, t, parameters)])
