"""Checkpoints of a run: load the one to start from, keep the source's, and write new ones so that none is lost.

How checkpoints lie on disk is the business of `checkpoints`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from torch.cuda.amp.grad_scaler import GradScaler

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpoints import Checkpoint, adopt_architecture, find_checkpoint, read_checkpoint
from pds_nerfstudio.scenes.files.placement import KEPT_COORDINATES, Coordinates
from pds_nerfstudio.scenes.optimizers import EditOptimizers
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.terminal import say

_NOT_OF_A_BRANCH = ("states", "snapshots", "export-*", "unfinished", "events.out.*")
"""What of a run's folder is not of its finished edit."""


def _checkpoint_to_start_from(config: TrainerConfig) -> Checkpoint | None:
    """Return the checkpoint that a run is to start from, if any, and give the run's model its architecture.

    Args:
        config: Of the run. Its model's settings are changed in place.

    Raises:
        UserError: If the checkpoint is not there, can't be read, or is of another sort of scene.
    """
    path = find_checkpoint(config.load_dir, config.load_step, config.load_checkpoint)
    if path is None:
        return None
    checkpoint, model = read_checkpoint(path), config.pipeline.model
    if checkpoint.kind != model._target.kind:
        other = {"splat": "a splat scene: use pds-splat", "nerf": "a NeRF: use pds-nerf"}
        found = other.get(checkpoint.kind, "neither nerfacto's nor splatfacto's")
        raise UserError(f"{path} can't be edited with {config.method_name}, it is {found}.")
    adopt_architecture(model, checkpoint)
    return checkpoint


