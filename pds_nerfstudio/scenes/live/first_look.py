"""Where a browser looks from when it comes: from the first training view, as the report and the progress do."""

from __future__ import annotations

import math

import numpy as np
import viser.transforms as vtf
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from viser import ClientHandle

_BEYOND = 1.1
"""Where a browser looks from, as a multiple of the distance at which the camera's photo hangs."""


def look_from(client: ClientHandle, camera: Cameras, scale: float) -> None:
    """Let a browser look from where a camera is, at all that the camera sees.

    Args:
        client: The browser, whose picture may be of another shape.
        camera: One camera.
        scale: Of the pyramids that show cameras: the photo of this one hangs before it, in front of the scene.
    """
    before = _BEYOND * distance_of_photo(camera, scale)
    pose = camera.camera_to_worlds.flatten()[:12].reshape(3, 4).cpu().double().numpy()
    turned = vtf.SO3.from_matrix(pose[:, :3]) @ vtf.SO3.from_x_radians(np.pi)  # viser looks along +z
    with client.atomic():
        client.camera.position = pose[:, 3] * VISER_NERFSTUDIO_SCALE_RATIO - before * pose[:, 2]
        client.camera.wxyz = turned.wxyz
        if int(camera.camera_type.flatten()[0]) == CameraType.PERSPECTIVE.value:
            client.camera.fov = field_of_view(camera, client.camera.aspect)


def distance_of_photo(camera: Cameras, scale: float) -> float:
    """Return how far before a camera its photo hangs in the viewer, in viser's units.

    viser draws a camera as a pyramid whose volume, and not whose height, depends on its scale alone: the narrower it
    is, the longer.

    Args:
        camera: One camera.
        scale: Of its pyramid, nerfstudio's `camera_frustum_scale`.
    """
    cx, cy, fx = (float(x.flatten()[0]) for x in (camera.cx, camera.cy, camera.fx))
    high = cx / fx  # what nerfstudio gives as half the height at a distance of one
    wide = high * cx / cy
    return scale / math.cbrt(high * wide / 3)


def field_of_view(camera: Cameras, aspect: float) -> float:
    """Return the vertical angle at which a picture of another shape shows all that a camera sees.

    Args:
        camera: One camera, a plain one.
        aspect: Of the picture: its width by its height.
    """
    height, width, fx, fy = (float(x.flatten()[0]) for x in (camera.height, camera.width, camera.fx, camera.fy))
    return 2 * math.atan(max(height / (2 * fy), width / (2 * fx) / aspect))
