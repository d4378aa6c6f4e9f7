"""How an edit of any scene stands beside its source, in numbers that need no true edit.

One view is held at a time, at the size of its photo, so memory does not grow with the number of views.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from pds_nerfstudio.evaluation.edited_region import EditedRegion
from pds_nerfstudio.evaluation.metrics import gradient_energy, mean, perceptual_in_tiles, psnr
from pds_nerfstudio.evaluation.reprojection import APART, view_difference
from pds_nerfstudio.scenes.models.ball import looked_at_ball
from pds_nerfstudio.scenes.models.look import Look
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.views import SourceViews
from pds_nerfstudio.toyworld.classifier import AttributeClassifier

MOST_DECIBELS = 100.0
"""The PSNR of a picture that equals its reference; finite, so that means are finite too."""


@dataclass(frozen=True)
class StateScores:
    """What a state of the scene scores, as means over views; NaN where there is nothing to compare.

    "Outside" is where the edit should change nothing, "inside" is the rest.
    """

    psnr_to_photos: float = math.nan
    """dB to the photos, outside; at most `MOST_DECIBELS`."""
    psnr_to_reconstruction: float = math.nan
    """dB to the scene before the edit, outside; at most `MOST_DECIBELS`."""
    perceptual_to_photos: float = math.nan
    """LPIPS-like distance to the photos, outside (`metrics.perceptual_in_tiles` on the embedded classifier)."""
    perceptual_to_reconstruction: float = math.nan
    """The same to the scene before the edit."""
    sharpness_outside: float = math.nan
    """`metrics.gradient_energy` outside, as a share of that of the photos there: 1 is as sharp."""
    sharpness_inside: float = math.nan
    """The same inside. Something new may well have more detail than what was there, or less."""
    view_difference: float = math.nan
    """How far neighbouring views disagree, in whole pictures (`reprojection.view_difference`)."""


@dataclass(frozen=True)
class SceneScores:
    """The scores of an edit and, beside them, those of doing nothing."""

    edit: StateScores
    """Of the scene after the edit."""
    reconstruction: StateScores | None
    """Of the scene before it; None if the run has not kept it."""
    outside_share: float
    """Share of the pixels that are outside, of those views in which it is known."""

    @property
    def view_difference_ratio(self) -> float:
        """The edit's difference between neighbouring views as a multiple of the reconstruction's; NaN if unknown."""
        before = self.reconstruction.view_difference if self.reconstruction is not None else math.nan
        return self.edit.view_difference / before if before else math.nan


@dataclass(frozen=True)
class Seen:
    """Pictures of one view, in 0..1."""

    photo: Float[Tensor, "3 height width"]
    """The source."""
    edited: Float[Tensor, "3 height width"]
    """The edit."""


class SceneJudge:
    """Compares an edited scene with its photos and its reconstruction, view by view.

    Args:
        views: The training views.
        edit: The scene after the edit, set to eval.
        reconstruction: The scene before it, set to eval; None if it is not known.
        region: Says where the edit may act.
    """

    def __init__(
        self, views: SourceViews, edit: SceneModel, reconstruction: SceneModel | None, region: EditedRegion
    ) -> None:
        self._views = views
        self._edit, self._reconstruction = edit, reconstruction
        self._region = region
        self._features = AttributeClassifier.load(edit.device).features
        self._edited: list[StateScores] = []
        self._source: list[StateScores] = []
        self._photos: list[StateScores] = []
        self._outside: list[float] = []
        cameras = views.cameras.to("cpu")
        self._directions = cameras.camera_to_worlds[:, :, 3] - looked_at_ball(cameras, edit.points)[0]

    @torch.no_grad()
    def see(self, index: int) -> Seen:
        """Take a view into account, and return its pictures.

        Args:
            index: Of the training view.
        """
        camera = self._views.full_size_camera(index)
        photo = self._views.full_size_image(index).permute(2, 0, 1)
        inside = self._region.inside(index, camera)
        if inside is not None:
            self._outside.append(1 - inside.float().mean().item())
        source = None
        if self._reconstruction is not None:
            source, difference = self._render(self._reconstruction, index)
            self._source.append(self._compare(source, photo, None, inside, difference))
        edited, difference = self._render(self._edit, index)
        self._edited.append(self._compare(edited, photo, source, inside, difference))
        self._photos.append(self._compare(photo, None, None, inside, math.nan))
        return Seen(photo, edited)

    def scores(self) -> SceneScores:
        """Return the scores over all views that were seen."""
        photos = _mean(self._photos)
        return SceneScores(
            edit=_beside(_mean(self._edited), photos),
            reconstruction=_beside(_mean(self._source), photos) if self._source else None,
            outside_share=mean(torch.tensor(self._outside)),
        )

    def _render(self, model: SceneModel, index: int) -> tuple[Float[Tensor, "3 height width"], float]:
        """Return what the model shows a view, and how far it disagrees with a neighbouring one."""
        camera = self._views.full_size_camera(index)
        outputs = model.get_outputs_for_camera(copy.copy(camera))
        picture = outputs["rgb"].clamp(0, 1).permute(2, 0, 1)
        neighbour = neighbour_of(index, self._directions)
        if neighbour is None:
            return picture, math.nan
        own = look_of(model, camera, None if _lens(camera) else outputs)
        other = look_of(model, self._views.full_size_camera(neighbour))
        return picture, view_difference(own, other).item()

    def _compare(
        self,
        image: Float[Tensor, "3 height width"],
        photo: Float[Tensor, "3 height width"] | None,
        source: Float[Tensor, "3 height width"] | None,
        inside: Bool[Tensor, "height width"] | None,
        difference: float,
    ) -> StateScores:
        """Return the scores of one view, with the energies of its gradients in the place of its sharpness."""
        if inside is None:
            return StateScores(view_difference=difference)
        outside, numbers = ~inside, {}
        for name, reference in (("photos", photo), ("reconstruction", source)):
            if reference is not None:
                decibels = psnr(image[None], reference[None], outside[None]).clamp(max=MOST_DECIBELS)
                numbers[f"psnr_to_{name}"] = decibels.item()
                distance = perceptual_in_tiles(self._features, image, reference, outside)
                numbers[f"perceptual_to_{name}"] = distance.item()
        return StateScores(
            **numbers,
            sharpness_outside=gradient_energy(image[None], outside[None]).item(),
            sharpness_inside=gradient_energy(image[None], inside[None]).item(),
            view_difference=difference,
        )


def _mean(rows: Sequence[StateScores]) -> StateScores:
    """Return the mean of each number over the views that have it."""
    return StateScores(
        **{f.name: mean(torch.tensor([getattr(row, f.name) for row in rows])) for f in fields(StateScores)}
    )


def _beside(scores: StateScores, photos: StateScores) -> StateScores:
    """Return scores with energies made shares of those of the photos."""
    names = ("sharpness_outside", "sharpness_inside")
    most = asdict(photos)
    return replace(scores, **{name: getattr(scores, name) / most[name] if most[name] else math.nan for name in names})


def neighbour_of(index: int, directions: Float[Tensor, "views 3"]) -> int | None:
    """Return the view that looks at the scene from nearest to 10° beside another; None if there is only one view.

    Nearer ones, as in videos, see the same whatever the scene is like; farther ones see other parts of it.

    Args:
        index: Of the other.
        directions: From what all views look at to their cameras, of any length but 0.
    """
    if len(directions) < 2:
        return None
    units = torch.nn.functional.normalize(directions.double(), dim=1)
    angles = (units @ units[index]).clamp(-1, 1).arccos()
    off = (angles - APART).abs()
    off[index] = math.inf
    return int(off.argmin())


def look_of(model: SceneModel, camera: Cameras, outputs: dict[str, Tensor] | None = None) -> Look:
    """Return what a model shows a pinhole camera with the place and the focal length of a view's camera.

    A scene can be seen by any camera: so that of a fisheye's or a distorted view is left out of its lens. Of a
    panorama it has 90° across.

    Args:
        model: Set to eval.
        camera: Of the view.
        outputs: What the model shows this camera, if it is a pinhole camera and that is at hand.
    """
    camera = pinhole(camera)
    if outputs is None:
        outputs = model.get_outputs_for_camera(copy.copy(camera))
    focal, center = (
        torch.stack([getattr(camera, name)[0, 0] for name in names]) for names in (("fx", "fy"), ("cx", "cy"))
    )
    depth = outputs["depth"][..., 0]
    look = Look(
        outputs["rgb"].clamp(0, 1), depth, outputs["accumulation"][..., 0], camera.camera_to_worlds[0], focal, center
    )
    # nerfstudio's depth of a NeRF is a distance along the ray.
    return look if model.kind == "splat" else look.at_distances(depth)


def pinhole(camera: Cameras) -> Cameras:
    """Return a camera at the same place, of the same size, without a lens."""
    if not _lens(camera):
        return camera
    across, down = camera.fx, camera.fy
    if camera.camera_type.item() == CameraType.EQUIRECTANGULAR.value:
        across = down = camera.width / 2
    return Cameras(camera.camera_to_worlds, across, down, camera.cx, camera.cy, camera.width, camera.height)


def _lens(camera: Cameras) -> bool:
    """Return whether a camera is more than a pinhole."""
    bent = camera.distortion_params is not None and bool(camera.distortion_params.any())
    return bent or camera.camera_type.item() != CameraType.PERSPECTIVE.value
