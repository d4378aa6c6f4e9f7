"""The launches of the kernels that make the outlines of strokes, and the tensors that pass between them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.vector.raster.outlines import cut_dashes
from pds_nerfstudio.vector.raster.plan import Plan
from pds_nerfstudio.vector.raster.polyline import Polylines, drop_points
from pds_nerfstudio.vector.raster.triton import chords, strokes, strokes_backward
from pds_nerfstudio.vector.raster.triton.room import Room, places


@dataclass(frozen=True)
class StrokeTable:
    """What of a scene's strokes stays the same from picture to picture, on one device."""

    plan: Plan
    """Of the scene, on that device."""
    segments: Int[Tensor, "s 4"]
    """Rows of points of each stroked segment, those of one contour after another."""
    straight: Int[Tensor, " s"]
    """1 for each of them that is a straight line."""
    instances: Int[Tensor, " s"]
    """Contour of each of them; a contour counts anew in each region."""
    first_segments: Int[Tensor, " c+1"]
    """Where the segments of each contour begin, and last their number."""
    closed: Int[Tensor, " c"]
    """1 for each contour that is closed."""
    regions: Int[Tensor, " c"]
    """Region of each contour, ascending."""
    pens: Int[Tensor, "c 3"]
    """Row of its width, its join and its cap."""
    miter_limits: Float[Tensor, " c"]
    """Longest miter, as a multiple of the width."""
    region_firsts: Int[Tensor, " r+1"]
    """First contour of each region, and last their number."""


def make_stroke_table(plan: Plan) -> StrokeTable:
    """Sort what a plan says of strokes, on the plan's device."""
    part = plan.stroked
    return StrokeTable(
        plan=plan,
        segments=plan.segments[part.segment].int(),
        straight=part.straight.int(),
        instances=part.instance.int(),
        first_segments=_firsts(part.instance, part.instance_closed.numel()),
        closed=part.instance_closed.int(),
        regions=part.instance_region.int(),
        pens=plan.pens.int(),
        miter_limits=plan.miter_limits,
        region_firsts=_firsts(part.instance_region, plan.regions),
    )


def _firsts(owners: Int[Tensor, " n"], number: int) -> Int[Tensor, " number+1"]:
    """Return where the run of each owner begins in an ascending list, and last how long that is."""
    return torch.searchsorted(owners, torch.arange(number + 1, device=owners.device, dtype=owners.dtype))


class Contours(NamedTuple):
    """Contours to stroke: those of the scene, or their dashes."""

    firsts: Int[Tensor, " c+1"]
    """Where the chords of each begin, and last their number."""
    closed: Int[Tensor, " c"]
    """1 for each that is closed."""
    pens: Int[Tensor, "c 3"]
    """Row of its width, its join and its cap."""
    miter_limits: Float[Tensor, " c"]
    """Longest miter, as a multiple of the width."""
    tolerances: Float[Tensor, " c"]
    """Largest distance between an arc and its chords, in the units of the points."""
    regions: Int[Tensor, " c"]
    """Region of each, ascending."""
    region_firsts: Int[Tensor, " r+1"]
    """First contour of each region, and last their number."""


class Chords(NamedTuple):
    """Chords in order along their contours, contour after contour, in the units of the points."""

    ends: Float[Tensor, "n 4"]
    """x and y of the start and of the end of each."""
    contours: Int[Tensor, " n"]
    """Contour of each."""
    smooth: Int[Tensor, " n"]
    """1 where the joint after the chord lies inside of a curve."""


