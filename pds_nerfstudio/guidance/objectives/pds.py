"""Posterior Distillation Sampling (Koo, Park and Sung, CVPR 2024)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.objectives.form import Combination, Objective, Times, Weights, guided_difference
from pds_nerfstudio.guidance.schedule import Schedule


@dataclass(frozen=True)
class Pds(Objective):
    """Match the stochastic latents of source and target, so that the edit keeps the source's identity."""

    def text(self, guidance_scale: float) -> Combination:
        """Return ε̂_tgt − ε̂_src, both guided."""
        return guided_difference(guidance_scale)

    def contrast(self, guidance_scale: float) -> Combination:
        """Return the same."""
        return guided_difference(guidance_scale)

    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return χ(t)."""
        return chi(schedule, t, stride)

    def identity_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return ψ(t)."""
        return psi(schedule, t, stride)


@dataclass(frozen=True)
class _Posterior:
    """q(x_s | x_t, x_0) = N(c0·x_0 + c1·x_t, σ²), its coefficients for each time asked for."""

    signal_t: Float[Tensor, " times"]  # √ᾱ_t
    signal_s: Float[Tensor, " times"]  # √ᾱ_s
    noise_t: Float[Tensor, " times"]  # √(1−ᾱ_t)
    c0: Float[Tensor, " times"]
    c1: Float[Tensor, " times"]
    sigma: Float[Tensor, " times"]


def _posterior(schedule: Schedule, t: Times, stride: int, consistent_beta: bool) -> _Posterior:
    """Return the posterior of Ho et al. 2020, equation 7, with the previous time s = t − stride."""
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


def psi(schedule: Schedule, t: Times, stride: int, consistent_beta: bool = False) -> Weights:
    """Return ψ(t), the weight of PDS's identity term: (√ᾱ_s − c0 − c1·√ᾱ_t) / σ with s = t − stride.

    It comes from matching the stochastic latents z = (x_s − μ(x_t, ε̂)) / σ of source and target (Koo et al.,
    Posterior Distillation Sampling, CVPR 2024), in the form that is left once their noises have cancelled.

    The published code takes the ONE-STEP β_t of the training schedule together with a stride of several
    steps. With the β that belongs to the stride, or with stride 1, ψ is identically zero and PDS turns into
    χ-weighted DDS: the identity term lives on that mismatch, which is therefore kept on purpose.

    Args:
        schedule: The noise schedule.
        t: Times in [stride, T−1]. Checked on the host, so pass CPU tensors where speed matters.
        stride: Training steps between t and s; T / (number of inference steps).
        consistent_beta: Use β = 1 − ᾱ_t/ᾱ_s, which belongs to the stride, instead (gives 0; for comparison).

    Raises:
        ValueError: If `stride` < 1 or some t is out of range.
    """
    q = _posterior(schedule, t, stride, consistent_beta)
    return (q.signal_s - q.c0 - q.c1 * q.signal_t) / q.sigma


def chi(schedule: Schedule, t: Times, stride: int, consistent_beta: bool = False) -> Weights:
    """Return χ(t), the weight of PDS's text term: c0 · √((1−ᾱ_t)/ᾱ_t) / σ. Arguments and errors as in `psi`."""
    q = _posterior(schedule, t, stride, consistent_beta)
    return q.c0 * q.noise_t / q.signal_t / q.sigma
