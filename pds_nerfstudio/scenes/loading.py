"""A finished run, loaded for looking at: nerfstudio's own loading, without a diffusion model."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.eval_utils import eval_setup
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.models.scene_model import render
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
        config = yaml.load(config_path.read_text(), Loader=yaml.Loader)  # as nerfstudio reads its own configs
        if not isinstance(config, EditTrainerConfig):
            method = getattr(config, "method_name", "no method of nerfstudio")
            raise UserError(f"{config_path} is of {method}: give one of pds-splat or pds-nerf.")
        self.config, pipeline, self.checkpoint, _ = eval_setup(config_path)
        assert isinstance(pipeline, EditPipeline)
        self.pipeline = pipeline

    @property
    def data(self) -> Path:
        """The data set that was edited."""
        return Path(self.pipeline.datamanager.get_datapath())

    def to_scene(self, camera_to_world: Float[Tensor, "batch 3 4"]) -> Float[Tensor, "batch 3 4"]:
        """Return poses of the data set's own coordinates in those that nerfstudio trains in."""
        assert self.pipeline.datamanager.train_dataset is not None
        outputs = self.pipeline.datamanager.train_dataset._dataparser_outputs
        transform = outputs.dataparser_transform.to(camera_to_world)
        rotation = transform[:, :3] @ camera_to_world[:, :, :3]
        position = (transform[:, :3] @ camera_to_world[:, :, 3:] + transform[:, 3:]) * outputs.dataparser_scale
        return torch.cat([rotation, position], -1)

    def before_and_after(
        self, n: int
    ) -> tuple[list[Float[Tensor, "3 height width"]], list[Float[Tensor, "3 height width"]]]:
        """Return pictures in 0..1 of `n` training views, spread over all: the source images, and the edited scene."""
        views = SourceViews(self.pipeline.datamanager, 1, self.pipeline.model.edit_background, self.pipeline.device)
        chosen = sorted({round(i * (len(views) - 1) / max(1, n - 1)) for i in range(n)})
        before = [views.full_size_image(i).permute(2, 0, 1) for i in chosen]
        after = [render(self.pipeline.model, views.full_size_camera(i)).permute(2, 0, 1) for i in chosen]
        return before, after

    def render(
        self, camera_to_world: Float[Tensor, "batch 3 4"], focal: Float[Tensor, " batch"], width: int, height: int
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return renders in 0..1 from pinhole cameras in the data set's coordinates (OpenGL's convention)."""
        cameras = Cameras(self.to_scene(camera_to_world), focal, focal, width / 2, height / 2, width, height).to(
            self.pipeline.device
        )
        images = [render(self.pipeline.model, cameras[i : i + 1]) for i in range(len(focal))]
        return torch.stack(images).permute(0, 3, 1, 2)
