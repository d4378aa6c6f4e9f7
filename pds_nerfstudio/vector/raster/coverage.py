"""Exact-area coverage of regions bounded by directed edges.

Each region has a window: the pixels that its bounding box touches, and one more column in which every row of the
winding numbers returns to 0. All windows lie in one flat buffer, so a single cumulative sum turns the scattered signed
areas of all regions into their mean winding numbers.

The forward pass is the signed-area accumulation of font rasterisers. The backward pass is written by hand: when a
boundary moves, the area of a pixel changes by the integral of the normal velocity along the part of the boundary inside
that pixel (Reynolds' transport theorem), which needs no second cumulative sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.vector.raster.ragged import expand_counts


@dataclass(frozen=True)
class Windows:
    """Where in the flat buffer, and where on the canvas, each region keeps its pixels."""

    origin: Int[Tensor, "k 2"]
    """Canvas pixel (x, y) of the upper left cell."""
    size: Int[Tensor, "k 2"]
    """Width and height in pixels; both 0 for a region outside of the canvas."""
    offset: Int[Tensor, " k"]
    """Index of the upper left cell. A row takes width + 1 cells."""
    boxes: list[list[int]]
    """(x, y, width, height, offset) of each region as Python numbers."""

    @property
    def cells(self) -> int:
        """Length of the flat buffer."""
        if not self.boxes:
            return 0
        _, _, width, height, offset = self.boxes[-1]
        return offset + (width + 1) * height

    def view(self, flat: Float[Tensor, " n"], region: int) -> Float[Tensor, "h w"]:
        """Return a region's pixels of a flat buffer, without copying."""
        _, _, width, height, offset = self.boxes[region]
        return flat[offset : offset + (width + 1) * height].view(height, width + 1)[:, :width]


def make_windows(origin: Int[Tensor, "k 2"], size: Int[Tensor, "k 2"]) -> Windows:
    """Lay windows out one after the other; a window with an empty side takes no cells."""
    size = torch.where((size <= 0).any(1, keepdim=True), 0, size)
    area = (size[:, 0] + 1) * size[:, 1]
    offset = torch.cumsum(area, 0) - area
    return Windows(origin, size, offset, torch.cat([origin, size, offset[:, None]], 1).tolist())


def fit_windows(
    edges: Float[Tensor, "e 2 2"], region: Int[Tensor, " e"], regions: int, width: int, height: int
) -> Windows:
    """Return windows around the edges of each region, cut at the canvas.

    A coordinate on a pixel border counts to both sides: so the gradient sees the pixels that the edge would enter in
    either direction.
    """
    with torch.no_grad():
        low = torch.full((regions, 2), torch.inf, dtype=edges.dtype, device=edges.device)
        high = -low
        index = region[:, None].expand(-1, 2)
        low.scatter_reduce_(0, index, edges.amin(1), "amin")
        high.scatter_reduce_(0, index, edges.amax(1), "amax")
        limit = torch.tensor([width, height], dtype=edges.dtype, device=edges.device)
        first = (low.ceil() - 1).clamp(min=0).minimum(limit).long()
        last = (high.floor() + 1).clamp(min=0).minimum(limit).long()
        return make_windows(first, last - first)


def coverage_of_winding(winding: Float[Tensor, " n"], evenodd: Bool[Tensor, " n"] | None) -> Float[Tensor, " n"]:
    """Return the coverage, in 0 … 1, of pixels whose winding number takes two neighbouring values with the given mean.

    Args:
        winding: Mean winding number of each pixel.
        evenodd: Pixels that follow the even-odd rule; the others, or all, follow the nonzero rule.
    """
    nonzero = winding.abs().clamp_(max=1)
    if evenodd is None:
        return nonzero
    return torch.where(evenodd, (winding - 2 * torch.round(winding * 0.5)).abs_(), nonzero)


def _coverage_slope(winding: Tensor, evenodd: Tensor | None) -> Tensor:
    """Return the derivative of `coverage_of_winding`; 0 at its kinks."""
    nonzero = winding.sign() * (winding.abs() < 1)
    if evenodd is None:
        return nonzero
    return torch.where(evenodd, (winding - 2 * torch.round(winding * 0.5)).sign(), nonzero)


