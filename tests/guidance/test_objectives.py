"""ψ, χ and the objectives, against published numbers and against the long form they are derived from."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.objectives import (
    OBJECTIVES,
    SOURCE,
    SOURCE_UNPROMPTED,
    TARGET,
    TARGET_AS_SOURCE,
    TARGET_UNPROMPTED,
    DreamCatalystParameters,
    LusdParameters,
    ObjectiveName,
    ObjectiveParameters,
    Prediction,
    Schedule,
    SsdParameters,
    chi,
    combine,
    linear,
    predictions_of,
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


# Each objective as its paper writes it, over ε̂ of (latent, prompt): x for the target latent, s for the source's.
PARAMETERS = ObjectiveParameters(
    stride=4,
    dreamcatalyst=DreamCatalystParameters(delta=0.05, gamma=0.2, psi0=0.1),
    ssd=SsdParameters(trajectory=1.4, enhancement=3.0, psi0=0.2),
    lusd=LusdParameters(identity=0.1, first_std=0.4, last_std=0.2),
)
PAPERS: dict[str, Callable[[dict[str, float], float, float], tuple[float, float]]] = {
    "pds": lambda e, w, t: (
        float(chi(SCHEDULE, torch.tensor([int(t)]), 4))
        * ((e["x0"] + w * (e["xt"] - e["x0"])) - (e["s0"] + w * (e["ss"] - e["s0"]))),
        float(psi(SCHEDULE, torch.tensor([int(t)]), 4)),
    ),
    "sds": lambda e, w, t: (
        (1 - float(SCHEDULE.alphas_cumprod[int(t)])) * (e["x0"] + w * (e["xt"] - e["x0"]) - e["noise"]),
        0.0,
    ),
    "dds": lambda e, w, t: ((e["x0"] + w * (e["xt"] - e["x0"])) - (e["s0"] + w * (e["ss"] - e["s0"])), 0.0),
    "dreamcatalyst": lambda e, w, t: (
        (0.05 + 0.2 * (t / 1000) ** (1 / math.e))
        * ((e["x0"] + w * (e["xt"] - e["x0"])) - (e["s0"] + w * (e["ss"] - e["s0"]))),
        0.1 * math.exp(t / 1000),
    ),
    "ssd": lambda e, w, t: (
        0.5 * 1.4 * (e["xs"] - e["s0"]) + 0.5 * w * (e["xt"] - e["xs"]) + 3.0 * (e["xt"] - e["x0"]),
        0.2 * math.exp(t / 1000) * float(SCHEDULE.alphas_cumprod[int(t)]) ** 0.5,
    ),
    "lusd": lambda e, w, t: (0.9 * (e["xt"] - e["xs"]), 0.1),
}
PREDICTIONS = {
    TARGET: "xt",
    TARGET_AS_SOURCE: "xs",
    TARGET_UNPROMPTED: "x0",
    SOURCE: "ss",
    SOURCE_UNPROMPTED: "s0",
}


@pytest.mark.parametrize("scale", [1.0, 7.5, 100.0])
@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_row_is_the_formula_of_its_paper(name: ObjectiveName, scale: float) -> None:
    row = OBJECTIVES[name]
    generator = torch.Generator().manual_seed(0)
    for t in TIMES.tolist():
        values = dict(zip([*PREDICTIONS.values(), "noise"], torch.randn(6, generator=generator).tolist(), strict=True))
        predictions = {key: torch.full((1, 1, 1, 1), values[e]).double() for key, e in PREDICTIONS.items()}
        noise = torch.full((1, 1, 1, 1), values["noise"]).double()
        times = torch.tensor([t])
        text = row.text_weight(SCHEDULE, times, PARAMETERS) * combine(row.text(scale, PARAMETERS), predictions, noise)
        expected_text, expected_identity = PAPERS[name](values, scale, t)
        assert float(text) == pytest.approx(expected_text, rel=1e-6)
        assert float(row.identity_weight(SCHEDULE, times, PARAMETERS)) == pytest.approx(expected_identity)


def test_published_parameters() -> None:
    assert DreamCatalystParameters() == DreamCatalystParameters(delta=0.2, gamma=0.8, psi0=0.075)
    assert SsdParameters() == SsdParameters(trajectory=2.0, enhancement=5.5, psi0=0.075)
    assert LusdParameters() == LusdParameters(identity=0.02, first_std=0.15, last_std=0.01)


@pytest.mark.parametrize(
    ("name", "scale", "asked"),
    [
        ("pds", 7.5, {TARGET, TARGET_UNPROMPTED, SOURCE, SOURCE_UNPROMPTED}),
        ("pds", 1.0, {TARGET, SOURCE}),
        ("sds", 7.5, {TARGET, TARGET_UNPROMPTED}),
        ("ssd", 7.5, {TARGET, TARGET_AS_SOURCE, TARGET_UNPROMPTED, SOURCE_UNPROMPTED}),
        ("lusd", 7.5, {TARGET, TARGET_AS_SOURCE}),
    ],
)
def test_no_prediction_is_asked_for_that_does_not_count(
    name: ObjectiveName, scale: float, asked: set[Prediction]
) -> None:
    row = OBJECTIVES[name]
    contrast = row.contrast(scale, PARAMETERS) if row.contrast else {}
    wanted = predictions_of(row.text(scale, PARAMETERS), contrast)
    assert set(wanted) == asked and len(wanted) == len(asked)


def test_latents_are_asked_in_turn() -> None:
    combination = linear((1.0, TARGET), (1.0, TARGET_UNPROMPTED), (1.0, SOURCE), (1.0, TARGET_AS_SOURCE))
    assert predictions_of(combination) == [TARGET, SOURCE, TARGET_UNPROMPTED, TARGET_AS_SOURCE]


@pytest.mark.parametrize("name", [name for name, row in OBJECTIVES.items() if row.contrast])
def test_contrast_vanishes_where_latents_and_prompts_agree(name: ObjectiveName) -> None:
    """With equal latents, predictions differ by their prompt alone; with equal prompts, by nothing."""
    contrast = OBJECTIVES[name].contrast
    assert contrast is not None
    values = {"target": 0.4, "source": 0.4, "none": -1.0}
    predictions = {key: torch.full((1, 1, 1, 1), values[key.prompt]) for key in PREDICTIONS}
    total = combine(contrast(7.5, PARAMETERS), predictions, torch.ones(1, 1, 1, 1))
    assert total.abs().max() < 1e-5


def test_terms_of_one_prediction_are_added_up() -> None:
    combination = linear((2.0, TARGET), (-0.5, SOURCE), (1.0, TARGET), (0.5, SOURCE))
    assert combination == {TARGET: 3.0, SOURCE: 0.0} and predictions_of(combination) == [TARGET]


def test_std_of_lusd_falls_evenly() -> None:
    std = OBJECTIVES["lusd"].std
    assert std is not None
    assert [std(p, PARAMETERS) for p in (-1.0, 0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.2])


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
