"""What a pinhole camera sees of a scene, as points in space.

All is in the conventions of nerfstudio: cameras look along −z with y up, and the middle of the first pixel is at ½.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

_HAZE = 0.05
"""A pixel's light comes from a surface if its depth has a standard deviation of less than this share of its mean."""


@dataclass(frozen=True)
class Look:
    """What a pinhole camera sees of a scene."""

    color: Float[Tensor, "height width 3"]
    """In 0..1."""
    depth: Float[Tensor, "height width"]
    """Along the optical axis, in the scene's units."""
    opacity: Float[Tensor, "height width"]
    """In 0..1. Where it is small, the depth means little."""
    camera_to_world: Float[Tensor, "3 4"]
    """The camera's pose."""
    focal: Float[Tensor, "2"]
    """Focal lengths, across and down, in pixels."""
    center: Float[Tensor, "2"]
    """The principal point, from the left and from the top, in pixels."""

    def points(self) -> Float[Tensor, "height width 3"]:
        """Return the point of the scene that each pixel shows."""
        height, width = self.depth.shape
        x = (torch.arange(width, device=self.depth.device) + 0.5 - self.center[0]) / self.focal[0]
        y = (torch.arange(height, device=self.depth.device) + 0.5 - self.center[1]) / self.focal[1]
        rays = torch.stack(
            [x.expand(height, width), -y[:, None].expand(height, width), -torch.ones_like(self.depth)], -1
        )
        return (rays * self.depth[..., None]) @ self.camera_to_world[:, :3].T + self.camera_to_world[:, 3]

    def at_distances(self, distances: Float[Tensor, "height width"]) -> Look:
        """Return the same look with the depths of points at some distances from the camera, along the rays."""
        rays = replace(self, depth=torch.ones_like(self.depth)).points() - self.camera_to_world[:, 3]
        return replace(self, depth=distances / rays.norm(dim=-1))

    def project(
        self, points: Float[Tensor, "*points 3"]
    ) -> tuple[Float[Tensor, "*points 2"], Float[Tensor, "*points"]]:
        """Return where points are seen, in pixels from the left and from the top, and their depths."""
        local = (points - self.camera_to_world[:, 3]) @ self.camera_to_world[:, :3]
        depth = -local[..., 2]
        across = local[..., :2] * local.new_tensor([1.0, -1.0]) / depth[..., None]
        return across * self.focal + self.center, depth


def powers_of_depth(points: Float[Tensor, "points 3"], camera: Cameras) -> Float[Tensor, "points 3"]:
    """Return 1, the distance from a camera along its optical axis, and the square of that, of points.

    Gaussians of such colours show the moments of the depth that each pixel sees.
    """
    pose = camera.camera_to_worlds[0].to(points)
    depth = -((points - pose[:, 3]) @ pose[:, 2])
    return torch.stack([torch.ones_like(depth), depth, depth.square()], dim=1)


def look_at_surface(
    color: Float[Tensor, "height width 3"], moments: Float[Tensor, "height width 3"], camera: Cameras
) -> Look:
    """Return a look whose opacity is 0 wherever the light comes from a cloud, which has no depth to speak of.

    Args:
        color: In 0..1.
        moments: What each pixel shows of `powers_of_depth`, before black: the first is its opacity.
        camera: One pinhole camera.
    """
    opacity, *sums = moments.unbind(-1)
    depth, square = (total / opacity.clamp_min(1e-6) for total in sums)
    spread = (square - depth.square()).clamp_min(0).sqrt()
    focal, center = (
        torch.cat([across[0], down[0]]).to(color) for across, down in ((camera.fx, camera.fy), (camera.cx, camera.cy))
    )
    opacity = torch.where(spread < _HAZE * depth, opacity, 0)
    return Look(color, depth, opacity, camera.camera_to_worlds[0].to(color), focal, center)
