"""Score Distillation Sampling (Poole et al., DreamFusion, 2022)."""

from dataclasses import dataclass

from pds_nerfstudio.guidance.objectives.form import NOISE, Combination, Objective, Times, Weights, guided_target
from pds_nerfstudio.guidance.schedule import Schedule


@dataclass(frozen=True)
class Sds(Objective):
    """Follow the target prompt alone. The source is soon forgotten."""

    def text(self, guidance_scale: float) -> Combination:
        """Return ε̂_tgt − ε: what the guided model sees in place of the noise."""
        return {**guided_target(guidance_scale), NOISE: -1.0}

    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return σ_t², as everyone implements the paper's w(t): 1 − ᾱ_t."""
        return 1 - schedule.alphas_cumprod[t]
