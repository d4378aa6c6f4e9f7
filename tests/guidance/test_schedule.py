"""Noise levels of discrete tables and of flows."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.schedule import Schedule
from tests.guidance.analytic import stable_diffusion_schedule

SCHEDULE = stable_diffusion_schedule()


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
