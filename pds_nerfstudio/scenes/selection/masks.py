"""Masks of a scene's views, from a folder of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.views import SourceViews


def read_masks(folder: Path, views: SourceViews) -> dict[int, Float[Tensor, "height width"]]:
    """Return how much each pixel of some views may change, in 0..1 and at the size of the guidance.

    Args:
        folder: Of pictures named as the views' images, whatever their suffix and size. Their opacity counts if they
            have any, else their brightness.
        views: Of the scene.

    Returns:
        The masks there are, by the numbers of their views.

    Raises:
        UserError: If a file is no picture, no file is named as an image, or nothing may change.
    """
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.is_file()}
    names = [path.stem for path in views.outputs.image_filenames]
    masks = {}
    for index, name in enumerate(names):
        if name not in files:
            continue
        camera = views.view_cameras[index]
        size = int(camera.height.item()), int(camera.width.item())
        mask = _read(files[name])
        if views.without_lens:
            mask = _as_seen(mask, views.outputs.cameras[index])
        shown = torch.from_numpy(np.ascontiguousarray(mask)).to(camera.device).float()[None, None] / 255
        masks[index] = F.interpolate(shown, size, mode="bilinear", antialias=True)[0, 0]
    if not masks:
        raise UserError(f"--pipeline.only.masks {folder} holds no mask named as an image, as {names[0]}.png would be.")
    if not any(bool((mask > 0).any()) for mask in masks.values()):
        raise UserError(f"--pipeline.only.masks {folder} are all black and let nothing change: make what may white.")
    return masks


def _read(path: Path) -> UInt8[np.ndarray, "height width"]:
    try:
        with Image.open(path) as picture:
            opacity = np.array(picture.convert("RGBA").getchannel("A"))
            return opacity if opacity.min() < 255 else np.array(picture.convert("L"))
    except OSError as error:
        raise UserError(f"{path} is no picture that can be read: give a PNG, or leave it out of the folder.") from error


def _as_seen(mask: UInt8[np.ndarray, "height width"], camera: Cameras) -> UInt8[np.ndarray, "seen_height seen_width"]:
    """Return a mask of a photograph as one of the view that nerfstudio makes of it, without the lens's distortion."""
    distortion = camera.distortion_params
    if distortion is None or not bool(distortion.any()):
        return mask
    size = int(camera.width.item()), int(camera.height.item())
    photograph = np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR))] * 3, axis=-1)
    intrinsics = camera.get_intrinsics_matrices().numpy()
    _, view, _ = _undistort_image(camera, distortion.numpy(), {}, photograph, intrinsics)
    return view[..., 0]
