"""How the diffusion time t of a step is drawn.

A large t shapes layout and colour, a small t fine detail. Each element of a batch gets its own t. Bounds are
given as ratios of the T training steps, so that one setting fits any model.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig


def stride_of(num_steps: int, num_inference_steps: int) -> int:
    """Return the training steps between neighbours of a grid of `num_inference_steps` times, rounded down (Δ = T/N).

    Raises:
        UserError: If `num_inference_steps` is not in [1, num_steps].
    """
    if not 1 <= num_inference_steps <= num_steps:
        raise UserError(
            f"num_inference_steps is {num_inference_steps}: choose 1 to {num_steps}, the steps that this "
            "model was trained with."
        )
    return num_steps // num_inference_steps


def timestep_bounds(num_steps: int, t_min: float, t_max: float, stride: int) -> tuple[int, int]:
    """Return the smallest and the largest t to draw, both included.

    Args:
        num_steps: T.
        t_min: Lower bound as a ratio of T, in [0, 1].
        t_max: Upper bound as a ratio of T, in [t_min, 1]; a ratio of 1 means the last step T − 1.
        stride: No t below it is drawn, because s = t − stride must exist.

    Raises:
        UserError: If a ratio is out of range, the two are reversed, or no t is left.
    """
    for name, ratio in (("t_min", t_min), ("t_max", t_max)):
        if not 0 <= ratio <= 1:
            raise UserError(f"{name} is {ratio}: give a share of the noise schedule between 0 and 1.")
    if t_min > t_max:
        raise UserError(f"t_min ({t_min}) is above t_max ({t_max}): swap them.")
    # Ratios such as 0.07 have no exact binary form: 0.07 * 1000 is a hair above 70.
    low = max(math.ceil(t_min * num_steps - 1e-6), stride)
    high = min(math.floor(t_max * num_steps + 1e-6), num_steps - 1)
    if low > high:
        raise UserError(
            f"No timestep lies between t_min {t_min} and t_max {t_max} with t of at least {stride} of "
            f"{num_steps}: widen the range or raise num_inference_steps."
        )
    return low, high


def uniform_timesteps(batch: int, low: int, high: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    """Return independent draws from {low, …, high}, on the generator's device."""
    return torch.randint(low, high + 1, (batch,), generator=generator, device=generator.device)


def annealed_timesteps(
    batch: int, low: int, high: int, progress: float, jitter: float, generator: torch.Generator, power: float = 1.0
) -> Int[Tensor, " batch"]:
    """Return times around one that falls from `high` at progress 0 to `low` at progress 1, with its power.

    Coarse changes come first and detail last (DreamCatalyst and others, with power 1).

    Args:
        batch: How many to draw.
        low: Smallest time.
        high: Largest time.
        progress: Share of the run that is done; clamped to [0, 1].
        jitter: Width of the uniform jitter in training steps; each element has its own. Times stay in range.
        generator: Source of the jitter; its device is the result's.
        power: Above 1, large times are left more slowly; below, faster.
    """
    centre = high - (high - low) * min(max(progress, 0.0), 1.0) ** power
    noise = torch.rand(batch, generator=generator, device=generator.device) - 0.5
    times: Tensor = centre + jitter * noise
    return times.round().long().clamp(low, high)


@dataclass(frozen=True)
class Timesteps:
    """The times that a configuration draws from a model's schedule."""

    config: GuidanceConfig
    """How they are drawn."""
    num_steps: int
    """T of the schedule."""
    low: int
    """The smallest time."""
    high: int
    """The largest time."""

    @classmethod
    def of(cls, config: GuidanceConfig, num_steps: int) -> "Timesteps":
        """Return those of a configuration for a schedule of T times (UserError if there are none)."""
        stride = stride_of(num_steps, config.num_inference_steps)
        return cls(config, num_steps, *timestep_bounds(num_steps, config.t_min, config.t_max, stride))

    def draw(self, batch: int, progress: float, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """Return one time for each element, at a share `progress` of the run."""
        config = self.config
        if config.t_schedule == "uniform":
            return uniform_timesteps(batch, self.low, self.high, generator)
        jitter = config.t_jitter * self.num_steps
        return annealed_timesteps(batch, self.low, self.high, progress, jitter, generator, config.t_power)