@dataclass
class _Pieces:
    """Edges cut at pixel borders.

    The weights are the integrals of 1 − t and t over the piece, where t is the edge's own parameter. They share a
    pixel's gradient between the edge's two ends.
    """

    edge: Tensor
    cell: Tensor
    column: Tensor
    """Column within the window: −1 for all that lies left of it, its width for all that lies right."""
    inside: Tensor
    """Whether the piece lies within the window."""
    rise: Tensor
    """Signed height of the piece in pixels."""
    inset: Tensor
    """Mean distance from the pixel's left border, 0 outside of the window."""
    weight0: Tensor
    weight1: Tensor


def _cut(local: Tensor, region: Tensor, windows: Windows) -> _Pieces:
    """Cut edges, given in their windows' coordinates, at pixel rows and then at pixel columns."""
    x0, y0, x1, y1 = local.flatten(1).T.contiguous().unbind(0)
    width, height = windows.size.index_select(0, region).to(local.dtype).T.contiguous().unbind(0)

    # rows; the y ends of the pieces are taken from the rows themselves, so that each row of a closed outline
    # sums to 0
    rise, run = y1 - y0, x1 - x0
    top, bottom = torch.minimum(y0, y1), torch.maximum(y0, y1)
    first = top.floor().clamp_(min=0)
    last = torch.minimum(bottom.ceil(), height).sub_(1)
    count = (last - first + 1).clamp_(min=0).long()
    count.masked_fill_((rise == 0) | (width == 0), 0)
    edge, step = expand_counts(count)
    row = first.index_select(0, edge) + step
    base = windows.offset.index_select(0, region.index_select(0, edge))
    width = width.index_select(0, edge)
    base += row.long() * (width.long() + 1)
    low = torch.maximum(row, top.index_select(0, edge))
    high = torch.minimum(row.add_(1), bottom.index_select(0, edge))
    rise, y_start = rise.index_select(0, edge), y0.index_select(0, edge)
    run, x_start = run.index_select(0, edge), x0.index_select(0, edge)
    t_low, t_high = (low - y_start).div_(rise), (high - y_start).div_(rise)
    x_low, x_high = x_start + run * t_low, x_start + run * t_high
    signed_height = (high - low).copysign_(rise)

    # columns
    left, right = torch.minimum(x_low, x_high), torch.maximum(x_low, x_high)
    first = torch.minimum(left.floor_().clamp_(min=-1), width)
    last = torch.minimum(right.ceil_().sub_(1).clamp_(min=-1), width).maximum(first)
    piece, step = expand_counts((last - first + 1).long())
    column = first.index_select(0, piece) + step
    width = width.index_select(0, piece)
    x_low = x_low.index_select(0, piece)
    span = x_high.index_select(0, piece) - x_low
    flat = span == 0
    safe = torch.where(flat, 1, span)
    before = column.masked_fill(column < 0, -torch.inf)
    after = (column + 1).masked_fill_(column >= width, torch.inf)
    u0, u1 = before.sub_(x_low).div_(safe).clamp_(0, 1), after.sub_(x_low).div_(safe).clamp_(0, 1)
    u_in = torch.minimum(u0, u1).masked_fill_(flat, 0)
    u_out = torch.maximum(u0, u1).masked_fill_(flat, 1)

    t_low = t_low.index_select(0, piece)
    t_run = t_high.index_select(0, piece) - t_low
    t_in, t_out = t_low + u_in * t_run, t_low + u_out * t_run
    weight1 = (t_out * t_out - t_in * t_in).mul_(0.5).abs_()
    inside = (column >= 0) & (column < width)
    inset = (x_low + span * (u_in + u_out).mul_(0.5)).sub_(column)
    column = column.long()
    return _Pieces(
        edge=edge.index_select(0, piece),
        cell=base.index_select(0, piece).add_(column.clamp(min=0)),
        column=column,
        inside=inside,
        rise=signed_height.index_select(0, piece).mul_(u_out - u_in),
        inset=inset.masked_fill_(~inside, 0),
        weight0=(t_out - t_in).abs_().sub_(weight1),
        weight1=weight1,
    )


