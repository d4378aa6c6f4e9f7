"""DreamCatalyst (Kim et al., 2024): PDS's two terms with weights that make edits faster."""

import math
from dataclasses import dataclass

from pds_nerfstudio.checks import finite
from pds_nerfstudio.guidance.objectives.form import (
    Combination,
    Objective,
    Times,
    Weights,
    guided_difference,
    tau,
)
from pds_nerfstudio.guidance.schedule import Schedule


@dataclass(frozen=True)
class DreamCatalyst(Objective):
    """Weigh the text by χ = delta + gamma·τ^(1/e) and identity by ψ = psi0·e^τ, with τ = t/T."""

    delta: float = 0.2
    """Text weight at t = 0. Its paper uses 0.2 for NeRFs and 0.05 for Gaussian splats."""
    gamma: float = 0.8
    """How much the text weight grows from t = 0 to t = T. Its paper uses 0.8 for NeRFs and 0.2 for splats."""
    psi0: float = 0.075
    """Identity weight at t = 0; it grows to psi0·e at t = T. Larger stays closer to the source."""

    def check(self) -> None:
        """Refuse negative weights."""
        finite(self, "delta", "gamma", "psi0")

    def text(self, guidance_scale: float) -> Combination:
        """Return ε̂_tgt − ε̂_src, both guided."""
        return guided_difference(guidance_scale)

    def contrast(self, guidance_scale: float) -> Combination:
        """Return the same."""
        return guided_difference(guidance_scale)

    def text_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return δ + γ·τ^(1/e)."""
        return self.delta + self.gamma * tau(schedule, t) ** (1 / math.e)

    def identity_weight(self, schedule: Schedule, t: Times, stride: int) -> Weights:
        """Return ψ0·e^τ."""
        return self.psi0 * tau(schedule, t).exp()
