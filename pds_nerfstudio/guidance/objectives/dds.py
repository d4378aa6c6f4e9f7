"""Delta Denoising Score (Hertz, Aberman and Cohen-Or, ICCV 2023)."""

from dataclasses import dataclass

from pds_nerfstudio.guidance.objectives.form import (
    Combination,
    Objective,
    Times,
    Weights,
    constant,
    guided_difference,
)
from pds_nerfstudio.guidance.schedule import Schedule


@dataclass(frozen=True)
class Dds(Objective):
    """Follow the difference of what the model predicts for target and source, without a pull back to the source."""

    def text(self, guidance_scale: float) -> Combination:
        """Return ε̂_tgt − ε̂_src, both guided."""
        return guided_difference(guidance_scale)

    def contrast(self, guidance_scale: float) -> Combination:
        """Return the same."""
        return guided_difference(guidance_scale)

    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return 1."""
        return constant(1, schedule, t)
