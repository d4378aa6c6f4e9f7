"""Strokes as directed edges whose nonzero winding region is the stroked area (SVG 2, section 13.5).

Every edge of a polyline contributes the rectangle it sweeps, every joint the wedge on its outer side, every end its
cap. All pieces turn the same way, so their winding numbers only add up, and the region where the sum is not 0 is
exactly their union. That holds also where the curvature radius is below half the width, and an offset curve would fold
back on itself. On the inner side of a joint, two rectangles overlap in a kite. Where the kite lies inside of both, one
copy of it is taken away again, which leaves winding 1 everywhere along an ordinary stroke.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.polyline import Polylines, lengths, neighbours
from pds_nerfstudio.vector.raster.ragged import expand_counts
from pds_nerfstudio.vector.raster.scene import Cap, Join


@dataclass(frozen=True)
class Pens:
    """How each contour is stroked."""

    half_width: Float[Tensor, " c"]
    """Half the stroke width, in the units of the points."""
    join: Int[Tensor, " c"]
    """A `Join`."""
    cap: Int[Tensor, " c"]
    """A `Cap`."""
    miter_limit: Float[Tensor, " c"]
    """Longest miter, as a multiple of the width."""
    tolerance: Float[Tensor, " c"]
    """Largest distance between an arc and the chords that replace it, in the units of the points."""


class _Outline:
    """Directed edges so far, and the contour of each."""

    def __init__(self) -> None:
        self._edges: list[Tensor] = []
        self._contours: list[Tensor] = []

    def line(self, start: Tensor, end: Tensor, contour: Tensor) -> None:
        self._edges.append(torch.stack([start, end], 1))
        self._contours.append(contour)

    def arc(self, centre: Tensor, start: Tensor, end: Tensor, angle: Tensor, contour: Tensor, pens: Pens) -> None:
        """Add chords of the arc about `centre` that turns `start` by `angle` ≥ 0, from x towards y, to `end`."""
        with torch.no_grad():
            step = arc_step(pens.half_width[contour], pens.tolerance[contour])
            count = (angle / step).ceil().clamp(min=1).long()
            owner, k = expand_counts(count)
            turns = torch.stack([k, k + 1], 1) * (angle / count)[owner][:, None]
            cos, sin = turns.cos()[..., None], turns.sin()[..., None]
            last = (k + 1 == count[owner])[:, None]
        packed = torch.cat([centre, start - centre, end], 1).index_select(0, owner)
        centre, radius, end = packed[:, None].split(2, -1)
        from_, to = (centre + radius * cos + _quarter_turn(radius) * sin).unbind(1)
        self.line(from_, torch.where(last, end.squeeze(1), to), contour[owner])

    def collect(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self._edges), torch.cat(self._contours)


def arc_step(radius: Float[Tensor, " n"], tolerance: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the angle of a chord that deviates from its circle by `tolerance`: r (1 − cos(θ/2)) ≈ r θ²/8."""
    return (8 * tolerance / radius.clamp(min=1e-30)).sqrt().clamp(max=1.0)


def stroke_outline(lines: Polylines, pens: Pens) -> tuple[Float[Tensor, "m 2 2"], Int[Tensor, " m"]]:
    """Return edges whose nonzero winding region is the stroke, differentiable in the points and the width.

    Args:
        lines: What to stroke, without edges of length 0 except for contours that are a single point; those get their
            caps, as SVG asks for.
        pens: One for each contour.

    Returns:
        The directed edges, in no order, and the contour of each. Together, the edges of a contour are closed.
    """
    edges, contour = lines.edges, lines.contour
    length = lengths(edges)
    flat = length == 0
    from_, to = edges.unbind(1)
    along = (to - from_) / torch.where(flat, 1, length)[:, None]
    along = torch.where(flat[:, None], _right(along), along)
    half = pens.half_width.index_select(0, contour)
    reach = along * half[:, None]
    side = _quarter_turn(reach)
    left_from, left_to, right_from, right_to = from_ + side, to + side, from_ - side, to - side
    outline = _Outline()
    outline.line(right_from, right_to, contour)
    outline.line(left_to, left_from, contour)
    before, after = neighbours(contour, lines.closed)
    chosen = (after >= 0).nonzero()[:, 0]
    if chosen.numel():
        start = torch.cat([along, left_from, right_from], 1).index_select(0, after[chosen])
        end = torch.cat([along, left_to, right_to, to, half[:, None]], 1).index_select(0, chosen)
        room = torch.minimum(length[chosen], length[after[chosen]]).detach()
        _joints(outline, pens, contour[chosen], lines.smooth[chosen], room, end, start)
    ends, starts = ((neighbour < 0).nonzero()[:, 0] for neighbour in (after, before))
    if ends.numel():
        # going round the end of the stroke leads from the right to the left side, round its start the other way
        last = torch.cat([to, right_to, left_to, reach], 1).index_select(0, ends)
        first = torch.cat([from_, left_from, right_from, -reach], 1).index_select(0, starts)
        _caps(outline, pens, torch.cat([contour[ends], contour[starts]]), torch.cat([last, first]))
    return outline.collect()


