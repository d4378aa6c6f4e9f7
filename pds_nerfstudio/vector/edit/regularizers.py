"""What keeps curves drawable."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def crossing_angles(ctrl: Float[Tensor, "s 4 2"], turns_left: Bool[Tensor, " s"]) -> Float[Tensor, " s"]:
    """Return how far the two end tangents of each cubic A B C D turn towards crossing each other.

    This is the self-crossing ("Xing") term of LIVE (Ma et al. 2022, section 3.4): with D1 = [AB × BC > 0] and
    D2 = (AB × CD) / (|AB| |CD|), it is D1 · relu(−D2) + (1 − D1) · relu(D2), the sine by which CD has turned
    the other way than the curve sets out.

    Args:
        ctrl: Control points.
        turns_left: D1. Held fixed over an edit, it cannot flip and turn the term around.

    Returns:
        Numbers in 0..1; 0 for a curve that turns one way only, and for straight lines.
    """
    first, last = ctrl[:, 1] - ctrl[:, 0], ctrl[:, 3] - ctrl[:, 2]
    lengths = (first.square().sum(-1) * last.square().sum(-1)).clamp(min=1e-12).sqrt()
    sine = _cross(first, last) / lengths
    return torch.where(turns_left, (-sine).relu(), sine.relu())


class CrossingLoss:
    """The self-crossing term less the source's own, so that S-curves of the source are left alone."""

    def __init__(self, ctrl: Float[Tensor, "s 4 2"]) -> None:
        """Remember the source's control points."""
        ctrl = ctrl.detach()
        self._turns_left = _cross(ctrl[:, 1] - ctrl[:, 0], ctrl[:, 2] - ctrl[:, 1]) > 0
        self._before = crossing_angles(ctrl, self._turns_left)

    def __call__(self, ctrl: Float[Tensor, "s 4 2"]) -> Float[Tensor, ""]:
        """Return the sum over all segments, each weighted by its shorter end tangent, in the units of the points.

        That weight bounds the gradient by a point by 1, whatever the size of the segment.
        """
        ends = torch.stack([ctrl[:, 1] - ctrl[:, 0], ctrl[:, 3] - ctrl[:, 2]]).detach()
        weight = ends.norm(dim=-1).amin(0)
        return ((crossing_angles(ctrl, self._turns_left) - self._before).relu() * weight).sum()