def _take_up_scene(pipeline: VanillaPipeline, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights and, if this package wrote it, everything else that it holds of the scene.

    Raises:
        UserError: If they don't fit, are not all there, or belong to other coordinates.
    """
    try:
        pipeline.load_pipeline(checkpoint.state["pipeline"], checkpoint.step)
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().split("\n")[-1].strip()
        raise UserError(
            f"The weights in {checkpoint.path} don't fit ({reason}): keep the run's config.yml beside its folder "
            "nerfstudio_models, or give the same --pipeline.model options."
        ) from None
    lacking = [
        name for name in pipeline.model.state_dict() if name not in checkpoint.model_weights and "lpips" not in name
    ]
    if lacking:
        raise UserError(
            f"{checkpoint.path} lacks the weights {', '.join(lacking[:3])}: it is of another method or an older "
            "version; train the scene anew with this nerfstudio."
        )
    _check_coordinates(pipeline, checkpoint)


def _check_coordinates(pipeline: VanillaPipeline, checkpoint: Checkpoint) -> None:
    """Refuse a scene trained in other coordinates than this run's, in which every camera would look elsewhere."""
    written = checkpoint.path.parent.parent / "dataparser_transforms.json"
    dataset = pipeline.datamanager.train_dataset
    assert dataset is not None
    ours = dataset._dataparser_outputs
    try:
        theirs = json.loads(written.read_text())
        transform, scale = torch.tensor(theirs["transform"]), torch.tensor(theirs["scale"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    same_scale = torch.isclose(scale, torch.tensor(ours.dataparser_scale), rtol=1e-3)
    if not same_scale or not torch.allclose(transform, ours.dataparser_transform.to(transform), atol=1e-3):
        raise UserError(
            f"The scene in {checkpoint.path} was trained in other coordinates: give the same data and the same "
            "options of the data parser as its config.yml."
        )


def _take_up_optimizers(optimizers: Optimizers, grad_scaler: GradScaler, checkpoint: Checkpoint) -> bool:
    """Load the optimisers of a checkpoint; return whether they fit. If not, some may have been loaded."""
    try:
        optimizers.load_optimizers(checkpoint.state["optimizers"])
        grad_scaler.load_state_dict(checkpoint.state["scalers"])
    except (ValueError, KeyError, RuntimeError):
        return False
    return True


class KeptSource:
    """The scene as it was before the edit, in a folder of the run.

    Args:
        folder: Holds one checkpoint, or is not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def path(self) -> Path | None:
        """Its checkpoint, if it is there."""
        return max(self.folder.glob("step-*.ckpt"), default=None)

    @property
    def splat_coordinates(self) -> Coordinates:
        """The coordinates of the splat's file that the run, or one before it, has started from; else the scene's."""
        path = self.path
        if path is None:
            return "scene"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(KEPT_COORDINATES, "scene")

    def keep(self, start: Checkpoint) -> None:
        """Keep the source of a resumed edit, or the weights of a scene about to be edited, unless it is kept already.

        Args:
            start: What the run starts from.
        """
        if self.folder.exists():
            return
        if start.is_edit:
            theirs = start.path.parent.parent / self.folder.name
            if theirs.is_dir():
                shutil.copytree(theirs, self.folder)
            return
        self.folder.mkdir(parents=True)
        state = {**start.state, "optimizers": {}, "schedulers": {}}  # the edit begins with fresh ones
        torch.save(state, self.folder / f"step-{start.step:09d}.ckpt")


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
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unfinished / f"step-{step:09d}.ckpt", path)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        has_earlier = any(last_good.glob("step-*.ckpt"))
        way_out = f"resume with --load-dir {last_good} from the last good one" if has_earlier else "start again"
        raise UserError(
            f"The checkpoint of step {step} can't be written to {path.parent} ({reason}): make room on the disk, "
            f"then {way_out}."
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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

    def _read_start(self) -> None:
        """Read what the run is to start from, before nerfstudio's set-up, which builds the model."""
        self._checkpoint = _checkpoint_to_start_from(self.config)
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
        _take_up_scene(self.pipeline, checkpoint)
        # Loading a splat has replaced its parameters: optimisers made before would go on with the old ones.
        self.optimizers = self.setup_optimizers()
        if not (checkpoint.is_edit and with_optimizers):
            return
        if not _take_up_optimizers(self.optimizers, self.grad_scaler, checkpoint):
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
        (self.base_dir / "config.yml").write_text(yaml.dump(config), "utf8")

    @property
    def source_folder(self) -> Path:
        """Folder of the scene as it was before the edit; undo and the next edit start from it."""
        return self.base_dir / "reconstruction"

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
        self._copy_common_parts(config.get_base_dir())
        self._enter(config)
        self.at_rest = False
        self.save_settings()

    def _enter(self, config: TrainerConfig) -> None:
        self.config, self.base_dir, self.checkpoint_dir = config, config.get_base_dir(), config.get_checkpoint_dir()
        self._make_callbacks()

    def _copy_common_parts(self, folder: Path) -> None:
        """Copy what belongs to all edits of one source."""
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("dataparser_transforms.json", self.source_folder.name):
            copy = shutil.copytree if (self.base_dir / part).is_dir() else shutil.copyfile
            if (self.base_dir / part).exists():
                copy(self.base_dir / part, folder / part)

    def _take_up_source(self, path: Path, with_optimizers: bool = True) -> None:
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
        folder = config.get_base_dir()
        if self.at_rest and not self.has_steps:  # settings may have changed since: its own files belong together
            shutil.copytree(self.base_dir, folder, ignore=shutil.ignore_patterns(*_NOT_OF_A_BRANCH))
            made_by = yaml.load((folder / "config.yml").read_text("utf8"), yaml.Loader)
            (folder / "config.yml").write_text(yaml.dump(dataclasses.replace(made_by, timestamp=name)), "utf8")
            return folder
        self.write_checkpoint(config.get_checkpoint_dir() / f"step-{self.next_step - 1:09d}.ckpt")
        (folder / "config.yml").write_text(yaml.dump(config), "utf8")
        self._copy_common_parts(folder)
        return folder
