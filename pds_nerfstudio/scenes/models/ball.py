"""The ball that all cameras look at, in which an edit may want to let new things grow."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor


def looked_at_ball(
    cameras: Cameras, surface: Float[Tensor, "n_points 3"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
    """Return centre and radius of the ball that all cameras look at.

    The centre is the point nearest to all optical axes, in the sense of least squares; where the axes are parallel and
    don't say how far away it is, the scene's median does. The radius is what the average camera has in view there.

    Args:
        cameras: The training cameras.
        surface: Points of the scene's surfaces, in the same space.
    """
    poses = cameras.camera_to_worlds.to(surface)
    origins, forward = poses[:, :, 3], torch.nn.functional.normalize(-poses[:, :, 2], dim=-1)
    across = torch.eye(3, device=surface.device) - forward[:, :, None] * forward[:, None, :]
    weight = 1e-3 * len(poses)
    center = torch.linalg.solve(
        across.sum(0) + weight * torch.eye(3, device=surface.device),
        (across @ origins[:, :, None]).sum(0)[:, 0] + weight * surface.median(0).values,
    )
    shorter_side = torch.minimum(cameras.width / cameras.fx, cameras.height / cameras.fy).mean().to(surface)
    return center, (origins - center).norm(dim=-1).mean() * shorter_side / 2


def random_in_ball(n: int, center: Float[Tensor, "3"], radius: Float[Tensor, ""]) -> Float[Tensor, "n 3"]:
    """Return random points, evenly over a ball."""
    direction = torch.nn.functional.normalize(torch.randn(n, 3, device=center.device), dim=-1)
    return center + radius * torch.rand(n, 1, device=center.device) ** (1 / 3) * direction
