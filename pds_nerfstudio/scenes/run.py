"""The interfaces through which others watch or steer a run.

The panel, the report, the history and the terminal know a run by these two Protocols alone. `EditTrainer` and its
`EditPipeline` fulfil them. These import the modules that watch them, never the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Bool
from nerfstudio.data.datamanagers.base_datamanager import DataManager
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.output.history import History
from pds_nerfstudio.scenes.output.pictures import EditedView
from pds_nerfstudio.scenes.pace import NOTHING_MEASURED, TimeLeft
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.views import SourceViews

GUIDANCE_SETTINGS = (
    "objective",
    "guidance_scale",
    "identity_weight",
    "text_weight",
    "localize",
    "localize_by",
    "t_min",
    "t_max",
    "t_schedule",
)
"""Settings of the guidance that may change while an edit runs."""
SETTINGS = (
    *("src_prompt", "tgt_prompt", *GUIDANCE_SETTINGS),
    *("photometric_loss_mult", "redraw_strength", "only", "steps_left"),
)
"""All settings that may change while an edit runs. "redraw_strength" is that of `--pipeline.refinement`. "only" says
what of the scene may, by some of the values of `SelectionConfig.plain`; those that are left out stay."""

Settings = dict[str, Any]
"""Values of some of `SETTINGS`, by their names."""


@dataclass(frozen=True)
class Status:
    """The state of a run."""

    state: Literal["reconstructing", "editing", "refining", "paused", "finished", "looking"] = "looking"
    """What it does; "looking" where a finished run is viewed."""
    step: int = -1
    """Last step that was run, as the trainer counts; -1 if none was."""
    edit_step: int = 0
    """Edit steps that have been run."""
    edit_steps: int = 0
    """Edit steps in all, those that refine included."""
    reconstruct_steps: int = 0
    """Steps before the first edit step, as the trainer counts."""
    seconds_per_step: float = 0.0
    """Averaged over the last steps; 0 if not known yet."""
    time_left: TimeLeft = NOTHING_MEASURED
    """Estimate for all steps that are left."""
    loss: float = float("nan")
    """Of the last step."""
    message: str = ""
    """What was done last, or why a request was refused."""

    @property
    def steps_left(self) -> int:
        """Edit steps that are left to run."""
        return max(0, self.edit_steps - self.edit_step)

    @property
    def share_done(self) -> float:
        """Share of all steps, those that reconstruct included, that has been run."""
        steps = self.reconstruct_steps + self.edit_steps
        return min(1.0, max(0.0, (self.step + 1) / steps)) if steps else 0.0


@runtime_checkable
class Scene(Protocol):
    """The scene of a run, with its edit; also of a finished run that is viewed."""

    views: SourceViews
    """Its training views before the edit; while it is edited only."""
    plan: EditPlan
    """Which steps of the run do what."""
    guidance: Guidance | None
    """What knows the diffusion model; while it is edited only."""
    last_view: EditedView | None
    """What the last edit step has seen."""
    training: bool
    """Whether the model is set to train, as of any module of PyTorch."""
    training_run: bool
    """Whether it is being edited, and not only viewed."""

    @property
    def model(self) -> SceneModel:
        """What renders it."""

    @property
    def datamanager(self) -> DataManager:
        """Where its source images come from."""

    @property
    def settings(self) -> Settings:
        """Settings that may change while the edit runs, as they are now; without the number of steps."""

    @property
    def takes_requests(self) -> bool:
        """Whether the run takes requests."""

    @property
    def editing(self) -> bool:
        """Whether the edit has begun."""

    @property
    def may_change(self) -> Bool[Tensor, " gaussians"] | Region | None:
        """Which Gaussians, or which region of space, may change; None if all may. While it is edited only."""

    def train(self, mode: bool = True) -> object:
        """Set the model to train, or to render."""

    def eval(self) -> object:
        """Set the model to render."""

    def change_settings(self, changes: Settings) -> None:
        """Change settings from the next step on: all of them or, if one is invalid, none.

        Raises:
            UserError: If one is invalid.
        """

    def begin_round(self, step: int, steps: int) -> None:
        """Begin a new edit at `step`, of `steps` steps, with the refinement after it."""


@runtime_checkable
class Run(Protocol):
    """A run, from its set-up on."""

    base_dir: Path
    """Folder of everything that it writes."""
    checkpoint_dir: Path
    """Folder of its checkpoints."""
    history: History
    """Numbers and pictures of its edit steps."""
    round_steps: int
    """Edit steps of a round: what it was started with."""
    loss: float
    """The sum of all losses, at the last step for which it is known."""
    training_state: Literal["training", "paused", "completed"]
    """Whether it trains, is paused or is done, in nerfstudio's words."""
    interrupted: bool
    """Whether it is to end before its steps are done."""
    at_rest: bool
    """Whether its folder holds a finished edit, in which nothing may be replaced."""
    stop_training: bool
    """Whether nerfstudio's loop is to be left before its next step."""

    @property
    def pipeline(self) -> Scene:
        """The scene that it edits."""

    @property
    def source_folder(self) -> Path:
        """Folder of the scene as it was before the edit; undo and the next edit start from it."""

    @property
    def started_from(self) -> Path | None:
        """Folder of the run that it has started from, or goes on with; None if it began from nothing."""

    @property
    def facts(self) -> Mapping[str, str]:
        """The settings that a reader wants to know, by names in plain words."""

    @property
    def pace(self) -> Sequence[float]:
        """Seconds that each of the last steps took."""

    @property
    def time_left(self) -> TimeLeft:
        """Estimate of the time that its steps still take."""

    @property
    def skipped_steps(self) -> int:
        """Number of steps that were left out because a gradient was not finite."""

    @property
    def next_step(self) -> int:
        """The step that would be run next."""

    @property
    def has_steps(self) -> bool:
        """Whether there is a step left to run."""

    @property
    def stays_open(self) -> bool:
        """Whether the viewer stays open and takes requests after the last step."""

    @property
    def train_lock(self) -> AbstractContextManager[Any]:
        """Held while a step is run, and while the viewer renders."""

    def restore_source(self) -> None:
        """Restore the scene and the optimisers as they were before the edit, to the last bit.

        Raises:
            UserError: If the run was resumed from one that did not keep them.
        """

    def restore_state(self, path: Path) -> None:
        """Restore the scene and the optimisers as a checkpoint of this run holds them; the plan is the caller's."""

    def take_up_edit(self) -> None:
        """Prepare the scene as before its next step, in the middle of an edit or after its last step."""

    def rest_in(self, folder: Path) -> None:
        """Make the folder of a finished edit this run's again, in which nothing may be replaced."""

    def move_on(self, name: str) -> None:
        """Go on in a folder of its own, beside this one, of this name."""

    def write_checkpoint(self, path: Path) -> None:
        """Write a checkpoint of the last step to a given file. The caller holds the lock.

        Raises:
            UserError: If it can't be written.
        """

    def write_branch(self, name: str) -> Path:
        """Keep the present result as a run of its own, beside this one, and return its folder.

        The caller holds the lock.

        Args:
            name: Of the folder.

        Raises:
            UserError: If its checkpoint can't be written.
        """

    def write_results(self, folder: Path) -> None:
        """Write the results into `folder`, and print their paths."""

    def save_settings(self) -> None:
        """Write the current settings into config.yml, unless that is the one of a finished edit."""
