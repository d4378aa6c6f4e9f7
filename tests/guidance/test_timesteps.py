"""How t is drawn."""

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.timesteps import (
    annealed_timesteps,
    stride_of,
    timestep_bounds,
    uniform_timesteps,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bounds_are_ratios_of_the_training_steps() -> None:
    assert timestep_bounds(1000, 0.02, 0.98, stride=2) == (20, 980)
    assert timestep_bounds(1000, 0.07, 0.29, stride=2) == (70, 290)
    assert timestep_bounds(100, 0.1, 0.9, stride=1) == (10, 90)


def test_bounds_stay_where_both_times_exist() -> None:
    assert timestep_bounds(1000, 0.0, 1.0, stride=10) == (10, 999)


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
        timestep_bounds(1000, t_min, t_max, stride=2)
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
