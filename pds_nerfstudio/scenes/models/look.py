"""What a pinhole camera sees of a scene, as points in space.

All is in the conventions of nerfstudio: cameras look along −z with y up, and the middle of the first pixel is at ½.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


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

    def project(
        self, points: Float[Tensor, "*points 3"]
    ) -> tuple[Float[Tensor, "*points 2"], Float[Tensor, "*points"]]:
        """Return where points are seen, in pixels from the left and from the top, and their depths."""
        local = (points - self.camera_to_world[:, 3]) @ self.camera_to_world[:, :3]
        depth = -local[..., 2]
        across = local[..., :2] * local.new_tensor([1.0, -1.0]) / depth[..., None]
        return across * self.focal + self.center, depth