def _cut_horizontal(local: Tensor, region: Tensor, windows: Windows) -> _Pieces | None:
    """Cut the exactly horizontal edges at pixel columns: they sweep area only when they move.

    An edge along the lower border of its window gets cells below the window, which are not its own.
    """
    size = windows.size[region]
    y = local[:, 0, 1]
    touches = (y == local[:, 1, 1]) & (y >= 0) & (y <= size[:, 1]) & (local[:, 0, 0] != local[:, 1, 0])
    chosen = (touches & (size[:, 0] > 0)).nonzero()[:, 0]
    if chosen.numel() == 0:
        return None
    x0, run, y = local[chosen, 0, 0], local[chosen, 1, 0] - local[chosen, 0, 0], y[chosen]
    width = size[chosen, 0].to(local.dtype)
    first = torch.minimum(x0, x0 + run).floor().clamp(min=0)
    last = torch.minimum(torch.maximum(x0, x0 + run).ceil(), width) - 1
    piece, step = expand_counts((last - first + 1).clamp(min=0).long())
    column = first[piece] + step
    start, run = x0[piece], run[piece]
    t0, t1 = ((column - start) / run).clamp(0, 1), ((column + 1 - start) / run).clamp(0, 1)
    weight1 = ((t1 * t1 - t0 * t0) * 0.5).abs()
    edge = chosen[piece]
    column, row = column.long(), y[piece].floor().long()
    zero = torch.zeros_like(weight1)
    return _Pieces(
        edge=edge,
        cell=windows.offset[region[edge]] + row * (size[edge, 0] + 1) + column,
        column=column,
        inside=row < size[edge, 1],
        rise=zero,
        inset=zero,
        weight0=(t1 - t0).abs() - weight1,
        weight1=weight1,
    )


@dataclass(frozen=True)
class WindingField:
    """What the areas were made from; not differentiable."""

    winding: Float[Tensor, " n"]
    """Mean winding number of each cell of the buffer."""
    boundary_cell: Int[Tensor, " m"]
    """Cells that a piece of a boundary runs through, with repeats."""
    boundary_region: Int[Tensor, " m"]
    """The region of each."""


class _Coverage(torch.autograd.Function):
    """Signed areas, summed up. The backward pass integrates the loss along the boundaries."""

    @staticmethod
    def forward(
        ctx: Any,
        edges: Tensor,
        region: Tensor,
        windows: Windows,
        evenodd: Tensor | None,
        field_out: list[WindingField],
    ) -> Tensor:
        local = edges - windows.origin.to(edges.dtype).index_select(0, region)[:, None]
        pieces = _cut(local, region, windows)
        signed_area = edges.new_zeros(windows.cells + 1)
        shared = pieces.rise * pieces.inset
        signed_area.index_add_(0, pieces.cell, pieces.rise - shared)
        signed_area.index_add_(0, pieces.cell + 1, shared)
        winding = torch.cumsum(signed_area, 0)[:-1]
        cell_evenodd = None
        if evenodd is not None and bool(evenodd.any()):
            area = (windows.size[:, 0] + 1) * windows.size[:, 1]
            cell_evenodd = torch.repeat_interleave(evenodd, area)
        ctx.windows, ctx.pieces = windows, pieces
        ctx.save_for_backward(local, region, winding, cell_evenodd)
        field_out.append(WindingField(winding, pieces.cell, region[pieces.edge]))
        return coverage_of_winding(winding, cell_evenodd)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        local, region, winding, evenodd = ctx.saved_tensors
        slope_of = _Slope(grad, winding, evenodd)
        size = ctx.windows.size[region]
        parts = [(ctx.pieces, _density(slope_of, ctx.pieces, local, size[:, 0]))]
        level = _cut_horizontal(local, region, ctx.windows)
        if level is not None:
            parts.append((level, _level_density(slope_of, level, local, size[:, 0])))
        start, end = grad.new_zeros(local.shape[0]), grad.new_zeros(local.shape[0])
        for pieces, density in parts:
            start.index_add_(0, pieces.edge, density * pieces.weight0)
            end.index_add_(0, pieces.edge, density * pieces.weight1)
        direction = local[:, 1] - local[:, 0]
        normal = torch.stack([-direction[:, 1], direction[:, 0]], 1)
        return torch.stack([start, end], 1)[:, :, None] * normal[:, None], None, None, None, None


