"""What a run starts from: a checkpoint and what it holds, and the scene as it was before the edit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from torch.cuda.amp.grad_scaler import GradScaler

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.scenes.checkpoints import Checkpoint, adopt_architecture, find_checkpoint, read_checkpoint
from pds_nerfstudio.scenes.files.placement import KEPT_COORDINATES, Coordinates
from pds_nerfstudio.scenes.present import names_of
from pds_nerfstudio.whole_files import whole_folder


def checkpoint_to_start_from(config: TrainerConfig) -> Checkpoint | None:
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


def take_up_scene(pipeline: VanillaPipeline, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights and, if this package wrote it, everything else that it holds of the scene.

    Raises:
        UserError: If they don't fit, are not all there, or belong to other coordinates or views.
    """
    _check_views(pipeline, checkpoint)
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


def _check_views(pipeline: VanillaPipeline, checkpoint: Checkpoint) -> None:
    """Refuse to go on with other views: what has been learned of each is kept by its number."""
    assert pipeline.datamanager.train_dataset is not None
    ours = names_of(pipeline.datamanager.train_dataset._dataparser_outputs)
    theirs = checkpoint.state["pipeline"].get("_extra_state", {}).get("views", ours)
    corrections = checkpoint.model_weights.get("camera_optimizer.pose_adjustment")
    if corrections is not None and len(corrections) != len(ours):
        theirs = None
    if ours != theirs:
        raise UserError(
            f"{checkpoint.path} is of other views than the {len(ours)} of the data: give it the pictures that it was "
            "trained on, no more and no fewer."
        )


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


def take_up_optimizers(optimizers: Optimizers, grad_scaler: GradScaler, checkpoint: Checkpoint) -> bool:
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

        Raises:
            UserError: If it can't be written, say because the disk is full.
        """
        if self.folder.exists():
            return
        theirs = start.path.parent.parent / self.folder.name
        if start.is_edit and not theirs.is_dir():
            return
        try:
            with whole_folder(self.folder) as unfinished:
                if start.is_edit:
                    shutil.copytree(theirs, unfinished, dirs_exist_ok=True)
                else:
                    state = {**start.state, "optimizers": {}, "schedulers": {}}  # the edit begins with fresh ones
                    torch.save(state, unfinished / f"step-{start.step:09d}.ckpt")
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"The scene before the edit can't be kept in {self.folder} ({first_line(error)}): make room on the "
                "disk, then start again."
            ) from None
