"""Mirror symmetry of outlines: what is its own mirror image, what is another's, and the nearest outline that is again.

A mirror is known by which point it takes to which. The nearest mirror of some points then has a closed form, and with
it the nearest points that are symmetric. So nothing need be said of where the axis lies: a symmetric part that has been
moved, turned and stretched is symmetric about an axis that went along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Points = Float[Tensor, "n 2"]
Segments = Int[Tensor, "s 4"]

_NEAR = 0.004
"""Share of an outline's size by which a point may miss its mirror image."""
MOST_SEGMENTS = 400
"""Segments of an outline; of longer ones nobody sees whether they are symmetric, and all pairs are compared."""


@dataclass(frozen=True)
class Mirror:
    """Which point is the mirror image of which."""

    partner: Int[Tensor, " n"]
    """The row of each point's image; the image's image is the point itself."""

    def nearest(self, points: Points) -> Points:
        """Return the nearest points that are symmetric, about the axis that suits them best.

        Args:
            points: As many as have partners.
        """
        center = points.mean(0)
        own = points - center
        image = own[self.partner]
        # Of all mirrors x -> R x about an axis at angle a, the sum of products of image and R own is greatest for this.
        along = (image[:, 0] * own[:, 0] - image[:, 1] * own[:, 1]).sum()
        across = (image[:, 0] * own[:, 1] + image[:, 1] * own[:, 0]).sum()
        return center + (own + _mirrored(image, torch.atan2(across, along))) / 2


def _mirrored(points: Points, twice: Tensor) -> Points:
    """Return points mirrored about an axis through the origin.

    Args:
        points: To be mirrored.
        twice: Twice the angle of the axis.
    """
    cosine, sine = twice.cos(), twice.sin()
    return torch.stack([cosine * points[:, 0] + sine * points[:, 1], sine * points[:, 0] - cosine * points[:, 1]], 1)


def mirror_of(points: Points, segments: Segments) -> Mirror | None:
    """Return the mirror that takes an outline to itself; None if there is none.

    Of several, as a square has, the one about the axis nearest to upright is returned.

    Args:
        points: Of the outline.
        segments: Rows of `points`, the control points of each cubic.
    """
    return _mirror(points, segments, segments)


def mirror_between(points: Points, one: Segments, other: Segments) -> Mirror | None:
    """Return the mirror that takes one outline to another and back; None if there is none.

    Args:
        points: Of both.
        one: Segments of the one, rows of `points`.
        other: Segments of the other.
    """
    return _mirror(points, one, other)


def _mirror(points: Points, one: Segments, other: Segments) -> Mirror | None:
    if len(one) != len(other) or not 1 < len(one) <= MOST_SEGMENTS:
        return None
    center = points.mean(0)
    size = float((points - center).norm(dim=1).max())
    if size == 0:
        return None
    own = (points - center) / size
    for twice in _axes(own, one, other):
        partner = _partners(own, _mirrored(own, twice), one, other)
        if partner is not None:
            return Mirror(partner)
    return None


def _axes(points: Points, one: Segments, other: Segments) -> Sequence[Tensor]:
    """Return twice the angles of the axes that may be, those nearest to upright first.

    The point of the one that is farthest from the middle must go to a point of the other which is as far.
    """
    ends = one[:, [0, 3]].reshape(-1)
    far = ends[points[ends].norm(dim=1).argmax()]
    there = torch.unique(other[:, [0, 3]].reshape(-1))
    there = there[(points[there].norm(dim=1) - points[far].norm()).abs() < _NEAR]
    angle = torch.atan2(points[:, 1], points[:, 0])
    twice = angle[far] + angle[there]
    upright = (twice - torch.pi).cos()
    return [twice[i] for i in upright.argsort(descending=True)]


def _partners(points: Points, images: Points, one: Segments, other: Segments) -> Int[Tensor, " n"] | None:
    """Return which point each is taken to, if segments are taken to segments."""
    partner = torch.full((len(points),), -1, dtype=torch.long, device=points.device)
    for here, there in ((one, other), (other, one)):
        image = images[here]
        ways = torch.stack([points[there], points[there.flip(1)]])  # a mirror turns the direction around
        away = (image[None, :, None] - ways[:, None]).norm(dim=-1).amax(-1)
        best = away.amin(0).argmin(1)
        rows = torch.arange(len(here), device=points.device)
        if float(away.amin(0)[rows, best].max()) > _NEAR or len(torch.unique(best)) < len(best):
            return None
        turned = away[:, rows, best].argmin(0).bool()
        target = torch.where(turned[:, None], there[best].flip(1), there[best])
        known = partner[here]
        if bool(((known >= 0) & (known != target)).any()):
            return None
        partner[here] = target
    rows = torch.arange(len(points), device=points.device)
    partner = torch.where(partner < 0, rows, partner)
    return partner if torch.equal(partner[partner], rows) else None
