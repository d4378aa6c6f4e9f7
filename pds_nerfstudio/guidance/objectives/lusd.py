"""LUSD (Chinchuthakun et al., 2025): what the prompts say about the edit itself, in steps of one size."""

from dataclasses import dataclass

from pds_nerfstudio.checks import finite, share
from pds_nerfstudio.guidance.objectives.form import (
    Combination,
    Objective,
    Times,
    Weights,
    constant,
    prompt_difference,
)
from pds_nerfstudio.guidance.schedule import Schedule


@dataclass(frozen=True)
class Lusd(Objective):
    """Follow the difference of two prompts for one latent, scaled to a standard deviation that falls over the edit."""

    identity: float = 0.02
    """Share of the pull back to the source, from 0 to 1; the text has the rest."""
    first_std: float = 0.15
    """Standard deviation that each gradient is given when the edit begins."""
    last_std: float = 0.01
    """The same when the edit ends; it falls evenly on the way."""

    def check(self) -> None:
        """Refuse a share that is none, and a negative size."""
        share(self, "identity")
        finite(self, "first_std", "last_std")

    def text(self, guidance_scale: float) -> Combination:
        """Return ε̂(x_tgt, y_tgt) − ε̂(x_tgt, y_src)."""
        return prompt_difference()

    def contrast(self, guidance_scale: float) -> Combination:
        """Return the same."""
        return prompt_difference()

    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return 1 − λ."""
        return constant(1 - self.identity, schedule, t)

    def identity_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return λ."""
        return constant(self.identity, schedule, t)

    def std(self, progress: float) -> float:
        """Return the standard deviation at this share of the run."""
        return self.first_std + (self.last_std - self.first_std) * min(max(progress, 0.0), 1.0)