class _Flatten(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        widths: Tensor,
        table: StrokeTable,
        tolerances: Tensor,
        matrices: Tensor,
        tolerance: float,
        room: int | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        grid = (len(table.segments),)
        counts = table.segments.new_zeros(len(table.segments) + 1)
        chords.count_chords[grid](
            points, table.segments, table.straight, table.instances, table.regions, matrices, widths, table.pens,
            tolerances, tolerance, counts[1:],
        )  # fmt: skip
        firsts, total, needed = places(counts, room)
        ends, contours = points.new_empty(total, 4), firsts.new_empty(total)
        smooth = torch.empty_like(contours)
        chords.flatten[grid](points, table.segments, table.instances, firsts, ends, contours, smooth)
        ctx.save_for_backward(table.segments, firsts)
        ctx.points = points.shape
        ctx.mark_non_differentiable(contours, smooth, firsts, needed)
        return ends, contours, smooth, firsts, needed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        segments, firsts = ctx.saved_tensors
        on_points = grad.new_zeros(ctx.points)
        chords.flatten_backward[(len(segments),)](segments, firsts, grad.contiguous(), on_points)
        return on_points, None, None, None, None, None, None


class _Outline(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, ends: Tensor, widths: Tensor, lines: Chords, contours: Contours, matrices: Tensor, room: int | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        grid = (triton.cdiv(len(ends), strokes.LANES.value),)
        shared = (
            ends, lines.contours, lines.smooth, contours.firsts, contours.closed, widths, contours.pens,
            contours.miter_limits, contours.tolerances, contours.firsts[-1:], matrices, contours.regions,
        )  # fmt: skip
        counts = lines.contours.new_zeros(len(ends) + 1)
        strokes.count_edges[grid](*shared, counts[1:])
        offsets, total, needed = places(counts, room)
        edges = ends.new_empty(total, 2, 2)
        regions = offsets.new_empty(len(edges))
        strokes.outline[grid](*shared, offsets, edges, regions)
        ctx.grid = grid
        ctx.save_for_backward(*shared, offsets, edges)
        ctx.mark_non_differentiable(regions, offsets, needed)
        return edges, regions, offsets, needed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        *shared, offsets, edges = ctx.saved_tensors
        ends, widths = shared[0], shared[5]
        on_ends, on_widths = torch.zeros_like(ends), torch.zeros_like(widths)
        strokes_backward.outline_backward[ctx.grid](*shared, offsets, edges, grad.contiguous(), on_ends, on_widths)
        return on_ends, on_widths, None, None, None, None


def tiled_stroke_edges(
    table: StrokeTable,
    points: Float[Tensor, "n 2"],
    widths: Float[Tensor, " w"],
    matrices: Float[Tensor, "r 6"],
    stretch: Float[Tensor, " c"],
    tolerance: float,
    room: Room | None = None,
) -> tuple[Float[Tensor, "e 2 2"], Int[Tensor, " e"], Int[Tensor, " r+1"], Int[Tensor, "2"]]:
    """Return what `outlines.stroke_edges` returns, and where the edges of each region begin.

    Args:
        table: Of the scene, with strokes in it.
        points: The scene's, contiguous.
        widths: The scene's, contiguous.
        matrices: From each region's units to the canvas.
        stretch: Factor by which they lengthen at most, for each contour.
        tolerance: Largest distance between a curve and its chords, in pixels.
        room: For how many chords and edges there is memory; without, the host waits to learn how many there are.
            Dashes need it to wait.

    Returns:
        Directed edges in canvas pixels, sorted by region; the region of each; the first edge of each region, last the
        number of edges, all 0 if they don't fit; and how many chords and edges there are.
    """
    tolerances = tolerance / stretch.clamp(min=1e-12)
    ends, owners, smooth, firsts, chords_needed = _Flatten.apply(  # type: ignore[no-untyped-call]
        points, widths, table, tolerances, matrices, tolerance, None if room is None else room.chords
    )
    contours = Contours(
        firsts[table.first_segments],
        table.closed,
        table.pens,
        table.miter_limits,
        tolerances,
        table.regions,
        table.region_firsts,
    )
    lines = Chords(ends, owners, smooth)
    if table.plan.dashed:
        lines, contours = _dashed(table.plan, lines, contours)
    edges, regions, offsets, edges_needed = _Outline.apply(  # type: ignore[no-untyped-call]
        lines.ends, widths, lines, contours, matrices, None if room is None else room.edges
    )
    needed = torch.stack([chords_needed, edges_needed])
    return edges, regions, offsets[contours.firsts[contours.region_firsts]], needed


def _dashed(plan: Plan, lines: Chords, contours: Contours) -> tuple[Chords, Contours]:
    """Return dashes as contours of their own. They are cut in PyTorch, which waits for the device at each contour."""
    whole = Polylines(lines.ends.view(-1, 2, 2), lines.contours.long(), lines.smooth.bool(), contours.closed.bool())
    cut, owner = cut_dashes(plan, drop_points(whole))
    regions = contours.regions[owner]
    chosen = Contours(
        firsts=_firsts(cut.contour, len(owner)).int(),
        closed=cut.closed.int(),
        pens=contours.pens[owner],
        miter_limits=contours.miter_limits[owner],
        tolerances=contours.tolerances[owner],
        regions=regions,
        region_firsts=_firsts(regions, plan.regions),
    )
    return Chords(cut.edges.reshape(-1, 4).contiguous(), cut.contour.int(), cut.smooth.int()), chosen
