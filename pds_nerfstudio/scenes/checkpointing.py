"""Checkpoints of a run: load the one to start from, keep the source's, and write new ones so that none is lost.

How checkpoints lie on disk is the business of `checkpoints`.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer, TrainerConfig

from pds_nerfstudio import again
from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.scenes.again import write_config
from pds_nerfstudio.scenes.checkpoints import Checkpoint, read_checkpoint
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.optimizers import EditOptimizers
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.run_folder import LOCK
from pds_nerfstudio.scenes.signals import refusal
from pds_nerfstudio.scenes.starting import KeptSource, checkpoint_to_start_from, take_up_optimizers, take_up_scene
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.whole_files import flush, whole_folder

_NOT_OF_A_BRANCH = ("states", "snapshots", "export-*", "unfinished", "events.out.*", LOCK)
"""What of a run's folder is not of its finished edit."""


def _write_whole(write: Callable[[Path], None], step: int, path: Path, unfinished: Path, last_good: Path) -> None:
    """Write a checkpoint, and give it its name only when it is whole.

    Args:
        write: Writes it into a folder, as nerfstudio names it.
        step: Its last one.
        path: Where it is to lie.
        unfinished: A folder for it while it is written. Not that of `path`, in which nerfstudio's viewer and the others
            look for nothing but checkpoints.
        last_good: The folder of checkpoints that the user can resume from if this fails.

    Raises:
        UserError: If it can't be written, say because the disk is full.
    """
    try:
        write(unfinished)
        written = unfinished / f"step-{step:09d}.ckpt"
        flush(written)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(written, path)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"The checkpoint of step {step} can't be written to {path.parent} ({first_line(error)}): make room on the "
            f"disk, then {_way_back(last_good)}."
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _way_back(last_good: Path) -> str:
    """Return how to go on from the checkpoints in a folder, if there are any, in the middle of a sentence."""
    has_earlier = any(last_good.glob("step-*.ckpt"))
    return f"resume with --load-dir {last_good} from the last good one" if has_earlier else "start again"


def _not_finite(model: SceneModel) -> int:
    """Return how many of a scene's numbers are NaN or infinite.

    What is minus infinity does not count: where two seed points of a splat lie in one place, splatfacto begins with the
    logarithm of a size of 0.
    """
    counts = [(~(parameter.detach() < torch.inf)).sum() for parameter in model.parameters()]
    return int(torch.stack(counts).sum()) if counts else 0


def _remove_others(path: Path) -> None:
    """Remove all checkpoints beside this one."""
    for other in path.parent.glob("step-*.ckpt"):
        if other != path:
            other.unlink()


