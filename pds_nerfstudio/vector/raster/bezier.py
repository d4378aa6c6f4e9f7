"""Cubic Bézier segments: flattening into chords, exact bounding boxes, total turning."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.vector.raster.ragged import expand_counts

MAX_CHORDS = 256
"""No segment is cut into more chords than this, however large it is."""


def chord_counts(ctrl: Float[Tensor, "s 4 2"], tolerance: float) -> Int[Tensor, " s"]:
    """Return how many equal parameter steps keep every chord within `tolerance` of its curve.

    A chord over a step h of a curve with |B''| ≤ D deviates by at most h²D/8, and for a cubic D is 6 times the larger
    second difference of the control polygon (Wang's formula).

    Args:
        ctrl: Control points.
        tolerance: Largest distance between chord and curve, in the units of `ctrl`.
    """
    second = torch.maximum(
        (ctrl[:, 0] - 2 * ctrl[:, 1] + ctrl[:, 2]).norm(dim=-1),
        (ctrl[:, 1] - 2 * ctrl[:, 2] + ctrl[:, 3]).norm(dim=-1),
    )
    return (0.75 * second / tolerance).sqrt().ceil().clamp(1, MAX_CHORDS).long()


def turning(ctrl: Float[Tensor, "s 4 2"]) -> Float[Tensor, " s"]:
    """Return the turning angle of the control polygon in radians, an upper bound on the curve's own."""
    legs = ctrl[:, 1:] - ctrl[:, :-1]
    before, after = legs[:, :-1], legs[:, 1:]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    return torch.atan2(cross, (before * after).sum(-1)).abs().sum(-1)


class _Flatten(torch.autograd.Function):
    """Both ends of every chord. The backward pass is the transposed Bernstein matrix."""

    @staticmethod
    def forward(ctx: Any, ctrl: Tensor, segment: Tensor, t: Tensor) -> Tensor:
        u = 1 - t
        weights = torch.stack([u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t], -1)
        ctx.save_for_backward(weights, segment)
        ctx.segments = ctrl.shape[0]
        return torch.bmm(weights, ctrl[segment])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        weights, segment = ctx.saved_tensors
        out = grad.new_zeros(ctx.segments, 4, 2)
        out.index_add_(0, segment, torch.bmm(weights.transpose(1, 2), grad))
        return out, None, None


def flatten(
    ctrl: Float[Tensor, "s 4 2"], counts: Int[Tensor, " s"]
) -> tuple[Float[Tensor, "e 2 2"], Int[Tensor, " e"]]:
    """Cut every segment into chords at equal parameter steps.

    Args:
        ctrl: Control points.
        counts: Number of chords for each segment, at least 1.

    Returns:
        The chords (start, end), in order along each segment, and the segment of each. To the last bit, a chord ends
        where the next one starts, and the outer ends are control points 0 and 3.
    """
    segment, step = expand_counts(counts)
    n = counts[segment].to(ctrl.dtype)
    t = torch.stack([step.to(ctrl.dtype) / n, (step + 1).to(ctrl.dtype) / n], 1)
    return _Flatten.apply(ctrl, segment, t), segment  # type: ignore[no-untyped-call]


def _extremum_parameters(ctrl: Float[Tensor, "s 4 2"]) -> Float[Tensor, "s 2 2"]:
    """Return the parameters in [0, 1] where a coordinate is extremal: two for each axis, 0 where there is none."""
    a = -ctrl[:, 0] + 3 * ctrl[:, 1] - 3 * ctrl[:, 2] + ctrl[:, 3]
    b = ctrl[:, 0] - 2 * ctrl[:, 1] + ctrl[:, 2]
    c = ctrl[:, 1] - ctrl[:, 0]
    root = (b * b - a * c).clamp(min=0).sqrt()
    # the two roots as q/a and c/q with q = −(b ± root): no cancellation, and sound when a = 0
    q = -(b + torch.where(b < 0, -root, root))
    t = torch.stack([q / torch.where(a == 0, torch.inf, a), c / torch.where(q == 0, torch.inf, q)], 1)
    return torch.where((t > 0) & (t < 1), t, torch.zeros_like(t))


def bounding_boxes(ctrl: Float[Tensor, "s 4 2"], owner: Int[Tensor, " s"], owners: int) -> Float[Tensor, "owners 4"]:
    """Return exact boxes (x min, y min, x max, y max) of groups of segments, differentiable in the control points.

    At an inner extremum the derivative by the parameter is 0, so the parameter may be treated as fixed.

    Args:
        ctrl: Control points.
        owner: Group of each segment.
        owners: Number of groups; a group without segments gets zeros.
    """
    with torch.no_grad():
        t = _extremum_parameters(ctrl)
    u = 1 - t
    p0, p1, p2, p3 = (ctrl[:, k, None] for k in range(4))
    inner = u**3 * p0 + 3 * u * u * t * p1 + 3 * u * t * t * p2 + t**3 * p3
    values = torch.cat([ctrl[:, :1], inner, ctrl[:, 3:]], 1).flatten(0, 1)
    index = owner.repeat_interleave(4)[:, None].expand(-1, 2)
    zeros = values.new_zeros(owners, 2)
    low = zeros.scatter_reduce(0, index, values, "amin", include_self=False)
    high = zeros.scatter_reduce(0, index, values, "amax", include_self=False)
    return torch.cat([low, high], 1)