def _density(slope: "_Slope", pieces: _Pieces, local: Tensor, width: Tensor) -> Tensor:
    """Return the loss per unit of area that each piece sweeps."""
    density = slope.within(pieces.cell).masked_fill_(~pieces.inside, 0)
    x = local[:, 0, 0]
    aligned = (x == local[:, 1, 0]) & (x == x.round()) & (x >= 0) & (x <= width)
    on_border = aligned[pieces.edge].nonzero()[:, 0]
    if on_border.numel():
        cell = pieces.cell[on_border]
        density[on_border] = slope.across(
            cell - 1,
            cell,
            pieces.column[on_border] >= 1,
            pieces.inside[on_border],
            pieces.rise[on_border].sign(),
        )
    return density


def _level_density(slope: "_Slope", pieces: _Pieces, local: Tensor, width: Tensor) -> Tensor:
    """Return the same for pieces of horizontal edges."""
    edge = pieces.edge
    y = local[edge, 0, 1]
    above = pieces.cell - (width[edge] + 1)
    jump = (local[edge, 0, 0] - local[edge, 1, 0]).sign()
    return torch.where(
        y == y.round(),
        slope.across(above, pieces.cell, y >= 1, pieces.inside, jump),
        slope.within(torch.where(pieces.inside, pieces.cell, 0)),
    )


@dataclass
class _Slope:
    """Derivative of the loss by the mean winding, at chosen cells only."""

    grad: Tensor
    winding: Tensor
    evenodd: Tensor | None

    def within(self, cell: Tensor) -> Tensor:
        """Return it for boundaries that run through a cell."""
        rule = None if self.evenodd is None else self.evenodd[cell]
        return self.grad.index_select(0, cell) * _coverage_slope(self.winding.index_select(0, cell), rule)

    def across(self, before: Tensor, after: Tensor, sees_before: Tensor, sees_after: Tensor, jump: Tensor) -> Tensor:
        """Return it for boundaries that run exactly between two cells: the mean of the two one-sided derivatives.

        The coverage changes by the chord of the fill rule between the two windings, whichever way the edge moves. A
        cell that is not on the canvas has no gradient, and a winding that differs by the edge's own `jump`.
        """
        before, after = torch.where(sees_before, before, 0), torch.where(sees_after, after, 0)
        rule = None if self.evenodd is None else self.evenodd[torch.where(sees_before, before, after)]
        low, high = self.winding[before], self.winding[after]
        low, high = torch.where(sees_before, low, high - jump), torch.where(sees_after, high, low + jump)
        difference = high - low
        flat = difference.abs() < 1e-6
        rise = coverage_of_winding(high, rule) - coverage_of_winding(low, rule)
        chord = torch.where(flat, _coverage_slope(low, rule), rise / torch.where(flat, 1, difference))
        grad = torch.where(sees_before, self.grad[before], 0) + torch.where(sees_after, self.grad[after], 0)
        return 0.5 * grad * chord


def coverage(
    edges: Float[Tensor, "e 2 2"],
    region: Int[Tensor, " e"],
    windows: Windows,
    evenodd: Bool[Tensor, " k"] | None = None,
) -> tuple[Float[Tensor, " n"], WindingField]:
    """Return the share of each pixel that each region covers, exact where only two neighbouring windings meet.

    Args:
        edges: Directed edges in canvas pixels; those of one region must form closed outlines.
        region: Region of each edge.
        windows: Where each region's pixels go.
        evenodd: Regions that follow the even-odd rule; the others follow the nonzero rule.

    Returns:
        Coverage in 0 … 1 for each cell of the buffer, differentiable in `edges`, and the winding numbers behind it. The
        values in a row's additional last cell have no meaning.
    """
    if windows.cells == 0:
        empty = edges.new_zeros(0)
        return empty, WindingField(empty, region[:0], region[:0])
    field: list[WindingField] = []
    result = _Coverage.apply(edges, region, windows, evenodd, field)  # type: ignore[no-untyped-call]
    return result, field[0]


def union_box(boxes: Sequence[Sequence[int]]) -> tuple[int, int, int, int]:
    """Return the smallest (x, y, width, height) around all boxes that have pixels; zeros if none has."""
    real = [b for b in boxes if b[2] > 0 and b[3] > 0]
    if not real:
        return 0, 0, 0, 0
    x, y = min(b[0] for b in real), min(b[1] for b in real)
    return x, y, max(b[0] + b[2] for b in real) - x, max(b[1] + b[3] for b in real) - y
