"""ψ and χ against published numbers and against the long form they are derived from."""

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.guidance.objectives.pds import chi, psi
from pds_nerfstudio.guidance.schedule import Schedule
from tests.guidance.analytic import stable_diffusion_schedule

SCHEDULE = stable_diffusion_schedule()
TIMES = torch.tensor([21, 101, 301, 501, 701, 979])
ALL_TIMES = torch.arange(2, 1000)


@pytest.mark.parametrize(
    ("num_inference_steps", "published"),
    [
        (500, [1.6133, 0.3143, 0.0794, 0.0321, 0.0145, 0.0042]),
        (250, [5.091, 0.951, 0.239, 0.097, 0.043, 0.013]),
        (100, [18.59, 2.936, 0.725, 0.292, 0.132, 0.039]),
    ],
)
def test_psi_is_that_of_the_published_code(num_inference_steps: int, published: list[float]) -> None:
    weights = psi(SCHEDULE, TIMES, stride=1000 // num_inference_steps)
    torch.testing.assert_close(weights, torch.tensor(published).double(), rtol=2e-3, atol=5e-4)


def test_chi_is_that_of_the_published_code() -> None:
    published = torch.tensor([0.2317, 0.1155, 0.0838, 0.0821, 0.0900, 0.1095]).double()
    torch.testing.assert_close(chi(SCHEDULE, TIMES, stride=2), published, rtol=0, atol=6e-5)


def test_ratio_of_psi_and_chi() -> None:
    published = torch.tensor([6.96, 2.72, 0.947, 0.391, 0.161, 0.038]).double()
    ratio = psi(SCHEDULE, TIMES, stride=2) / chi(SCHEDULE, TIMES, stride=2)
    torch.testing.assert_close(ratio, published, rtol=2e-3, atol=6e-4)


def test_identity_term_vanishes_for_consecutive_steps() -> None:
    assert psi(SCHEDULE, ALL_TIMES, stride=1).abs().max() < 1e-10


@pytest.mark.parametrize("stride", [2, 10, 50])
def test_identity_term_vanishes_for_the_beta_of_the_stride(stride: int) -> None:
    times = torch.arange(stride + 1, 1000)
    assert psi(SCHEDULE, times, stride, consistent_beta=True).abs().max() < 1e-10
    assert chi(SCHEDULE, times, stride, consistent_beta=True).min() > 0.05


def stochastic_latent(x: Tensor, prediction: Tensor, noise_t: Tensor, noise_s: Tensor, t: int, stride: int) -> Tensor:
    """The long form: z = (x_s − μ(x_t, ε̂)) / σ, by way of the predicted clean latent and both noisy ones."""
    alpha_bar_t, alpha_bar_s = SCHEDULE.alphas_cumprod[t], SCHEDULE.alphas_cumprod[t - stride]
    beta = SCHEDULE.betas[t]
    x_t = alpha_bar_t.sqrt() * x + (1 - alpha_bar_t).sqrt() * noise_t
    x_s = alpha_bar_s.sqrt() * x + (1 - alpha_bar_s).sqrt() * noise_s
    x_0 = (x_t - (1 - alpha_bar_t).sqrt() * prediction) / alpha_bar_t.sqrt()
    mean = (
        alpha_bar_s.sqrt() * beta / (1 - alpha_bar_t) * x_0
        + (1 - beta).sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t) * x_t
    )
    return (x_s - mean) / ((1 - alpha_bar_s) / (1 - alpha_bar_t) * beta).sqrt()


@pytest.mark.parametrize("stride", [1, 2, 10])
@pytest.mark.parametrize("t", [21, 301, 979])
def test_closed_form_is_the_difference_of_stochastic_latents(t: int, stride: int) -> None:
    target, source, prediction_target, prediction_source, noise_t, noise_s = torch.randn(
        6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    long_form = stochastic_latent(target, prediction_target, noise_t, noise_s, t, stride) - stochastic_latent(
        source, prediction_source, noise_t, noise_s, t, stride
    )
    times = torch.tensor([t])
    closed_form = psi(SCHEDULE, times, stride) * (target - source) + chi(SCHEDULE, times, stride) * (
        prediction_target - prediction_source
    )
    torch.testing.assert_close(closed_form, long_form, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("std", "fraction"), [(0.1, 0.507), (0.25, 0.432), (0.5, 0.333), (1.0, 0.222)])
def test_fixed_point_between_two_gaussians(std: float, fraction: float) -> None:
    """With each prompt one Gaussian, PDS stops at E[χk√ᾱ] / (E[ψ] + E[χk√ᾱ]) of the way (published grid)."""
    times = torch.arange(21, 980, 2)
    alpha_bar = SCHEDULE.alphas_cumprod[times]
    slope = (1 - alpha_bar).sqrt() / (alpha_bar * std**2 + 1 - alpha_bar)
    pull = (chi(SCHEDULE, times, 2) * slope * alpha_bar.sqrt()).mean()
    assert float(pull / (psi(SCHEDULE, times, 2).mean() + pull)) == pytest.approx(fraction, abs=5e-4)


@pytest.mark.parametrize(("t", "stride"), [(1, 2), (1000, 2), (-1, 2), (5, 0)])
def test_times_without_a_previous_time_are_refused(t: int, stride: int) -> None:
    for weight in (psi, chi):
        with pytest.raises(ValueError, match="must"):
            weight(SCHEDULE, torch.tensor([500, t]), stride)


def test_on_a_flow_the_published_form_is_applied_at_equal_signal_to_noise() -> None:
    """c₀ = α_s·b²/σ_t² and c₁ = r·σ_s²/σ_t² with the one-step r = α_t/α_{t−1}, b² = σ_t² − r²·σ_{t−1}², in VP terms."""
    flow, stride = Schedule.rectified_flow(1000, shift=3.0), 3
    t = torch.tensor([10, 400, 999])
    alpha, sigma = flow.alphas_cumprod.sqrt(), (1 - flow.alphas_cumprod).sqrt()
    r = alpha[t] / alpha[t - 1]
    b2 = sigma[t] ** 2 - r**2 * sigma[t - 1] ** 2
    c0, c1 = alpha[t - stride] * b2 / sigma[t] ** 2, r * sigma[t - stride] ** 2 / sigma[t] ** 2
    kappa = b2.sqrt() * sigma[t - stride] / sigma[t]
    torch.testing.assert_close(psi(flow, t, stride), (alpha[t - stride] - c0 - c1 * alpha[t]) / kappa)
    torch.testing.assert_close(chi(flow, t, stride), c0 * sigma[t] / (alpha[t] * kappa))


def test_on_a_flow_chi_has_its_small_step_limit() -> None:
    """χ ≈ √(2δ/(τ(1−τ))) for T = 1/δ times."""
    flow = Schedule.rectified_flow(20_000)
    t = torch.tensor([4_000, 10_000, 16_000])
    tau = (t + 1) / 20_001
    torch.testing.assert_close(chi(flow, t, 2), (2 / 20_001 / (tau * (1 - tau))).sqrt().double(), rtol=2e-3, atol=0)
