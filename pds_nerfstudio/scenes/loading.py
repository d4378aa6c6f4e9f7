"""A finished run, loaded for looking at: nerfstudio's own loading, without a diffusion model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.eval_utils import eval_setup
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.config_files import read_run_config
from pds_nerfstudio.scenes.models.scene_model import SceneModel, render
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.trainer import EditTrainerConfig
from pds_nerfstudio.scenes.views import SourceViews


class FinishedEdit:
    """An edited scene that can be rendered from cameras in the coordinates of its data set.

    Args:
        config_path: The config.yml of a run.

    Raises:
        UserError: If there is none.
    """

    def __init__(self, config_path: Path) -> None:
        if not config_path.is_file():
            raise UserError(f"{config_path}: there is no such file; give the config.yml of a finished run.")
        config = read_run_config(config_path)  # before nerfstudio reads it, which trusts it
        if not isinstance(config, EditTrainerConfig):
            method = getattr(config, "method_name", "no method of nerfstudio")
            raise UserError(f"{config_path} is of {method}: give one of pds-splat or pds-nerf.")
        self._folder = config_path.parent
        self.config, pipeline, self.checkpoint, _ = eval_setup(config_path)
        assert isinstance(pipeline, EditPipeline)
        self.pipeline = pipeline

    @property
    def data(self) -> Path:
        """The data set that was edited."""
        return Path(self.pipeline.datamanager.get_datapath())

    @cached_property
    def views(self) -> SourceViews:
        """The training views, with the photos that the scene was made from."""
        return SourceViews(self.pipeline.datamanager, 1, self.pipeline.model.edit_background, self.pipeline.device)

    @cached_property
    def selection(self) -> Bool[Tensor, " gaussians"] | None:
        """Which Gaussians the edit might change, of a splat that was edited with a selection; else None."""
        extra = read_checkpoint(self.checkpoint).state["pipeline"].get("_extra_state", {})
        free = extra.get("free")
        return free.to(self.pipeline.device) if torch.is_tensor(free) else None

    @cached_property
    def reconstruction(self) -> SceneModel | None:
        """The scene as it was before the edit, set to eval; None if the run has not kept it.

        Raises:
            UserError: If it can't be read.
        """
        path = max((self._folder / "reconstruction").glob("step-*.ckpt"), default=None)
        if path is None:
            return None
        edited: Any = self.pipeline.model
        weights = read_checkpoint(path).model_weights
        model = edited.config.setup(
            scene_box=edited.scene_box, num_train_data=edited.num_train_data, **edited.kwargs
        ).to(self.pipeline.device)
        try:
            model.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise UserError(f"The reconstruction in {path} can't be loaded ({first_line(error)}).") from None
        return model.eval()

    def to_scene(self, camera_to_world: Float[Tensor, "batch 3 4"]) -> Float[Tensor, "batch 3 4"]:
        """Return poses of the data set's own coordinates in those that nerfstudio trains in."""
        assert self.pipeline.datamanager.train_dataset is not None
        outputs = self.pipeline.datamanager.train_dataset._dataparser_outputs
        transform = outputs.dataparser_transform.to(camera_to_world)
        rotation = transform[:, :3] @ camera_to_world[:, :, :3]
        position = (transform[:, :3] @ camera_to_world[:, :, 3:] + transform[:, 3:]) * outputs.dataparser_scale
        return torch.cat([rotation, position], -1)

    def spread_views(self, n: int) -> list[int]:
        """Return the numbers of `n` training views, spread over all; of all, if there are no more."""
        return sorted({round(i * (len(self.views) - 1) / max(1, n - 1)) for i in range(n)})

    def cameras(
        self, camera_to_world: Float[Tensor, "batch 3 4"], focal: Float[Tensor, " batch"], width: int, height: int
    ) -> Cameras:
        """Return pinhole cameras that are given in the data set's coordinates (OpenGL's convention)."""
        return Cameras(self.to_scene(camera_to_world), focal, focal, width / 2, height / 2, width, height).to(
            self.pipeline.device
        )

    def render(
        self, camera_to_world: Float[Tensor, "batch 3 4"], focal: Float[Tensor, " batch"], width: int, height: int
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return renders in 0..1 from such cameras."""
        cameras = self.cameras(camera_to_world, focal, width, height)
        images = [render(self.pipeline.model, cameras[i : i + 1]) for i in range(len(focal))]
        return torch.stack(images).permute(0, 3, 1, 2)
