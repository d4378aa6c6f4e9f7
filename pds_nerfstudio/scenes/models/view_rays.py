"""Rays through all pixels of views, of which many differ in nothing but where their camera is."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

Lens = tuple[float, ...]
"""What decides a camera's rays, beside where it is."""

_LENSES = 4
"""Lenses of which rays are kept: ten megabytes each at 512 × 512."""
_TO_ITS_CENTRE = {
    CameraType.PERSPECTIVE.value,
    CameraType.FISHEYE.value,
    CameraType.EQUIRECTANGULAR.value,
    CameraType.FISHEYE624.value,
}
"""Kinds of cameras whose rays all begin where the camera is."""
_RIGID = 1e-5
"""How far from perpendicular, and of length one, a camera's axes may be."""


class ViewRays:
    """Makes rays of views, as nerfstudio does.

    nerfstudio lists a view's pixels on the CPU and asks the device about its cameras, for whose answers everything
    waits. Here it does so once a lens, for a camera at the origin, whose rays are then turned and moved.
    """

    def __init__(self) -> None:
        self._lenses: dict[int, Lens | None] = {}
        self._rays: OrderedDict[Lens, RayBundle] = OrderedDict()

    def __call__(self, camera: Cameras, index: int) -> RayBundle:
        """Return the rays of a view, height × width.

        Args:
            camera: One camera.
            index: Of the view, whose camera is always the same.
        """
        if index not in self._lenses:
            self._lenses[index] = _lens_of(camera)
        lens = self._lenses[index]
        if lens is None:
            return camera.generate_rays(camera_indices=0, keep_shape=True)
        if lens not in self._rays:
            at_origin = replace(camera, camera_to_worlds=torch.eye(4).to(camera.camera_to_worlds)[None, :3])
            self._rays[lens] = at_origin.generate_rays(camera_indices=0, keep_shape=True)
            if len(self._rays) > _LENSES:
                self._rays.popitem(last=False)
        self._rays.move_to_end(lens)
        rays, pose = self._rays[lens], camera.camera_to_worlds[0]
        return replace(
            rays,
            origins=pose[:, 3].expand_as(rays.origins),
            directions=_turned(rays.directions, pose[:, :3]),
            metadata={**rays.metadata, **(camera.metadata or {})},
        )


def _turned(
    directions: Float[Tensor, "height width 3"], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "height width 3"]:
    # No product of matrices, which an autocast region would compute in half precision.
    return F.normalize((directions[..., None, :] * rotation).sum(-1), dim=-1)


def _lens_of(camera: Cameras) -> Lens | None:
    """Return the lens of a camera; None if there is more to its rays than a lens that is turned and moved."""
    rotation = camera.camera_to_worlds[0, :, :3].double()  # which an autocast region leaves alone
    rigid = bool(((rotation @ rotation.T - torch.eye(3).to(rotation)).abs() < _RIGID).all())
    told = any(isinstance(value, Tensor) for value in (camera.metadata or {}).values())
    if not rigid or told or camera.times is not None or int(camera.camera_type) not in _TO_ITS_CENTRE:
        return None
    numbers = camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height, camera.camera_type
    distortion = camera.distortion_params
    bent = [] if distortion is None else [float(distortion.shape[-1]), *distortion.flatten().tolist()]
    return *(float(number) for number in numbers), *bent
