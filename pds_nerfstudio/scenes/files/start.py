"""A splat of another tool as what a run starts from: in the run's coordinates, and as a checkpoint of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.splatfacto import SplatfactoModelConfig
from nerfstudio.utils.comms import get_world_size
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.scenes.checkpoints import Checkpoint
from pds_nerfstudio.scenes.files.formats import read_splats
from pds_nerfstudio.scenes.files.harmonics import degree_of
from pds_nerfstudio.scenes.files.orbit import FOLDER, OrbitConfig, write_orbit
from pds_nerfstudio.scenes.files.placement import KEPT_COORDINATES, Coordinates, placement
from pds_nerfstudio.scenes.files.splats import Splats
from pds_nerfstudio.scenes.models.scene_model import SceneModel, render
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.scenes.views import SourceViews

_JUDGED_VIEWS = 3
_JUDGED_SIDE = 256
_FAR_OFF = 16.0
"""Pictures of nothing in common are 8 to 14 dB apart."""


@dataclass(frozen=True)
class StartingSplat:
    """A splat in a file, and where it is said to lie."""

    path: Path
    """The file."""
    splats: Splats
    """As they stand in it; harmonics are of degree 1 at least."""
    coordinates: Coordinates | Literal["auto"]
    """Where they lie; auto: to be found out."""

    @classmethod
    def read(cls, path: Path, coordinates: Coordinates | Literal["auto"], other_start: Path | None) -> StartingSplat:
        """Read it.

        Args:
            path: The file.
            coordinates: Where it lies.
            other_start: What else the run is to start from, if anything.

        Raises:
            UserError: If it can't be read, or if there are two starts.
        """
        if other_start is not None:
            raise UserError(
                f"A run starts from --load-ply or from {other_start}, not from both: leave out --load-ply to go on "
                "with a run, or --load-dir (--load-checkpoint) to begin with the splat in the file."
            )
        splats = read_splats(path)
        if not splats.rest.shape[1]:
            # At degree 0 splatfacto's colours are sigmoids, in which black and white have no gradient.
            splats = replace(splats, rest=torch.zeros(len(splats), 3, 3))
        return cls(path, splats, coordinates)

    @property
    def _degree(self) -> int:
        degree = degree_of(self.splats.rest.shape[1])
        assert degree is not None
        return degree

    def give_architecture(self, model: Any) -> None:
        """Give a model's settings, in place, the shape that the splat has.

        Raises:
            UserError: If it is a model of something else.
        """
        if not isinstance(model, SplatfactoModelConfig):
            raise UserError(f"--load-ply {self.path} is a splat, and no NeRF: use pds-splat.")
        model.sh_degree = self._degree
        model.camera_optimizer = replace(model.camera_optimizer, mode="off")  # whose corrections the file does not hold

    def on_orbit(self, config: TrainerConfig, device: str, writes: bool) -> StartingSplat:
        """Give a run without data the splat's own renders as its data; return the splat as it lies among them.

        Args:
            config: Of the run, an `EditTrainerConfig`; its data are changed in place.
            device: Renders the views.
            writes: Whether this process writes them; of several GPUs, one does.

        Raises:
            UserError: If there can be no such views.
        """
        views: OrbitConfig = config.orbit  # type: ignore[attr-defined]
        folder = config.get_base_dir() / FOLDER
        if writes:
            say(f"There is no --data: looking at {self.path} from {views.views} cameras around it, {views.up} up.")
            write_orbit(folder, self.splats, views, device)
        if get_world_size() > 1:
            torch.distributed.barrier()
        config.data = config.pipeline.datamanager.data = folder
        return replace(self, coordinates="world")

    def checkpoint(self, pipeline: EditPipeline, folder: Path) -> Checkpoint:
        """Return it as a checkpoint of the run's model, at the first step from which all its harmonics are drawn.

        Where it lies is found out by rendering some views: of the two answers, the one that is nearer to the photos is
        taken. The model holds the one or the other splat afterwards.

        Args:
            pipeline: Of the run, with its data and its model.
            folder: Where the checkpoint will be kept.
        """
        interval = cast(Any, pipeline.model).config.sh_degree_interval
        step = self._degree * interval - 1
        outputs = cast(Any, pipeline.datamanager.train_dataset)._dataparser_outputs
        asked: list[Coordinates] = ["scene", "world"] if self.coordinates == "auto" else [self.coordinates]
        tried: dict[Coordinates, tuple[float, dict[str, Tensor]]] = {}
        for coordinates in asked:
            splats = self.splats if coordinates == "scene" else self.splats.moved(placement(outputs))
            weights = _weights(pipeline.model, splats)
            pipeline.load_pipeline(weights, step)
            tried[coordinates] = _likeness(pipeline), weights
        chosen = max(tried, key=lambda name: tried[name][0])
        self._say(chosen, {name: decibels for name, (decibels, _) in tried.items()})
        state = {
            "step": step,
            "pipeline": tried[chosen][1],
            "optimizers": {},
            "schedulers": {},
            "scalers": {},
            KEPT_COORDINATES: chosen,
        }
        return Checkpoint(folder / f"step-{step:09d}.ckpt", state, is_edit=False)

    def _say(self, chosen: Coordinates, decibels: dict[Coordinates, float]) -> None:
        others = "".join(f", {name} {value:.1f}" for name, value in decibels.items() if name != chosen)
        say(
            f"{self.path}: {len(self.splats)} Gaussians, harmonics of degree {self._degree}, in {chosen} coordinates "
            f"({decibels[chosen]:.1f} dB to the views{others})."
        )
        if decibels[chosen] < _FAR_OFF:
            say(
                "That is far from the views: is it a splat of this data? --ply-coordinates says where it lies, if it "
                "lies in the world of the data set or in nerfstudio's scene.",
                "yellow",
            )


def _weights(model: SceneModel, splats: Splats) -> dict[str, Tensor]:
    """Return what a checkpoint of the pipeline holds, with these Gaussians in place of the model's."""
    gaussians = {
        "means": splats.means,
        "scales": splats.scales,
        "quats": splats.quats,
        "features_dc": splats.base,
        "features_rest": splats.rest,
        "opacities": splats.opacities[:, None],
    }
    weights = {f"_model.{name}": values.detach().cpu().clone() for name, values in model.state_dict().items()}
    return weights | {f"_model.gauss_params.{name}": values.contiguous() for name, values in gaussians.items()}


def _likeness(pipeline: EditPipeline) -> float:
    """Return how near the model's renders are to some training views, in dB."""
    model = pipeline.model
    views = SourceViews(pipeline.datamanager, _JUDGED_SIDE, model.edit_background, model.device)
    last = len(views) - 1
    chosen = {round(k * last / (_JUDGED_VIEWS - 1)) for k in range(_JUDGED_VIEWS)}
    training = pipeline.training
    pipeline.eval()
    try:
        errors = [
            psnr(render(model, view.camera), view.image[0].permute(1, 2, 0), most=99.0)
            for view in (views[i] for i in sorted(chosen))
        ]
    finally:
        pipeline.train(training)
    return float(torch.stack(errors).mean())
