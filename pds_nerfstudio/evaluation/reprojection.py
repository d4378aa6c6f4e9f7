"""Whether views of a scene agree: the colours of one, carried over to another by the scene's own depth.

All is in the conventions of nerfstudio: cameras look along −z with y up, and the middle of the first pixel is at ½.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.scenes.models.look import Look

APART = math.radians(10)
"""Radians between neighbouring views: nearer ones see the same whatever the scene is like, farther ones other parts."""
_SAME_DEPTH = 0.01
_OPAQUE = 0.5
_PIXEL_SLACK = 1e-2


def carried_over(look: Look, neighbour: Look) -> tuple[Float[Tensor, "height width 3"], Bool[Tensor, "height width"]]:
    """Return the colours that `neighbour` sees at the points that `look` shows, and at which pixels it sees those.

    A point is not seen if it lies beyond the neighbour's frame, or if the neighbour has another depth there, by more
    than 1 %: something is before it. Nor does a pixel count through which one looks more than half.

    Args:
        look: Its depth says which points are meant.
        neighbour: Its colours are taken, between pixels as bilinear interpolation has them.
    """
    at, depth = neighbour.project(look.points())
    size = at.new_tensor([neighbour.depth.shape[1], neighbour.depth.shape[0]])
    channels = torch.cat([neighbour.color, neighbour.depth[..., None], neighbour.opacity[..., None]], -1)
    sampled = F.grid_sample(
        channels.permute(2, 0, 1)[None], (2 * at / size - 1)[None], padding_mode="border", align_corners=False
    )[0].permute(1, 2, 0)
    framed = ((at >= 0.5 - _PIXEL_SLACK) & (at <= size - 0.5 + _PIXEL_SLACK)).all(-1)
    unhidden = (sampled[..., 3] - depth).abs() <= _SAME_DEPTH * depth
    opaque = (look.opacity > _OPAQUE) & (sampled[..., 4] > _OPAQUE)
    return sampled[..., :3], framed & unhidden & opaque & (depth > 0)


def view_difference(
    look: Look, neighbour: Look, where: Bool[Tensor, "height width"] | None = None
) -> Float[Tensor, ""]:
    """Return how far two views disagree: the mean absolute difference of their colours where both see one point.

    0 says that the scene looks the same from both sides. Gloss, fog and what differs from view to view add to it, and
    a little comes from interpolation where there is much detail: so compare with another scene, seen by the same two.

    Args:
        look: A view.
        neighbour: Another of the same scene.
        where: Pixels of `look` to count; None counts all. NaN if the neighbour sees none of them.
    """
    colors, seen = carried_over(look, neighbour)
    counted = seen if where is None else seen & where
    return (look.color - colors)[counted].abs().mean()