def _right(like: Tensor) -> Tensor:
    """Return the direction of what has none."""
    return torch.cat([torch.ones_like(like[:, :1]), torch.zeros_like(like[:, :1])], 1)


def _quarter_turn(vectors: Tensor) -> Tensor:
    """Turn vectors from x towards y."""
    x, y = vectors.unbind(-1)
    return torch.stack([-y, x], -1)


def _joints(
    outline: _Outline,
    pens: Pens,
    contour: Int[Tensor, " j"],
    smooth: Bool[Tensor, " j"],
    room: Float[Tensor, " j"],
    end: Float[Tensor, "j 9"],
    start: Float[Tensor, "j 6"],
) -> None:
    """Lead the outline around joints.

    Args:
        outline: Gets the edges.
        pens: One for each contour.
        contour: Of each joint.
        smooth: Joints inside of a curve.
        room: Length of the shorter of the two edges.
        end: Direction, left and right corner, and vertex where the first edge ends, and half the width.
        start: Direction, left and right corner where the second one starts.
    """
    first, left_end, right_end, vertex, half = end.split([2, 2, 2, 2, 1], 1)
    second, left_start, right_start = start.split(2, 1)
    dot = (first * second).sum(1)
    with torch.no_grad():
        half = half[:, 0]
        cross = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        to_left = (cross > 0)[:, None]
        angle = torch.atan2(cross.abs(), dot)
        kite = half * torch.tan(angle / 2) <= room
        kite &= angle < 3.1
        round_off = half * (1 - torch.cos(angle / 2)) > pens.tolerance[contour]
        join = torch.where(smooth, int(Join.ROUND), pens.join[contour])
        within_limit = (2 / (1 + dot).clamp(min=1e-12)).sqrt() <= pens.miter_limit[contour]
        mitred = round_off & (join == Join.MITER) & within_limit & (angle < 3.1)
        rounded = round_off & (join == Join.ROUND)
    # seen along the outline, the left side runs backwards
    inner_from, inner_to, outer_from, outer_to = torch.where(
        to_left,
        torch.cat([left_start, left_end, right_end, right_start], 1),
        torch.cat([right_end, right_start, left_start, left_end], 1),
    ).split(2, 1)

    # the crossing of two offset lines: v + (n1 + n2) / (1 + cos), from the two corners on that side
    spread = 1 + torch.where(kite | mitred, dot, 0)[:, None]
    crossing = vertex + torch.where(kite[:, None], (inner_from + inner_to - 2 * vertex) / spread, 0)
    outline.line(inner_from, crossing, contour)
    outline.line(crossing, inner_to, contour)

    outer = torch.cat([outer_from, outer_to, vertex, spread], 1)
    plain, mitred, rounded = (of.nonzero()[:, 0] for of in (~mitred & ~rounded, mitred, rounded))
    outer_from, outer_to = outer[:, :4].index_select(0, plain).split(2, 1)
    outline.line(outer_from, outer_to, contour[plain])
    if mitred.numel():
        outer_from, outer_to, vertex, spread = outer.index_select(0, mitred).split([2, 2, 2, 1], 1)
        tip = vertex + (outer_from + outer_to - 2 * vertex) / spread
        outline.line(outer_from, tip, contour[mitred])
        outline.line(tip, outer_to, contour[mitred])
    if rounded.numel():
        outer_from, outer_to, vertex = outer[:, :6].index_select(0, rounded).split(2, 1)
        outline.arc(vertex, outer_from, outer_to, angle[rounded], contour[rounded], pens)


def _caps(outline: _Outline, pens: Pens, contour: Int[Tensor, " k"], ends: Float[Tensor, "k 8"]) -> None:
    """Lead the outline around the ends of contours.

    Args:
        outline: Gets the edges.
        pens: One for each contour.
        contour: Of each end.
        ends: Vertex, the corners that the outline comes from and goes to, and how far a cap reaches.
    """
    cap = pens.cap[contour]
    butt, rounded, square = ((cap == kind).nonzero()[:, 0] for kind in (Cap.BUTT, Cap.ROUND, Cap.SQUARE))
    if butt.numel():
        _, start, end, _ = ends.index_select(0, butt).split(2, 1)
        outline.line(start, end, contour[butt])
    if square.numel():
        _, start, end, reach = ends.index_select(0, square).split(2, 1)
        outline.line(start, start + reach, contour[square])
        outline.line(start + reach, end + reach, contour[square])
        outline.line(end + reach, end, contour[square])
    if rounded.numel():
        centre, start, end, reach = ends.index_select(0, rounded).split(2, 1)
        quarter = torch.full_like(centre[:, 0], math.pi / 2)
        outline.arc(centre, start, centre + reach, quarter, contour[rounded], pens)
        outline.arc(centre, centre + reach, end, quarter, contour[rounded], pens)
