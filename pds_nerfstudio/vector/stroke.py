"""Strokes as directed edges whose nonzero winding region is the stroked area (SVG 2, section 13.5).

Every edge of a polyline contributes the rectangle it sweeps, every joint the wedge on its outer side, every
end its cap. All pieces turn the same way, so their winding numbers only add up, and the region where the sum
is not 0 is exactly their union: also where the curvature radius falls under half the width and an offset
curve would fold back on itself. On the inner side of a joint, two rectangles overlap in a kite; where the
kite lies inside of both, one copy of it is taken away again, which leaves winding 1 everywhere along an
ordinary stroke.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.polyline import Polylines, lengths, neighbours
from pds_nerfstudio.vector.ragged import expand_counts


class Join(IntEnum):
    """Shape at the vertices of a path."""

    MITER = 0
    ROUND = 1
    BEVEL = 2


class Cap(IntEnum):
    """Shape at the ends of open contours."""

    BUTT = 0
    ROUND = 1
    SQUARE = 2


@dataclass(frozen=True)
class Pens:
    """How each contour is stroked."""

    half_width: Float[Tensor, " c"]
    """Half the stroke width, in the units of the points."""
    join: Int[Tensor, " c"]
    cap: Int[Tensor, " c"]
    miter_limit: Float[Tensor, " c"]
    tolerance: Float[Tensor, " c"]
    """Largest distance between an arc and the chords that replace it, in the units of the points."""


class _Outline:
    """Collects directed edges and the contour of each."""

    def __init__(self) -> None:
        self._edges: list[Tensor] = []
        self._contours: list[Tensor] = []

    def line(self, start: Tensor, end: Tensor, contour: Tensor) -> None:
        self._edges.append(torch.stack([start, end], 1))
        self._contours.append(contour)

    def arc(self, centre: Tensor, start: Tensor, end: Tensor, angle: Tensor, contour: Tensor, pens: Pens) -> None:
        """Chords of the arc about `centre` that turns `start` by `angle` ≥ 0, from x towards y, to `end`."""
        with torch.no_grad():
            step = arc_step(pens.half_width[contour], pens.tolerance[contour])
            count = (angle / step).ceil().clamp(min=1).long()
            owner, k = expand_counts(count)
            turns = torch.stack([k, k + 1], 1) * (angle / count)[owner][:, None]
            cos, sin = turns.cos()[..., None], turns.sin()[..., None]
            last = (k + 1 == count[owner])[:, None]
        radius = (start - centre)[owner][:, None]
        turned = torch.cat([-radius[..., 1:], radius[..., :1]], -1)
        ends = centre[owner][:, None] + radius * cos + turned * sin
        self.line(ends[:, 0], torch.where(last, end[owner], ends[:, 1]), contour[owner])

    def collect(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self._edges), torch.cat(self._contours)


def arc_step(radius: Float[Tensor, " n"], tolerance: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Angle of a chord that deviates from its circle by `tolerance`: r (1 − cos(θ/2)) ≈ r θ²/8."""
    return (8 * tolerance / radius.clamp(min=1e-30)).sqrt().clamp(max=1.0)


def stroke_outline(lines: Polylines, pens: Pens) -> tuple[Float[Tensor, "m 2 2"], Int[Tensor, " m"]]:
    """Edges whose nonzero winding region is the stroke, differentiable in the points and the width.

    Args:
        lines: what to stroke, without edges of length 0 except for contours that are a single point; those
            get their caps, as SVG asks for.
        pens: one for each contour.

    Returns:
        The directed edges, in no order, and the contour of each. Together, the edges of a contour are closed.
    """
    edges, contour = lines.edges, lines.contour
    length = lengths(edges)
    flat = length == 0
    along = (edges[:, 1] - edges[:, 0]) / torch.where(flat, 1, length)[:, None]
    along = torch.where(flat[:, None], along.new_tensor([1.0, 0.0]), along)
    side = torch.stack([-along[:, 1], along[:, 0]], 1) * pens.half_width[contour][:, None]
    left = edges + side[:, None]
    right = edges - side[:, None]
    outline = _Outline()
    outline.line(right[:, 0], right[:, 1], contour)
    outline.line(left[:, 1], left[:, 0], contour)
    before, after = neighbours(contour, lines.closed)
    _joints(outline, lines, pens, after, length.detach(), along, left, right)
    for end, neighbour in ((1, after), (0, before)):
        chosen = (neighbour < 0).nonzero()[:, 0]
        if chosen.numel():
            # going round the end of the stroke leads from the right to the left side, round its start the
            # other way
            sides = (right, left) if end == 1 else (left, right)
            outward = along if end == 1 else -along
            _caps(
                outline,
                lines,
                pens,
                chosen,
                edges[chosen, end],
                sides[0][chosen, end],
                sides[1][chosen, end],
                outward,
            )
    return outline.collect()


