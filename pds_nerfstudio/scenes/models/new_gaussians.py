"""Gaussians that are added to a splat, as splatfacto has them: round, and of one colour from all sides."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.splatfacto import RGB2SH, random_quat_tensor
from scipy.spatial import KDTree
from torch import Tensor

from pds_nerfstudio.scenes.models.ball import looked_at_ball, random_in_ball
from pds_nerfstudio.scenes.models.seeds import Seeds

FEWEST = 16
"""Seeds that are worth planting: the size of each follows from those around it."""
_OPACITY = 0.3
_NEIGHBOURS = 3

NewGaussians = dict[str, Float[Tensor, "new *features"]]
"""Parameters by splatfacto's names. What is left out is 0."""


def strewn(
    n: int,
    cameras: Cameras,
    means: Float[Tensor, "gaussians 3"],
    features_dc: Float[Tensor, "gaussians 3"],
    opacity: float,
) -> NewGaussians:
    """Return Gaussians evenly over the ball that the cameras look at, coloured like what is nearest.

    Args:
        n: How many.
        cameras: The training cameras.
        means: Of the Gaussians that are there.
        features_dc: Of the same.
        opacity: Of the new ones.
    """
    center, radius = looked_at_ball(cameras, means)
    points = random_in_ball(n, center, radius)
    spacing = radius * (4 * torch.pi / 3 / n) ** (1 / 3)
    nearest = torch.cat([torch.cdist(part, means).argmin(1) for part in points.split(256)])
    return _round(points, (0.6 * spacing).expand(n), features_dc[nearest], opacity)


def planted(seeds: Seeds) -> NewGaussians:
    """Return Gaussians at points, as large as the points are apart: as splatfacto begins a reconstruction."""
    points = seeds.means.cpu().numpy()
    distances, _ = KDTree(points).query(points, k=_NEIGHBOURS + 1)
    apart = torch.from_numpy(distances[:, 1:]).to(seeds.means).mean(1).clamp_min(1e-6)
    return _round(seeds.means, apart, RGB2SH(seeds.colors), _OPACITY)


def _round(
    means: Float[Tensor, "new 3"], sizes: Float[Tensor, " new"], features_dc: Float[Tensor, "new 3"], opacity: float
) -> NewGaussians:
    n = len(means)
    return {
        "means": means,
        "scales": sizes.log()[:, None].expand(n, 3),
        "quats": random_quat_tensor(n).to(means),
        "features_dc": features_dc,
        "opacities": means.new_full((n, 1), opacity).logit(),
    }
