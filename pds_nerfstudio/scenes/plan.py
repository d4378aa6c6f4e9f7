"""Which steps of a run reconstruct and which edit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EditPlan:
    """The steps of a run, counted as the trainer counts them.

    Attributes:
        start: First step that edits; the ones before it reconstruct.
        steps: How many steps edit.
    """

    start: int
    steps: int

    @property
    def end(self) -> int:
        """First step that is not run any more."""
        return self.start + self.steps

    def edits(self, step: int) -> bool:
        """Whether `step` edits."""
        return step >= self.start

    def with_steps_left(self, next_step: int, steps: int) -> EditPlan:
        """The plan whose edit has `steps` left to run when `next_step` is the next one."""
        return EditPlan(self.start, max(0, next_step - self.start) + steps)

    def progress(self, step: int) -> float:
        """Share of the edit that is done at `step`: 0 at its first step, 1 at its last."""
        return min(1.0, max(0.0, (step - self.start) / max(1, self.steps - 1)))
