"""The learning rates in the course of an edit."""

from __future__ import annotations

from dataclasses import dataclass

from pds_nerfstudio.scenes.plan import EditPlan


@dataclass(frozen=True)
class Rates:
    """Learning rates, as shares of the full ones."""

    warmup_steps: int
    """Steps over which they rise, linearly, when the edit begins."""
    final: float
    """Share that is left at the edit's last step; they fall exponentially."""
    refining: float
    """Share at which refining begins; it falls to the final share."""
    warm_up_again: bool
    """Whether they rise when refining begins, too."""

    def share(self, plan: EditPlan, step: int) -> float:
        """Return the share at a step of the edit."""
        fall = self.final ** plan.progress(step)
        if not plan.refines(step):
            return fall * self._warm_up(step - plan.start)
        share = self.refining * (fall / self.refining) ** plan.refine_progress(step)
        return share * self._warm_up(step - plan.refine_start) if self.warm_up_again else share

    def _warm_up(self, k: int) -> float:
        return min(1.0, (k + 1) / max(1, self.warmup_steps))
