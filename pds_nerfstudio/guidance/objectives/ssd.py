"""Stable Score Distillation (Zhu et al., 2025): the source's trajectory, the change of prompt, the target prompt."""

from dataclasses import dataclass

from pds_nerfstudio.checks import finite
from pds_nerfstudio.guidance.objectives.form import (
    SOURCE_UNPROMPTED,
    TARGET,
    TARGET_AS_SOURCE,
    TARGET_UNPROMPTED,
    Combination,
    Objective,
    Times,
    Weights,
    constant,
    linear,
    prompt_difference,
    tau,
)
from pds_nerfstudio.guidance.schedule import Schedule


@dataclass(frozen=True)
class Ssd(Objective):
    """Hold the edit to the source's trajectory and stress the target prompt. The guidance scale weighs the change."""

    trajectory: float = 2.0
    """How strongly the edit is held to the trajectory of the source."""
    enhancement: float = 5.5
    """How much the target prompt counts by itself: more for changes of style."""
    psi0: float = 0.075
    """Identity weight, which grows with e^τ and falls with the signal at t."""

    def check(self) -> None:
        """Refuse negative weights."""
        finite(self, "trajectory", "enhancement", "psi0")

    def text(self, guidance_scale: float) -> Combination:
        """Return the paper's three differences, weighted."""
        trajectory, prompt = self.trajectory / 2, guidance_scale / 2
        return linear(
            *((trajectory, TARGET_AS_SOURCE), (-trajectory, SOURCE_UNPROMPTED)),
            *((prompt, TARGET), (-prompt, TARGET_AS_SOURCE)),
            *((self.enhancement, TARGET), (-self.enhancement, TARGET_UNPROMPTED)),
        )

    def contrast(self, guidance_scale: float) -> Combination:
        """Return what the two prompts say about the edit."""
        return prompt_difference()

    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return 1."""
        return constant(1, schedule, t)

    def identity_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return ψ0·e^τ·√ᾱ_t: the paper weighs the difference of the noisy latents."""
        return self.psi0 * tau(schedule, t).exp() * schedule.alphas_cumprod[t].sqrt()
