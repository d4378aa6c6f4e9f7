"""How much signal and how much noise a time has, for whatever way a model was trained.

Everything in this package speaks of x_t = √ᾱ_t·x + √(1−ᾱ_t)·ε, the noisy latent of a variance-preserving diffusion at
one of T times. A rectified flow is that in other coordinates: z_τ = (1−τ)·x + τ·ε is x_t / (√ᾱ_t + √(1−ᾱ_t)) at the
time of equal signal-to-noise ratio, τ = √(1−ᾱ_t) / (√ᾱ_t + √(1−ᾱ_t)). So both are one table of ᾱ, and objectives,
times, redrawing and fixed points need to know nothing else.

What a person says about times, say that the noise falls from a share u = 0.98 to a share 0.02, is said of one schedule,
Stable Diffusion's, and means its signal-to-noise ratios: another model takes its own times that come nearest to them.
A flow's shift is only another way to number the same ratios, so it cancels out there.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """The noise levels of T times, on the CPU and in double precision.

    Raises:
        ValueError: If the two tables are not float vectors of one length, if `alphas_cumprod` does not fall
            strictly or leaves [0, 1], or if `betas` leaves (0, 1].
    """

    alphas_cumprod: Float[Tensor, " steps"]
    """ᾱ_t, the share of signal power that is left at time t: falls from about 1 to about 0."""
    betas: Float[Tensor, " steps"]
    """β_t, the noise power that is added from time t−1 to time t, in (0, 1]."""

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
        """Return the schedule of a diffusers scheduler that was made for a discrete table of noise.

        ᾱ is recomputed from β in float64: ψ is a difference of nearly equal numbers (0.004 at t = 979), of
        which a product of a thousand float32 factors would leave few digits.

        Where the last time has no signal left at all (zero terminal SNR, Lin et al. 2024), it gets half the amplitude
        that the time before it has: nothing is known of a picture in pure noise, and weights divide by the signal.

        Raises:
            UserError: If the scheduler has no such table, as those of continuous noise.
        """
        betas = getattr(scheduler, "betas", None)
        if not isinstance(betas, Tensor) or not hasattr(scheduler, "alphas_cumprod"):
            raise UserError(
                f"The scheduler {type(scheduler).__name__} has no noise schedule (betas and alphas_cumprod): choose a "
                "model with another one, such as DDIMScheduler."
            )
        betas = betas.detach().to("cpu", torch.float64)
        if betas[-1] == 1:
            betas = torch.cat([betas[:-1], betas.new_full((1,), 0.75)])
        return cls(alphas_cumprod=torch.cumprod(1 - betas, dim=0), betas=betas)

    @classmethod
    def rectified_flow(cls, num_steps: int = 1000, shift: float = 1.0) -> "Schedule":
        """Return the levels of a rectified flow (Liu et al. 2023) at evenly spaced times.

        Args:
            num_steps: T. Times are τ = 1/(T+1) … T/(T+1), so that neither signal nor noise is ever 0.
            shift: Multiplies the noise-to-signal ratio τ/(1−τ) of every time (Esser et al. 2024, section 5.3.2).

        Raises:
            ValueError: If there are fewer than two times, or the shift is not above 0.
        """
        if num_steps < 2 or not shift > 0:
            raise ValueError(f"a flow needs at least 2 times and a shift above 0, got {num_steps} and {shift}")
        tau = torch.arange(1, num_steps + 1, dtype=torch.float64) / (num_steps + 1)
        tau = shift * tau / (1 + (shift - 1) * tau)
        alphas_cumprod = (1 - tau).square() / ((1 - tau).square() + tau.square())
        before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        return cls(alphas_cumprod=alphas_cumprod, betas=1 - alphas_cumprod / before)

    @property
    def num_steps(self) -> int:
        """T, the number of times."""
        return len(self.betas)

    @cached_property
    def reference_times(self) -> Int[Tensor, " reference_steps"]:
        """The time with the nearest signal-to-noise ratio for each time of the `reference_schedule`.

        Where this is that schedule, each time itself. Never one without any signal, as a schedule of zero terminal
        signal-to-noise ratio (Lin et al. 2024) has: no clean picture can be seen in it, and χ and ψ are infinite there.
        """
        return _nearest_times(reference_schedule(), self)

    @cached_property
    def shares(self) -> Float[Tensor, " steps"]:
        """The share u in [0, 1) of each time, at which the `reference_schedule` comes nearest to its ratio."""
        return _nearest_times(self, reference_schedule()).to(self.betas) / reference_schedule().num_steps

    def levels(self, device: torch.device, dtype: torch.dtype) -> "Levels":
        """Return the levels where a step needs them, in the precision of its latents."""
        return Levels(self.alphas_cumprod.to(dtype).to(device))  # cast first: not every device knows float64


@cache
def reference_schedule() -> Schedule:
    """Return Stable Diffusion's: β from 0.00085 to 0.012 in 1000 times, evenly in √β (Rombach et al. 2022)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return Schedule(alphas_cumprod=torch.cumprod(1 - betas, dim=0), betas=betas)


def _nearest_times(wanted: Schedule, among: Schedule) -> Int[Tensor, " steps"]:
    """Return for each time of `wanted` the one of `among` whose log ᾱ/(1−ᾱ) is nearest; beyond the last, the last."""
    ratios, theirs = wanted.alphas_cumprod.logit(), among.alphas_cumprod.logit()
    usable = theirs[theirs.isfinite()]  # the others, without signal or without noise, are infinitely far from all
    return (ratios.clamp(usable.min(), usable.max())[:, None] - theirs).abs().argmin(1)


@dataclass(frozen=True)
class Levels:
    """Signal and noise at each time of a schedule, in the precision and on the device of the latents."""

    alphas_cumprod: Float[Tensor, " steps"]
    """ᾱ_t."""

    def signal(self, t: Int[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
        """Return √ᾱ_t, what a clean latent is multiplied by."""
        return self.alphas_cumprod[t][:, None, None, None].sqrt()

    def noise(self, t: Int[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
        """Return √(1−ᾱ_t), what the noise is multiplied by."""
        return (1 - self.alphas_cumprod[t][:, None, None, None]).sqrt()

    def flow_time(self, t: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return τ, the time at which a rectified flow has the same signal-to-noise ratio."""
        signal, noise = self.signal(t), self.noise(t)
        return (noise / (signal + noise)).flatten()
