"""How the diffusion time t of a step is drawn.

A large t shapes layout and colour, a small t fine detail. Each element of a batch gets its own t. Times are drawn as
shares u in 0..1 of the `reference_schedule`, and stand for the model's own times with those signal-to-noise ratios, so
that one setting means the same to any diffusion and to any flow.

The stride is the one thing that counts the model's own times: PDS looks at the times t and t − stride of its schedule.
With stride k the ratio of its weights is ψ/χ ≈ (k−1)/2 · (1+ᾱ) · √(ᾱ/(1−ᾱ)) on any schedule of small steps, so the
balance of text and identity at a signal-to-noise ratio depends on k alone, for a flow as for a diffusion.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.schedule import Schedule, reference_schedule


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


def timestep_bounds(t_min: float, t_max: float, times: Int[Tensor, " reference_steps"], stride: int) -> tuple[int, int]:
    """Return the smallest and the largest time of the reference to draw, both included.

    Args:
        t_min: Lower bound as a share of the reference, in [0, 1].
        t_max: Upper bound, in [t_min, 1]; a share of 1 means the last time.
        times: The model's time for each time of the reference.
        stride: None is drawn whose own time t is below it, because s = t − stride must exist.

    Raises:
        UserError: If a share is out of range, the two are reversed, or no time is left.
    """
    for name, ratio in (("t_min", t_min), ("t_max", t_max)):
        if not 0 <= ratio <= 1:
            raise UserError(f"{name} is {ratio}: give a share of the noise schedule between 0 and 1.")
    if t_min > t_max:
        raise UserError(f"t_min ({t_min}) is above t_max ({t_max}): swap them.")
    # Ratios such as 0.07 have no exact binary form: 0.07 * 1000 is a hair above 70.
    low = max(math.ceil(t_min * len(times) - 1e-6), int((times < stride).sum()))
    high = min(math.floor(t_max * len(times) + 1e-6), len(times) - 1)
    if low > high:
        raise UserError(
            f"No timestep lies between t_min {t_min} and t_max {t_max} with {stride} others of the model's below it: "
            "widen the range or raise num_inference_steps."
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
        jitter: Width of the uniform jitter in times; each element has its own. Times stay in range.
        generator: Source of the jitter; its device is the result's.
        power: Above 1, large times are left more slowly; below, faster.
    """
    centre = high - (high - low) * min(max(progress, 0.0), 1.0) ** power
    noise = torch.rand(batch, generator=generator, device=generator.device) - 0.5
    times: Tensor = centre + jitter * noise
    return times.round().long().clamp(low, high)


def falling_timesteps(schedule: Schedule, share: float, steps: int, device: torch.device) -> Int[Tensor, " steps"]:
    """Return times of a schedule that fall evenly on the reference; after the last comes the end, without noise.

    Args:
        schedule: The model's.
        share: Of the reference, above 0 and up to 1, from which they fall.
        steps: How many.
        device: Where to.
    """
    highest = max(1, round(share * (reference_schedule().num_steps - 1)))
    even = torch.linspace(highest, 0, steps + 1, device=device)[:-1].round().long()
    return schedule.reference_times.to(device)[even]


@dataclass(frozen=True)
class Timesteps:
    """The times that a configuration draws from a model's schedule."""

    config: GuidanceConfig
    """How they are drawn."""
    times: Int[Tensor, " reference_steps"]
    """The model's time for each time of the reference."""
    low: int
    """The smallest time of the reference."""
    high: int
    """The largest."""

    @classmethod
    def of(cls, config: GuidanceConfig, schedule: Schedule, device: torch.device) -> "Timesteps":
        """Return those of a configuration for a model's schedule, drawn on a device (UserError if there are none)."""
        stride = stride_of(schedule.num_steps, config.num_inference_steps)
        times = schedule.reference_times
        return cls(config, times.to(device), *timestep_bounds(config.t_min, config.t_max, times, stride))

    def draw(self, batch: int, progress: float, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """Return one time for each element, at a share `progress` of the run."""
        config = self.config
        if config.t_schedule == "uniform":
            return self.times[uniform_timesteps(batch, self.low, self.high, generator)]
        jitter = config.t_jitter * len(self.times)
        drawn = annealed_timesteps(batch, self.low, self.high, progress, jitter, generator, config.t_power)
        return self.times[drawn]
