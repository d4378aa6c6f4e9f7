"""Polylines kept as one flat list of directed edges: how they follow one another, and how dashes cut them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.ragged import expand_counts

MAX_DASHES = 100_000
"""A contour that would fall into more dashes is drawn solid."""


@dataclass(frozen=True)
class Polylines:
    """Edges in order along their contours, contour after contour."""

    edges: Float[Tensor, "e 2 2"]
    """Start and end point of each edge."""
    contour: Int[Tensor, " e"]
    """Contour of each edge, ascending."""
    smooth: Bool[Tensor, " e"]
    """True where the joint after the edge lies inside of a curve, rather than at a vertex of the path."""
    closed: Bool[Tensor, " c"]
    """Contours whose last edge ends where the first starts, and is joined to it."""


def lengths(edges: Float[Tensor, "*b 2 2"]) -> Float[Tensor, "*b"]:
    """Return the lengths of edges, with gradient 0 for an edge of length 0."""
    start, end = edges.unbind(-2)
    square = (end - start).square().sum(-1)
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)


def drop_points(lines: Polylines) -> Polylines:
    """Remove the edges without length, but keep one of each contour that has no others."""
    contours = lines.closed.numel()
    real = lengths(lines.edges.detach()) > 0
    extent = torch.bincount(lines.contour[real], minlength=contours)
    fresh = torch.ones_like(real)
    fresh[1:] = lines.contour[1:] != lines.contour[:-1]
    chosen = (real | (fresh & (extent == 0)[lines.contour])).nonzero()[:, 0]
    # a joint is smooth only if all joints that fall together in it are
    corners = torch.cumsum((~lines.smooth).long(), 0)
    until = torch.cat([chosen[1:] - 1, chosen.new_full((1,), real.numel() - 1)])[: chosen.numel()]
    smooth = lines.smooth[chosen] & (corners[until] == corners[chosen])
    return Polylines(lines.edges.index_select(0, chosen), lines.contour[chosen], smooth, lines.closed & (extent > 0))


def neighbours(contour: Int[Tensor, " e"], closed: Bool[Tensor, " c"]) -> tuple[Int[Tensor, " e"], Int[Tensor, " e"]]:
    """Return for each edge the index of the one before and of the one after, −1 at the ends of open contours."""
    count = torch.bincount(contour, minlength=closed.numel())
    start = torch.cumsum(count, 0) - count
    index = torch.arange(contour.numel(), device=contour.device)
    first, last = start[contour], (start + count - 1)[contour]
    wraps = closed[contour]
    before = torch.where(index > first, index - 1, torch.where(wraps, last, -1))
    after = torch.where(index < last, index + 1, torch.where(wraps, first, -1))
    return before, after


def dash_contour(
    edges: Float[Tensor, "e 2 2"],
    smooth: Bool[Tensor, " e"],
    closed: bool,
    pattern: Sequence[float],
    offset: float,
    unit: Float[Tensor, ""] | None = None,
) -> Polylines:
    """Cut one contour into its dashes (SVG 2, section 13.5.6), differentiable in the points.

    Args:
        edges: The contour, in order, without edges of length 0.
        smooth: Whether the joint after each edge lies inside of a curve.
        closed: Whether the last edge is joined to the first. The dash that reaches the start of a closed contour is
            joined to the one that begins there.
        pattern: Lengths of dash, gap, dash, gap, …, none negative; a pattern of odd length is repeated once. A pattern
            without any length, or one that would give more than MAX_DASHES dashes, leaves the contour solid.
        offset: How far into the pattern the contour begins.
        unit: What pattern and offset are measured in, if not in the units of the edges.
    """
    length = lengths(edges) if unit is None else lengths(edges) / unit
    end = torch.cumsum(length, 0)
    start = end - length
    with torch.no_grad():
        pieces = list(pattern) * (1 + len(pattern) % 2)
        period, total = sum(pieces), float(end[-1]) if end.numel() else 0.0
        solid = Polylines(
            edges,
            torch.zeros_like(smooth, dtype=torch.long),
            smooth,
            torch.tensor([closed], device=edges.device),
        )
        if not 0 < period < float("inf") or total / period * len(pieces) > 2 * MAX_DASHES:
            return solid
        ends = torch.tensor(pieces, dtype=torch.float64).cumsum(0)
        cycles = torch.arange(int((total + offset % period) / period) + 1, dtype=torch.float64) * period
        on_to = (cycles[:, None] - offset % period + ends[::2]).flatten()
        on_from = on_to - torch.tensor(pieces[::2], dtype=torch.float64).repeat(cycles.numel())
        seen = (on_from < total) & ((on_to > 0) | ((on_to == on_from) & (on_from >= 0)))
        on_from, on_to = on_from[seen].to(end), on_to[seen].to(end)
        around = closed and on_from.numel() > 0 and bool(on_from[0] <= 0) and bool(on_to[-1] >= total)
        if around and on_from.numel() == 1:
            return solid
        first = torch.searchsorted(end.detach(), on_from, right=True).clamp(max=end.numel() - 1)
        last = torch.maximum(torch.searchsorted(start.detach(), on_to) - 1, first)
        number, step = expand_counts(last - first + 1)
        if around:
            # the last dash goes on into the first one
            head = int((number == number[-1]).sum()) if number.numel() else 0
            number, step = number.roll(head), step.roll(head)
        edge = first[number] + step
        contour = number % (on_from.numel() - 1) if around else number
    run = torch.where(length > 0, length, 1)[edge]
    low = torch.where(on_from[number] > start[edge], (on_from[number] - start[edge]) / run, 0)
    high = torch.where(on_to[number] < end[edge], (on_to[number] - start[edge]) / run, 1)
    fraction = torch.stack([low, high], 1)[:, :, None]
    dashes = edges[edge, :1] + (edges[edge, 1:] - edges[edge, :1]) * fraction
    count = on_from.numel() - around
    return Polylines(dashes, contour, smooth[edge], torch.zeros(count, dtype=torch.bool, device=edges.device))


def dash_contours(
    lines: Polylines,
    patterns: Sequence[tuple[Sequence[float], float]],
    units: Sequence[Float[Tensor, ""] | None] | None = None,
) -> tuple[Polylines, Int[Tensor, " c"]]:
    """Cut each contour by its own pattern, offset and unit; see `dash_contour`.

    Returns:
        The dashes, and for each the contour that it comes from.
    """
    contours = len(patterns)
    device = lines.contour.device
    counts = torch.bincount(lines.contour, minlength=contours).tolist()
    parts, owner, start, made = [], [], 0, 0
    closed = lines.closed.tolist()
    for contour, count in enumerate(counts):
        pattern, offset = patterns[contour]
        own = slice(start, start + count)
        unit = None if units is None else units[contour]
        part = dash_contour(lines.edges[own], lines.smooth[own], closed[contour], pattern, offset, unit)
        parts.append(Polylines(part.edges, part.contour + made, part.smooth, part.closed))
        owner += [contour] * part.closed.numel()
        start, made = start + count, made + part.closed.numel()
    merged = Polylines(
        torch.cat([p.edges for p in parts]),
        torch.cat([p.contour for p in parts]),
        torch.cat([p.smooth for p in parts]),
        torch.cat([p.closed for p in parts]),
    )
    return merged, torch.tensor(owner, dtype=torch.long, device=device)
