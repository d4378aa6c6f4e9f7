"""ψ, χ and the objectives, against published numbers and against the long form they are derived from."""

import math
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.objectives import (
    OBJECTIVES,
    DreamCatalystParameters,
    ObjectiveName,
    ObjectiveParameters,
    Schedule,
    chi,
    psi,
    weight_table,
)

from .analytic import stable_diffusion_schedule

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
        with pytest.raises(ValueError):
            weight(SCHEDULE, torch.tensor([500, t]), stride)


def test_every_objective_has_a_name_on_the_command_line() -> None:
    assert set(OBJECTIVES) == set(get_args(ObjectiveName))


def weights_of(name: ObjectiveName, parameters: ObjectiveParameters) -> tuple[Tensor, Tensor]:
    row = OBJECTIVES[name]
    return row.text_weight(SCHEDULE, TIMES, parameters), row.identity_weight(SCHEDULE, TIMES, parameters)


def test_pds_row() -> None:
    text, identity = weights_of("pds", ObjectiveParameters(stride=4))
    torch.testing.assert_close(text, chi(SCHEDULE, TIMES, 4))
    torch.testing.assert_close(identity, psi(SCHEDULE, TIMES, 4))
    assert OBJECTIVES["pds"].reference == "source"


def test_sds_row() -> None:
    text, identity = weights_of("sds", ObjectiveParameters(stride=2))
    torch.testing.assert_close(text, 1 - SCHEDULE.alphas_cumprod[TIMES])
    assert not identity.any() and OBJECTIVES["sds"].reference == "noise"


def test_dds_row() -> None:
    text, identity = weights_of("dds", ObjectiveParameters(stride=2))
    assert (text == 1).all() and not identity.any() and OBJECTIVES["dds"].reference == "source"


def test_dreamcatalyst_row() -> None:
    parameters = ObjectiveParameters(2, DreamCatalystParameters(delta=0.05, gamma=0.2, psi0=0.1))
    text, identity = weights_of("dreamcatalyst", parameters)
    for index, t in enumerate(TIMES.tolist()):
        tau = t / 1000
        assert float(text[index]) == pytest.approx(0.05 + 0.2 * tau ** (1 / math.e))
        assert float(identity[index]) == pytest.approx(0.1 * math.exp(tau))
    assert OBJECTIVES["dreamcatalyst"].reference == "source"
    assert DreamCatalystParameters() == DreamCatalystParameters(delta=0.2, gamma=0.8, psi0=0.075)


def test_weight_table_is_looked_up_by_time() -> None:
    table = weight_table(OBJECTIVES["pds"].identity_weight, SCHEDULE, ObjectiveParameters(stride=4))
    assert table.shape == (1000,)
    torch.testing.assert_close(table[TIMES], psi(SCHEDULE, TIMES, 4))
    assert table[:4].isnan().all() and table[4:].isfinite().all()


def test_schedule_from_a_diffusers_scheduler() -> None:
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    schedule = Schedule.from_scheduler(scheduler)
    assert schedule.num_steps == 1000 and schedule.betas.dtype == torch.float64
    torch.testing.assert_close(schedule.alphas_cumprod.float(), scheduler.alphas_cumprod, rtol=1e-4, atol=0)
    torch.testing.assert_close(schedule.alphas_cumprod, SCHEDULE.alphas_cumprod, rtol=1e-4, atol=0)


def test_flow_matching_scheduler_is_refused() -> None:
    with pytest.raises(UserError, match="SimpleNamespace has no noise schedule"):
        Schedule.from_scheduler(SimpleNamespace(sigmas=torch.ones(3)))


@pytest.mark.parametrize(
    "change",
    [
        {"betas": SCHEDULE.betas[:-1]},
        {"betas": SCHEDULE.betas - 1},
        {"betas": torch.ones(1000, dtype=torch.long)},
        {"alphas_cumprod": SCHEDULE.alphas_cumprod.flip(0)},
        {"alphas_cumprod": SCHEDULE.alphas_cumprod + 1},
    ],
)
def test_broken_schedule_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Schedule(**{"alphas_cumprod": SCHEDULE.alphas_cumprod, "betas": SCHEDULE.betas, **change})
