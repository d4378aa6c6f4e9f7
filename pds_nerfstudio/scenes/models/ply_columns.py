"""What a .ply file holds of a splat's Gaussians."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from nerfstudio.models.splatfacto import SplatfactoModel
from torch import Tensor


def ply_columns(gaussians: SplatfactoModel) -> Mapping[str, Float[Tensor, " gaussians"]]:
    """Return what a .ply file holds of each Gaussian, in the order and with the names of Kerbl et al., 2023.

    Args:
        gaussians: Of the scene.
    """
    n = gaussians.num_points
    return {
        **dict(zip(("x", "y", "z"), gaussians.means.T, strict=True)),
        **dict.fromkeys(("nx", "ny", "nz"), torch.zeros(n)),
        **{f"f_dc_{i}": column for i, column in enumerate(gaussians.shs_0.T)},
        **{f"f_rest_{i}": column for i, column in enumerate(gaussians.shs_rest.transpose(1, 2).reshape(n, -1).T)},
        "opacity": gaussians.opacities[:, 0],
        **{f"scale_{i}": column for i, column in enumerate(gaussians.scales.T)},
        **{f"rot_{i}": column for i, column in enumerate(gaussians.quats.T)},
    }
