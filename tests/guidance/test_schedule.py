"""Noise levels of discrete tables and of flows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import pds_nerfstudio
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.objectives.form import weight_table
from pds_nerfstudio.guidance.objectives.pds import chi
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES, make_objective
from pds_nerfstudio.guidance.schedule import Schedule, reference_schedule
from tests.guidance.analytic import stable_diffusion_schedule, zero_terminal_schedule

SCHEDULE = stable_diffusion_schedule()


def test_schedule_from_a_diffusers_scheduler() -> None:
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    schedule = Schedule.from_scheduler(scheduler)
    assert schedule.num_steps == 1000 and schedule.betas.dtype == torch.float64
    torch.testing.assert_close(schedule.alphas_cumprod.float(), scheduler.alphas_cumprod, rtol=1e-4, atol=0)
    torch.testing.assert_close(schedule.alphas_cumprod, SCHEDULE.alphas_cumprod, rtol=1e-4, atol=0)


@pytest.mark.parametrize("tables", [{"sigmas": torch.ones(3)}, {"betas": torch.ones(3)}])
def test_a_scheduler_without_a_table_of_noise_is_refused(tables: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"SimpleNamespace has no noise schedule .*: choose"):
        Schedule.from_scheduler(SimpleNamespace(**tables))


@pytest.mark.parametrize("kind", ["scaled_linear", "linear"])
def test_without_signal_at_the_end_all_weights_are_finite(kind: str) -> None:
    from diffusers import DDIMScheduler

    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": kind}
    whole, without = (
        Schedule.from_scheduler(DDIMScheduler(**options, rescale_betas_zero_snr=zero)) for zero in (False, True)
    )
    assert without.alphas_cumprod[-1] > 0
    torch.testing.assert_close(without.alphas_cumprod[-1].sqrt(), without.alphas_cumprod[-2].sqrt() / 2)
    for name in OBJECTIVES:
        objective = make_objective(name)
        for weight in (objective.text_weight, objective.identity_weight):
            for stride in (1, 2, 10):
                table = weight_table(weight, without, stride)[stride:]
                assert bool(table.isfinite().all()), (name, stride)
    # What is left of the text's pull at the end is as little as is known there: χ·√ᾱ is the weight of Δv.
    t = torch.tensor([999])
    pulls = [chi(schedule, t, 2) * schedule.alphas_cumprod[t].sqrt() for schedule in (whole, without)]
    assert bool(pulls[1] < pulls[0])


@pytest.mark.usefixtures("unchecked")
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


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_has_the_signal_to_noise_of_its_times(shift: float) -> None:
    flow = Schedule.rectified_flow(1000, shift)
    levels = flow.levels(torch.device("cpu"), torch.float64)
    t = torch.tensor([0, 250, 999])
    ratio = shift * (t + 1) / (1000 - t)  # of noise to signal, τ/(1−τ) times the shift
    torch.testing.assert_close((levels.noise(t) / levels.signal(t)).flatten(), ratio.double())
    torch.testing.assert_close(levels.flow_time(t), (ratio / (1 + ratio)).double())
    torch.testing.assert_close(torch.cumprod(1 - flow.betas, 0), flow.alphas_cumprod)


def test_flows_that_mean_nothing_are_refused() -> None:
    for num_steps, shift in ((1, 1.0), (10, 0.0)):
        with pytest.raises(ValueError, match="a flow needs"):
            Schedule.rectified_flow(num_steps, shift)


def test_the_reference_is_stable_diffusions_schedule() -> None:
    reference = reference_schedule()
    torch.testing.assert_close(reference.alphas_cumprod, SCHEDULE.alphas_cumprod)
    assert torch.equal(reference.reference_times, torch.arange(1000))
    assert torch.equal(reference.shares, torch.arange(1000).double() / 1000)


def test_the_embedded_model_has_the_references_times() -> None:
    from diffusers import DDIMScheduler

    folder = Path(pds_nerfstudio.__file__).parent / "toyworld" / "model" / "scheduler"
    schedule = Schedule.from_scheduler(DDIMScheduler.from_pretrained(folder))
    assert torch.equal(schedule.reference_times, torch.arange(1000))


def test_each_time_of_the_reference_has_the_nearest_of_a_schedule() -> None:
    flow = Schedule.rectified_flow(40, 2.0)
    wanted, there = (torch.log(x / (1 - x)) for x in (SCHEDULE.alphas_cumprod, flow.alphas_cumprod))
    nearest = [min(range(40), key=lambda t: abs(float(there[t] - ratio))) for ratio in wanted]
    assert flow.reference_times.tolist() == nearest
    shares = [min(range(1000), key=lambda u: abs(float(wanted[u] - ratio))) / 1000 for ratio in there]
    assert flow.shares.tolist() == shares


def test_a_shift_of_a_flow_cancels_out() -> None:
    plain, shifted = Schedule.rectified_flow(1000), Schedule.rectified_flow(1000, 3.0)
    levels = [flow.alphas_cumprod[flow.reference_times] for flow in (plain, shifted)]
    torch.testing.assert_close(levels[0], levels[1], rtol=0.02, atol=0.001)


def test_a_time_without_signal_has_the_last_share_and_is_no_ones_nearest() -> None:
    schedule = zero_terminal_schedule(1000)
    assert schedule.shares[-1] == 0.999
    assert schedule.reference_times.max() < 999
