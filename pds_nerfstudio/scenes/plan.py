"""Which steps of a run reconstruct, which edit, and which refine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Phase = Literal["reconstruct", "edit", "refine"]


@dataclass(frozen=True)
class EditPlan:
    """The steps of a run, counted as the trainer counts them."""

    start: int
    """First step that edits; the ones before it reconstruct."""
    steps: int
    """How many steps edit."""
    refine_steps: int = 0
    """How many steps refine after that."""

    @property
    def end(self) -> int:
        """First step that is not run any more."""
        return self.refine_start + self.refine_steps

    @property
    def refine_start(self) -> int:
        """First step that refines."""
        return self.start + self.steps

    def phase(self, step: int) -> Phase:
        """Return what `step` does."""
        if self.refines(step):
            return "refine"
        return "edit" if self.edits(step) else "reconstruct"

    def edits(self, step: int) -> bool:
        """Return whether `step` changes the scene: edits it, or refines the edit."""
        return step >= self.start

    def with_steps_left(self, next_step: int, steps: int) -> EditPlan:
        """Return the plan whose edit has `steps` left to run when `next_step` is the next one."""
        return replace(self, steps=max(0, next_step - self.start) + steps)

    def refines(self, step: int) -> bool:
        """Return whether `step` refines."""
        return step >= self.refine_start

    def begins_to_refine(self, step: int) -> bool:
        """Return whether `step` is the first that refines."""
        return step == self.refine_start < self.end

    def progress(self, step: int) -> float:
        """Return the share of the edit that is done at `step`: 0 at its first step, 1 at its last."""
        return min(1.0, max(0.0, (step - self.start) / max(1, self.steps - 1)))

    def refine_progress(self, step: int) -> float:
        """Return the share of the refinement that is done at `step`: 0 at its first step, 1 at its last."""
        return min(1.0, max(0.0, (step - self.refine_start) / max(1, self.refine_steps - 1)))
