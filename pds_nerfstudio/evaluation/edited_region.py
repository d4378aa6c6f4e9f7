"""Where an edit may change a view, and where it should leave all as it was: inside and outside, as scores say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.models.splat import EditSplatModel

_LIGHT = 0.01
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# Of the real spherical harmonics, the constant one: 3D Gaussian Splatting (Kerbl et al., 2023) makes a colour of a
# Gaussian's first coefficient by ½ + this · coefficient.
_FIRST_HARMONIC = 0.28209479177387814


class EditedRegion(Protocol):
    """Says where an edit may change a view."""

    words: str
    """What is outside, as a reader should know it."""

    def inside(self, index: int, camera: Cameras) -> Bool[Tensor, "height width"] | None:
        """Return the pixels that the edit may change.

        Args:
            index: Of the training view.
            camera: Of the view, at the size of the photo.

        Returns:
            None if nothing is known of this view.
        """


class NothingKnown:
    """No region: whole pictures count, as if the edit should have changed nothing."""

    words = "whole pictures, as no region of the edit is known (--masks names one)"

    def inside(self, index: int, camera: Cameras) -> Bool[Tensor, "height width"]:
        """Return no pixel."""
        return torch.zeros(int(camera.height.item()), int(camera.width.item()), dtype=torch.bool, device=camera.device)


class MaskFolder:
    """A folder of masks, white where the edit may act, each named as its photo, of any size.

    Args:
        folder: With a mask for some or all views.
        photos: The files of all training views.

    Raises:
        UserError: If it has a mask for none of them.
    """

    def __init__(self, folder: Path, photos: Sequence[Path]) -> None:
        if not folder.is_dir():
            raise UserError(f"--masks {folder}: there is no such folder.")
        masks = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _PICTURES}
        self._masks = [masks.get(photo.stem) for photo in photos]
        found = sum(mask is not None for mask in self._masks)
        if not found:
            raise UserError(
                f"--masks {folder} has a mask for none of the views: name each as its photo, like {photos[0].stem}.png."
            )
        self.words = f"outside the masks in {folder}"
        if found < len(photos):
            self.words += f", which has some for {found} of {len(photos)} views; others have no outside"

    def inside(self, index: int, camera: Cameras) -> Bool[Tensor, "height width"] | None:
        """Return the pixels that are white in the view's mask, scaled to the view.

        Raises:
            UserError: If the file can't be read.
        """
        path = self._masks[index]
        if path is None:
            return None
        size = int(camera.width.item()), int(camera.height.item())
        try:
            with Image.open(path) as file:
                mask = file.convert("L").resize(size, Image.Resampling.NEAREST)
        except OSError as error:
            raise UserError(f"The mask {path} can't be read ({error}): save it as a PNG.") from None
        return torch.from_numpy(np.asarray(mask) > 127).to(camera.device)


@dataclass(frozen=True)
class State:
    """A splat with what an edit may change in it."""

    model: EditSplatModel
    """The scene, before or after the edit."""
    free: Bool[Tensor, " gaussians"]
    """The Gaussians that the edit may change, or has made."""


class Selection:
    """The run's own selection: pixels to which Gaussians that may change add 1 % of the light, before or after it.

    Args:
        edit: After the edit.
        reconstruction: Before it, if that is known. A Gaussian of it that is not among the frozen ones of the edit, to
            the bit, has been changed or removed.
    """

    words = "outside the run's selection, where Gaussians that may change add less than 1 % of the light"

    def __init__(self, edit: State, reconstruction: EditSplatModel | None) -> None:
        self._states = [edit]
        if reconstruction is not None:
            frozen = edit.model.means[~edit.free]
            self._states.append(State(reconstruction, ~rows_among(reconstruction.means, frozen)))

    def inside(self, index: int, camera: Cameras) -> Bool[Tensor, "height width"]:
        """Return the pixels that are lit by Gaussians that may change."""
        lit = [share_of_light(state.model, camera, state.free) >= _LIGHT for state in self._states]
        return torch.stack(lit).any(0)


def rows_among(rows: Float[Tensor, "n columns"], others: Float[Tensor, "m columns"]) -> Bool[Tensor, " n"]:
    """Return which rows are among others, equal in all bits."""

    def whole(values: Tensor) -> np.ndarray:
        array = np.ascontiguousarray(values.detach().float().cpu().numpy())
        return array.view(np.dtype((np.void, array.shape[1] * 4)))[:, 0]

    known = set(whole(others).tolist())
    return torch.tensor([row in known for row in whole(rows).tolist()], dtype=torch.bool, device=rows.device)


@torch.no_grad()
def share_of_light(
    model: EditSplatModel, camera: Cameras, chosen: Bool[Tensor, " gaussians"]
) -> Float[Tensor, "height width"]:
    """Return which share of each pixel's light comes from some Gaussians: what a view of them is, were they white.

    Args:
        model: Of the Gaussians; set to eval. Its colours are others for as long as this takes.
        camera: One camera.
        chosen: The Gaussians.
    """
    first, others = model.gauss_params["features_dc"].data, model.gauss_params["features_rest"].data
    # Without harmonics nerfstudio takes the sigmoid of what it keeps.
    white = 0.5 / _FIRST_HARMONIC if model.config.sh_degree else 30.0
    model.gauss_params["features_dc"].data = torch.where(chosen[:, None], white, -white).expand_as(first).contiguous()
    model.gauss_params["features_rest"].data = torch.zeros_like(others)
    try:
        outputs = model.get_outputs_for_camera(camera.to(model.device))
    finally:
        model.gauss_params["features_dc"].data, model.gauss_params["features_rest"].data = first, others
    behind = (1 - outputs["accumulation"]) * outputs["background"]
    return (outputs["rgb"] - behind)[..., 0]