def _joints(
    outline: _Outline,
    lines: Polylines,
    pens: Pens,
    after: Tensor,
    length: Tensor,
    along: Tensor,
    left: Tensor,
    right: Tensor,
) -> None:
    first = (after >= 0).nonzero()[:, 0]
    if first.numel() == 0:
        return
    second = after[first]
    contour = lines.contour[first]
    vertex = lines.edges[first, 1]
    half = pens.half_width[contour]
    dot = (along[first] * along[second]).sum(1)
    with torch.no_grad():
        cross = along[first, 0] * along[second, 1] - along[first, 1] * along[second, 0]
        to_left = (cross > 0)[:, None]
        angle = torch.atan2(cross.abs(), dot)
        room = torch.minimum(length[first], length[second])
        kite = half * torch.tan(angle / 2) <= room
        kite &= angle < 3.1
        round_off = half * (1 - torch.cos(angle / 2)) > pens.tolerance[contour]
        join = torch.where(lines.smooth[first], int(Join.ROUND), pens.join[contour])
        within_limit = (2 / (1 + dot).clamp(min=1e-12)).sqrt() <= pens.miter_limit[contour]
        mitred = round_off & (join == Join.MITER) & within_limit & (angle < 3.1)
        rounded = round_off & (join == Join.ROUND)
        plain = ~mitred & ~rounded
    left_end, left_start = left[first, 1], left[second, 0]
    right_end, right_start = right[first, 1], right[second, 0]
    # seen along the outline, the left side runs backwards
    inner_from, inner_to = (
        torch.where(to_left, left_start, right_end),
        torch.where(to_left, left_end, right_start),
    )
    outer_from, outer_to = (
        torch.where(to_left, right_end, left_start),
        torch.where(to_left, right_start, left_end),
    )

    # the crossing of two offset lines: v + (n1 + n2) / (1 + cos), from the two corners on that side
    spread = 1 + torch.where(kite | mitred, dot, 0)[:, None]
    crossing = vertex + torch.where(kite[:, None], (inner_from + inner_to - 2 * vertex) / spread, 0)
    outline.line(inner_from, crossing, contour)
    outline.line(crossing, inner_to, contour)

    outline.line(outer_from[plain], outer_to[plain], contour[plain])
    if bool(mitred.any()):
        tip = (vertex + (outer_from + outer_to - 2 * vertex) / spread)[mitred]
        outline.line(outer_from[mitred], tip, contour[mitred])
        outline.line(tip, outer_to[mitred], contour[mitred])
    if bool(rounded.any()):
        outline.arc(vertex[rounded], outer_from[rounded], outer_to[rounded], angle[rounded], contour[rounded], pens)


def _caps(
    outline: _Outline,
    lines: Polylines,
    pens: Pens,
    chosen: Tensor,
    vertex: Tensor,
    start: Tensor,
    end: Tensor,
    outward: Tensor,
) -> None:
    """Leads the outline from `start` to `end` around the end of a contour."""
    contour = lines.contour[chosen]
    reach = outward[chosen] * pens.half_width[contour][:, None]
    cap = pens.cap[contour]
    butt, rounded, square = (cap == kind for kind in (Cap.BUTT, Cap.ROUND, Cap.SQUARE))
    outline.line(start[butt], end[butt], contour[butt])
    if bool(square.any()):
        corner, opposite = (start + reach)[square], (end + reach)[square]
        outline.line(start[square], corner, contour[square])
        outline.line(corner, opposite, contour[square])
        outline.line(opposite, end[square], contour[square])
    if bool(rounded.any()):
        middle, centre, of = (vertex + reach)[rounded], vertex[rounded], contour[rounded]
        quarter = torch.full_like(centre[:, 0], math.pi / 2)
        outline.arc(centre, start[rounded], middle, quarter, of, pens)
        outline.arc(centre, middle, end[rounded], quarter, of, pens)
