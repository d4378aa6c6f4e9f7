"""How t is drawn."""

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.schedule import Schedule
from pds_nerfstudio.guidance.timesteps import (
    Timesteps,
    annealed_timesteps,
    falling_timesteps,
    stride_of,
    timestep_bounds,
    uniform_timesteps,
)
from tests.guidance.analytic import stable_diffusion_schedule, zero_terminal_schedule

CPU = torch.device("cpu")
REFERENCE = stable_diffusion_schedule()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ratios(schedule: Schedule, t: Tensor) -> Tensor:
    """Signal to noise in decibels."""
    alpha_bar = schedule.alphas_cumprod[t]
    return 10 * (alpha_bar / (1 - alpha_bar)).log10()


ITSELF = torch.arange(1000)


def test_bounds_are_shares_of_the_reference() -> None:
    assert timestep_bounds(0.02, 0.98, ITSELF, stride=2) == (20, 980)
    assert timestep_bounds(0.07, 0.29, ITSELF, stride=2) == (70, 290)


def test_bounds_stay_where_both_times_exist() -> None:
    assert timestep_bounds(0.0, 1.0, ITSELF, stride=10) == (10, 999)
    assert timestep_bounds(0.0, 1.0, ITSELF // 2, stride=10) == (20, 999)


@pytest.mark.parametrize(
    ("t_min", "t_max", "message"),
    [
        (-0.1, 0.5, "t_min is -0.1"),
        (0.1, 1.5, "t_max is 1.5"),
        (float("nan"), 0.5, "t_min is nan"),
        (0.9, 0.1, "swap them"),
        (0.0, 0.001, "No timestep lies between"),
    ],
)
def test_bad_ratios_are_refused_in_one_line(t_min: float, t_max: float, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        timestep_bounds(t_min, t_max, ITSELF, stride=2)
    assert "\n" not in str(error.value)


def test_stride_is_training_steps_per_inference_step() -> None:
    assert [stride_of(1000, n) for n in (1000, 500, 300, 1)] == [1, 2, 3, 1000]


@pytest.mark.parametrize("num_inference_steps", [0, -5, 1001])
def test_impossible_strides_are_refused(num_inference_steps: int) -> None:
    with pytest.raises(UserError, match="num_inference_steps"):
        stride_of(1000, num_inference_steps)


def test_uniform_covers_the_range_evenly() -> None:
    t = uniform_timesteps(20_000, 20, 29, generator())
    counts = torch.bincount(t, minlength=30)[20:]
    assert t.min() == 20 and t.max() == 29
    assert ((counts - 2000).abs() < 250).all()


def test_annealed_falls_linearly() -> None:
    drawn = [annealed_timesteps(3, 200, 900, p, 0.0, generator()).tolist() for p in (0, 0.25, 0.5, 1)]
    assert drawn == [[900] * 3, [725] * 3, [550] * 3, [200] * 3]


def test_annealed_stays_in_range_beyond_the_run() -> None:
    assert annealed_timesteps(1, 200, 900, 1.2, 0.0, generator()).item() == 200
    assert annealed_timesteps(1, 200, 900, -0.2, 0.0, generator()).item() == 900


def test_annealed_jitter_is_each_elements_own_and_has_the_width_asked_for() -> None:
    t = annealed_timesteps(20_000, 20, 980, 0.5, 100.0, generator())
    assert t.unique().numel() > 90
    assert 450 <= t.min() < 453 and 547 < t.max() <= 550
    assert abs(t.double().mean() - 500) < 2
    clamped = annealed_timesteps(1000, 20, 980, 0.0, 100.0, generator())
    assert clamped.max() == 980 and clamped.min() > 900


def test_same_seed_same_times() -> None:
    draws = [uniform_timesteps(50, 20, 980, generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


ANNEALED = GuidanceConfig(t_schedule="annealed", t_max=1.0, t_min=0.1, t_jitter=0.2, t_power=2.0)


@pytest.mark.parametrize("config", [GuidanceConfig(), GuidanceConfig(t_min=0.0, t_max=0.31), ANNEALED])
def test_stable_diffusion_gets_the_times_that_are_drawn_on_its_own_schedule(config: GuidanceConfig) -> None:
    low, high = max(round(config.t_min * 1000), 2), min(round(config.t_max * 1000), 999)
    drawn = Timesteps.of(config, REFERENCE, CPU).draw(64, 0.3, generator())
    if config.t_schedule == "uniform":
        assert torch.equal(drawn, torch.randint(low, high + 1, (64,), generator=generator()))
    else:
        noise = torch.rand(64, generator=generator()) - 0.5
        wanted = (high - (high - low) * 0.3**2 + 200 * noise).round().long().clamp(low, high)
        assert torch.equal(drawn, wanted)


@pytest.mark.parametrize("config", [GuidanceConfig(), ANNEALED])
@pytest.mark.parametrize(
    "schedule", [Schedule.rectified_flow(), Schedule.rectified_flow(1000, 3.0), Schedule.rectified_flow(4000)]
)
def test_the_same_draw_has_the_same_signal_to_noise_on_any_schedule(config: GuidanceConfig, schedule: Schedule) -> None:
    theirs, ours = (Timesteps.of(config, s, CPU).draw(256, 0.4, generator()) for s in (REFERENCE, schedule))
    torch.testing.assert_close(ratios(schedule, ours), ratios(REFERENCE, theirs), rtol=0, atol=0.15)


def test_a_schedule_of_few_times_takes_the_nearest() -> None:
    few = Schedule.rectified_flow(50)
    times = Timesteps.of(GuidanceConfig(num_inference_steps=25), few, CPU)
    drawn = times.draw(4096, 0.0, generator())
    assert drawn.min() == 5 and drawn.max() == 46  # τ = 6/51 and 47/51 are the nearest to .122 and .929


@pytest.mark.parametrize("num_steps", [1000, 20])
def test_no_time_without_any_signal_is_drawn(num_steps: int) -> None:
    schedule = zero_terminal_schedule(num_steps)
    assert schedule.alphas_cumprod[-1] == 0
    config = GuidanceConfig(t_max=1.0, num_inference_steps=num_steps // 2)
    drawn = Timesteps.of(config, schedule, CPU).draw(8192, 0.0, generator())
    falling = falling_timesteps(schedule, 1.0, 10, CPU)
    assert drawn.max() < num_steps - 1 and falling.max() < num_steps - 1


def test_a_stride_counts_the_models_own_times() -> None:
    flow = Schedule.rectified_flow(1000)  # the reference begins at its time 27
    assert Timesteps.of(GuidanceConfig(t_min=0.0, num_inference_steps=50), flow, CPU).low == 0
    times = Timesteps.of(GuidanceConfig(t_min=0.0, num_inference_steps=10), flow, CPU)
    assert times.times[times.low] >= 100 > times.times[times.low - 1]
    with pytest.raises(UserError, match="No timestep lies between"):
        Timesteps.of(GuidanceConfig(num_inference_steps=1), flow, CPU)


def test_falling_times_are_even_on_the_reference() -> None:
    assert falling_timesteps(REFERENCE, 0.5, 5, CPU).tolist() == [500, 400, 300, 200, 100]
    flow = Schedule.rectified_flow(1000, 3.0)
    torch.testing.assert_close(
        ratios(flow, falling_timesteps(flow, 0.5, 5, CPU)),
        ratios(REFERENCE, torch.tensor([500, 400, 300, 200, 100])),
        rtol=0,
        atol=0.15,
    )
