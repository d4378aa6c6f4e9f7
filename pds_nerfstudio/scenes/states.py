"""The states of an edit that one can go back to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.run import Settings


@dataclass(frozen=True)
class State:
    """A kept state of the scene; its files are never written again."""

    number: int
    """From 1 on, in the order in which they were kept."""
    settings: Settings
    """That have made it."""
    plan: EditPlan
    """Of the steps that have made it."""
    next_step: int
    """The step that would have been run next."""
    checkpoint: Path
    """With everything of the scene and of the optimisers."""
    picture: Path
    """Of the fixed view."""
    finished: Path | None = None
    """The folder of the run, if all of its steps had been run."""

    @property
    def name(self) -> str:
        """What it is called in the panel: a number, which tells it from all others, and its words."""
        done = max(0, self.next_step - self.plan.start)
        end = "finished" if self.finished else f"{done} steps"
        return f"{self.number}: {self.settings['tgt_prompt']} ({end})"
