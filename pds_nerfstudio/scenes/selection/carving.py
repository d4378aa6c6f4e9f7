"""Where in space masks of a scene's views let it change, for scenes that are not made of things which could be chosen.

All of space is cut into cells; a cell may change if at least half of the views with masks see it, and each of those
shows it inside: the visual hull (Laurentini, IEEE PAMI 1994), by rays, so that a view may have any lens. What few views
see lies beside the scene, or far behind what is selected.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

CELLS = 128
"""Along a side of the cube that space is contracted to; in the unit cube around the scene's origin a cell has 1/32."""
_RAYS = 65536
"""Of one view, at most."""
_POINTS = 4 * CELLS
"""Along a ray: some to a cell, in the unit cube and beyond."""


def cells_of(points: Float[Tensor, "*points 3"]) -> Int[Tensor, "*points 3"]:
    """Return the cells of points, by their numbers along each axis; what is far away shares large cells.

    Space is contracted into the cube from -2 to 2 (mip-NeRF 360, equation 10, with the largest coordinate as the norm).
    """
    size = points.abs().amax(-1, keepdim=True)
    contracted = torch.where(size < 1, points, (2 - 1 / size) * points / size)
    return ((contracted + 2) / 4 * CELLS).long().clamp(0, CELLS - 1)


def carve(
    cameras: Cameras, masks: Mapping[int, Float[Tensor, "_ _"]], threshold: float
) -> Bool[Tensor, "cells cells cells"]:
    """Return which cells of space may change.

    Args:
        cameras: Of all views.
        masks: Of some views, by their numbers, in 0..1 and of their cameras' sizes.
        threshold: Share of a view's rays through a cell that has to lie inside its mask.
    """
    free = torch.ones(CELLS**3, dtype=torch.bool, device=cameras.device)
    seen = torch.zeros(CELLS**3, dtype=torch.int32, device=cameras.device)
    for index, mask in masks.items():
        rays = cameras.generate_rays(camera_indices=index, keep_shape=True)
        stride = max(1, round((mask.numel() / _RAYS) ** 0.5))
        some, inside = rays[::stride, ::stride].flatten(), (mask >= 0.5)[::stride, ::stride].flatten().to(free.device)
        through = torch.zeros(2, CELLS**3, dtype=torch.int32, device=free.device)
        for distance in _distances(free.device):
            x, y, z = cells_of(some.origins + distance * some.directions).unbind(-1)
            cells = (x * CELLS + y) * CELLS + z
            through[0].index_add_(0, cells, torch.ones_like(cells, dtype=torch.int32))
            through[1].index_add_(0, cells, inside.to(torch.int32))
        free &= (through[0] == 0) | (through[1] >= threshold * through[0])
        seen += through[0] > 0
    return (free & (2 * seen >= len(masks))).view(CELLS, CELLS, CELLS)


def _distances(device: torch.device) -> Float[Tensor, " points"]:
    """Return the distances of points along a ray: even up to 2, then even in disparity, to where cells are endless."""
    near = torch.linspace(0.01, 2, _POINTS, device=device)
    return torch.cat([near, 2 / torch.linspace(1, 0.005, _POINTS, device=device)[1:]])