class CheckpointingTrainer(Trainer):
    """nerfstudio's trainer, which starts from checkpoints of several kinds and loses none of its own.

    What its steps do, and how many there are, is the business of the class made from it.
    """

    pipeline: EditPipeline
    optimizers: EditOptimizers
    round_steps: int
    """Edit steps that the run was started with."""
    at_rest = False
    """Whether the folder holds a finished edit, in which nothing may be replaced."""
    _last_step: int | None = None
    _not_finite_before = 0
    """How many of the scene's numbers were not finite to begin with: splats of others may have a few such Gaussians."""

    def _read_start(self) -> None:
        """Read what the run is to start from, before nerfstudio's set-up, which builds the model."""
        self._checkpoint = checkpoint_to_start_from(self.config)
        if self._checkpoint is not None and self.local_rank == 0:
            self.config.save_config()  # ns-viewer and the others build the model from it

    @property
    def next_step(self) -> int:
        """The step that would be run next."""
        return self._start_step if self._last_step is None else self._last_step + 1

    @property
    def has_steps(self) -> bool:
        """Whether there is a step left to run."""
        return self.next_step < self.pipeline.plan.end

    def setup_optimizers(self) -> EditOptimizers:
        """Return the optimisers, which skip steps that are not finite."""
        return EditOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def _take_up(self, checkpoint: Checkpoint, with_optimizers: bool = True) -> None:
        """Load the weights and, from this method's own checkpoints, everything else that they hold."""
        take_up_scene(self.pipeline, checkpoint)
        self._not_finite_before = _not_finite(self.pipeline.model)
        # Loading a splat has replaced its parameters: optimisers made before would go on with the old ones.
        self.optimizers = self.setup_optimizers()
        if not (checkpoint.is_edit and with_optimizers):
            return
        if not take_up_optimizers(self.optimizers, self.grad_scaler, checkpoint):
            self.optimizers = self.setup_optimizers()
            say(f"The optimisers in {checkpoint.path} don't fit this run: starting with fresh ones.", "yellow")

    def _take_up_choice(self, checkpoint: Checkpoint) -> None:
        """Let change what was chosen by hand in an edit to resume; the scene before an edit is of no edit's choice."""
        if checkpoint.path.parent.name == self.source_folder.name:
            return
        self.pipeline.take_up_choice(checkpoint.state["pipeline"]["_extra_state"])
        if self.local_rank == 0:
            self.save_settings()

    def save_settings(self) -> None:
        """Write the current settings into config.yml, unless that is the one of a finished edit."""
        if self.at_rest:
            return
        config = dataclasses.replace(self.config, max_num_iterations=self.round_steps)
        write_config(config, self.base_dir)

    @property
    def source_folder(self) -> Path:
        """Folder of the scene as it was before the edit; undo and the next edit start from it."""
        return self.base_dir / "reconstruction"

    @property
    def started_from(self) -> Path | None:
        """Folder of the run that it has started from, or goes on with; None if it began from nothing."""
        return None if self._checkpoint is None else self._checkpoint.path.parent.parent

    @property
    def _source(self) -> KeptSource:
        return KeptSource(self.source_folder)

    def restore_source(self) -> None:
        """Restore the scene and the optimisers as they were before the edit, to the last bit.

        Raises:
            UserError: If the run was resumed from one that did not keep them.
        """
        path = self._source.path
        if path is None:
            raise UserError(f"{self.source_folder} is not there: this run does not know the scene before the edit.")
        self._take_up_source(path)
        self.pipeline.forget_edit()

    def _keep_source(self) -> None:
        """Keep the scene that the run starts from, as it is before the edit."""
        if self._checkpoint is not None and self.local_rank == 0:
            self._source.keep(self._checkpoint)

    def restore_state(self, path: Path) -> None:
        """Restore the scene and the optimisers as a checkpoint of this run holds them; the plan is the caller's.

        Args:
            path: Of the checkpoint.
        """
        self.pipeline.forget_edit()
        self._take_up_source(path)
        self.pipeline.take_up_choice(read_checkpoint(path).state["pipeline"]["_extra_state"])

    def take_up_edit(self) -> None:
        """Prepare the scene as before its next step, in the middle of an edit or after its last step."""
        for callback in self.callbacks:
            callback.run_callback_at_location(self.next_step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)

    def rest_in(self, folder: Path) -> None:
        """Make the folder of a finished edit this run's again, in which nothing may be replaced."""
        self._enter(dataclasses.replace(self.config, timestamp=folder.name))
        self.at_rest = True

    def move_on(self, name: str) -> None:
        """Go on in a folder of its own, beside this one.

        Args:
            name: Of the folder.
        """
        config = dataclasses.replace(self.config, timestamp=name)
        self._copy_parts(config.get_base_dir(), *self._common_parts)
        self._enter(config)
        self.at_rest = False
        self.save_settings()

    def _enter(self, config: TrainerConfig) -> None:
        self.config, self.base_dir, self.checkpoint_dir = config, config.get_base_dir(), config.get_checkpoint_dir()
        self._make_callbacks()

    @property
    def _common_parts(self) -> tuple[str, ...]:
        """What of a run's folder belongs to all edits of one source."""
        return "dataparser_transforms.json", self.source_folder.name

    def _copy_parts(self, folder: Path, *parts: str) -> None:
        """Copy some of the run's folder, of what is there, into another."""
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            copy = shutil.copytree if (self.base_dir / part).is_dir() else shutil.copyfile
            if (self.base_dir / part).exists():
                copy(self.base_dir / part, folder / part)

    def _take_up_source(self, path: Path, with_optimizers: bool = True) -> None:
        self.optimizers.whole = False
        self._take_up(read_checkpoint(path), with_optimizers)
        self._make_callbacks()

    def _make_callbacks(self) -> None:
        self.callbacks = self.pipeline.get_training_callbacks(
            TrainingCallbackAttributes(
                optimizers=self.optimizers, grad_scaler=self.grad_scaler, pipeline=self.pipeline, trainer=self
            )
        )

    def save_checkpoint(self, step: int) -> None:
        """Write a checkpoint, and replace the last one only when it is whole.

        Raises:
            UserError: If it can't be written, say because the disk is full; the last checkpoint is kept.
        """
        with self.train_lock:  # the viewer, in its own thread, may be showing other weights than the scene's
            self._save_to(self.checkpoint_dir / f"step-{step:09d}.ckpt", only=self.config.save_only_latest_checkpoint)

    @contextmanager
    def _nothing_lost(self) -> Iterator[None]:
        """Save the last step if an error ends what is inside, and say in one line how to go on."""
        try:
            yield
        except (Exception, SystemExit) as error:
            way_on = self._saved_after(error)
            if not way_on:
                raise
            if isinstance(error, OSError):
                reason = refusal(error)
            elif isinstance(error, UserError | SystemExit):
                reason = str(error)
            else:  # a fault of this package's: it keeps its traceback
                traceback.print_exc()
                reason = f"{type(error).__name__}: {first_line(error)}."
            raise SystemExit(one_line(f"Error: {reason} {way_on}")) from None

    def _saved_after(self, error: BaseException) -> str:
        """Save the last step, if nothing has begun to change what it left; return how to go on, if there is a way."""
        if self._last_step is None:
            return ""
        try:
            if self.optimizers.whole:
                self.save_checkpoint(self._last_step)
        except UserError as refused:
            return "" if isinstance(error, UserError) else str(refused)
        last = self._last_saved
        return f"Step {int(last.stem[5:])} is saved: to go on, {self._way_on}." if last else ""

    @property
    def _last_saved(self) -> Path | None:
        """The last checkpoint, which may be that of the scene before the edit."""
        saved = [path for folder in (self.checkpoint_dir, self.source_folder) for path in folder.glob("step-*.ckpt")]
        return max(saved, key=lambda path: path.name, default=None)

    @property
    def _way_on(self) -> str:
        """How to go on from the last checkpoint, in the middle of a sentence."""
        folder = self.checkpoint_dir if self._last_saved is None else self._last_saved.parent
        start = ("--load-dir", str(folder))
        if not (self.base_dir / again.NAME).exists():
            return f"give the same command again with {shlex.join(start)}"
        return f"type {again.printed(self.base_dir, *start)}"

    def write_checkpoint(self, path: Path) -> None:
        """Write a checkpoint of the last step to a given file. The caller holds the lock.

        Raises:
            UserError: If it can't be written.
        """
        self._save_to(path, only=False)

    def _save_to(self, path: Path, only: bool) -> None:
        if self.local_rank != 0:
            return
        step = self.next_step - 1
        if _not_finite(self.pipeline.model) > self._not_finite_before:
            raise UserError(
                f"At step {step} numbers of the scene are no longer finite, and no checkpoint of it is written: lower "
                "the learning rates (--pipeline.lr-mult, or those of --optimizers), then "
                f"{_way_back(self.checkpoint_dir)}."
            )
        _write_whole(self._write_into, step, path, self.base_dir / "unfinished", self.checkpoint_dir)
        if only:
            _remove_others(path)

    def _write_into(self, folder: Path) -> None:
        usual, self.checkpoint_dir = self.checkpoint_dir, folder
        try:
            super().save_checkpoint(self.next_step - 1)
        finally:
            self.checkpoint_dir = usual

    def write_branch(self, name: str) -> Path:
        """Keep the present result as a run of its own, beside this one; return its folder. The caller holds the lock.

        Args:
            name: Of the folder.

        Raises:
            UserError: If its checkpoint can't be written.
        """
        config = dataclasses.replace(self.config, timestamp=name, max_num_iterations=self.round_steps)
        folder, checkpoint = config.get_base_dir(), f"step-{self.next_step - 1:09d}.ckpt"
        with whole_folder(folder) as unfinished:
            if self.at_rest and not self.has_steps:  # settings may have changed since: its own files belong together
                others = shutil.ignore_patterns(*_NOT_OF_A_BRANCH)
                shutil.copytree(self.base_dir, unfinished, ignore=others, dirs_exist_ok=True)
                config = yaml.load((unfinished / "config.yml").read_text("utf8"), yaml.Loader)
                config = dataclasses.replace(config, timestamp=name)
            else:
                self.write_checkpoint(unfinished / config.relative_model_dir / checkpoint)
                self._copy_parts(unfinished, *self._common_parts, "history")
            write_config(config, unfinished)
        return folder
