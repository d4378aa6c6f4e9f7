"""Triton kernels that take a gradient by coverage back to the outlines: the backward pass of `coverage`."""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.device import line_of, sign, window_of
from pds_nerfstudio.vector.raster.triton.fill_rule import coverage_of, slope_of
from pds_nerfstudio.vector.raster.triton.outlines import (
    CHORDS,
    REACH,
    ROWS,
    bernstein,
    chord,
    chord_parameters,
    columns_between,
    lanes,
    load_segment,
    own_edges,
    place,
    rows_between,
    within_column,
)


@triton.jit
def _density(column, row, line, crossed, aligned, level, jump, width, height, odd, winding, grad):
    """Return the loss per unit of area that pieces sweep; see `coverage._density` and `coverage._Slope`."""
    in_columns = (column >= 0) & (column < width)
    inside = in_columns & (row < height)
    across = crossed & aligned & (in_columns | ~level)
    sees_after = crossed & inside
    sees_before = across & tl.where(level, row >= 1, column >= 1)
    after = line + tl.maximum(column, 0)
    before = tl.where(level, after - (width + 1), after - 1)
    high = tl.load(winding + after, mask=sees_after, other=0.0)
    low = tl.load(winding + before, mask=sees_before, other=0.0)
    grad_after = tl.load(grad + after, mask=sees_after, other=0.0)
    grad_before = tl.load(grad + before, mask=sees_before, other=0.0)
    within = grad_after * slope_of(high, odd)
    low, high = tl.where(sees_before, low, high - jump), tl.where(sees_after, high, low + jump)
    difference = high - low
    same = tl.abs(difference) < 1e-6
    slope = (coverage_of(high, odd) - coverage_of(low, odd)) / tl.where(same, 1.0, difference)
    slope = tl.where(same, slope_of(low, odd), slope)
    density = tl.where(aligned, 0.5 * (grad_after + grad_before) * slope, within)
    return tl.where(crossed, density, 0.0)


@triton.jit
def pull_chords(
    x0, y0, x1, y1, valid, by_rows, row_part, by_columns, column_part, width, height, offset, odd, winding, grad
):
    """Return what the loss gains when chords move outward: at their starts, and at their ends.

    The lanes' parts of chords, see `outlines.lanes`, are in their window's coordinates. The result is to be multiplied
    by the chord's normal (−Δy, Δx).
    """
    rise, run = y1 - y0, x1 - x0
    level = rise == 0
    top, bottom, first, last = rows_between(y0, y1, height)
    touches = (run != 0) & (y0 >= 0) & (y0 <= height)
    count = tl.where(level, tl.where(touches, 1, 0), last - first)
    count = tl.where(valid & (width > 0), count, 0)
    upright = (x0 == x1) & (x0 == tl.floor(x0)) & (x0 >= 0) & (x0 <= width)
    aligned = (tl.where(level, y0 == tl.floor(y0), upright))[:, None]
    jump = tl.where(level, -sign(run), sign(rise))[:, None]
    level, width, height, odd = level[:, None], width[:, None], height[:, None], odd[:, None]
    rise, run = tl.where(level, 1.0, rise[:, None]), run[:, None]
    step = tl.arange(0, ROWS)[None, :]
    at_start = tl.zeros((CHORDS,), tl.float32)
    at_end = tl.zeros((CHORDS,), tl.float32)
    for start in range(0, tl.cdiv(tl.max(count, 0), by_rows), ROWS):
        turn = (start + step) * by_rows + row_part[:, None]
        row = first[:, None] + turn
        seen = turn < count[:, None]
        low = tl.maximum(1.0 * row, top[:, None])
        high = tl.minimum(row + 1.0, bottom[:, None])
        t_low = tl.where(level, 0.0, (low - y0[:, None]) / rise)
        t_run = tl.where(level, 1.0, (high - y0[:, None]) / rise) - t_low
        x_low = x0[:, None] + run * t_low
        x_high = x0[:, None] + run * (t_low + t_run)
        span = x_high - x_low
        left, columns = columns_between(x_low, x_high, seen, width)
        line = line_of(row, width, offset[:, None])
        for i in range(0, tl.cdiv(tl.max(tl.max(columns, 1), 0), by_columns)):
            column = left + (i * by_columns + column_part[:, None])
            crossed = i * by_columns + column_part[:, None] < columns
            u_in, u_out = within_column(x_low, span, column, width)
            t_in, t_out = t_low + u_in * t_run, t_low + u_out * t_run
            weight1 = 0.5 * tl.abs(t_out * t_out - t_in * t_in)
            weight0 = tl.abs(t_out - t_in) - weight1
            density = _density(column, row, line, crossed, aligned, level, jump, width, height, odd, winding, grad)
            at_start += tl.sum(density * weight0, 1)
            at_end += tl.sum(density * weight1, 1)
    return at_start, at_end


@triton.jit
def _hand_on(total, points, row, matrices, region, gx, gy):
    """Add a gradient by a control point on the canvas to that by the scene's point."""
    x, y = place(points, row, matrices, region)
    gx, gy = tl.where(tl.abs(x) < REACH, gx, 0.0), tl.where(tl.abs(y) < REACH, gy, 0.0)
    matrix = matrices + 6 * region
    tl.atomic_add(total + 2 * row, tl.load(matrix + 0) * gx + tl.load(matrix + 1) * gy, sem="relaxed")
    tl.atomic_add(total + 2 * row + 1, tl.load(matrix + 2) * gx + tl.load(matrix + 3) * gy, sem="relaxed")


@triton.jit
def hand_on_edges(total, e, valid, at_start, at_end, nx, ny):
    """Add gradients by both ends of edges, along their normals."""
    to = total + 4 * e.to(tl.int64)
    tl.atomic_add(to, at_start * nx, mask=valid, sem="relaxed")
    tl.atomic_add(to + 1, at_start * ny, mask=valid, sem="relaxed")
    tl.atomic_add(to + 2, at_end * nx, mask=valid, sem="relaxed")
    tl.atomic_add(to + 3, at_end * ny, mask=valid, sem="relaxed")


@triton.jit
def pull_segment(
    s, points, segments, straight, matrices, region, tolerance, scale, x, y, width, height, offset, odd, winding, grad,
    total,
):  # fmt: skip
    """Do `pull_chords` for all chords of a segment, in a window at (x, y) of pixels `scale` times as fine.

    What comes of it is added to `total`, by the scene's points.
    """
    none = tl.arange(0, CHORDS) * 0
    ax, ay, bx, by, cx, cy, dx, dy, n = load_segment(points, segments, straight, matrices, region, s, tolerance)
    # a curve lies within the box around its control points
    left = tl.minimum(tl.minimum(ax, bx), tl.minimum(cx, dx)) * scale - x
    right = tl.maximum(tl.maximum(ax, bx), tl.maximum(cx, dx)) * scale - x
    top = tl.minimum(tl.minimum(ay, by), tl.minimum(cy, dy)) * scale - y
    bottom = tl.maximum(tl.maximum(ay, by), tl.maximum(cy, dy)) * scale - y
    if (left < width + 1) & (right > -1) & (top < height + 1) & (bottom > -1):
        gax, gay, gbx, gby = 0.0, 0.0, 0.0, 0.0
        gcx, gcy, gdx, gdy = 0.0, 0.0, 0.0, 0.0
        for first in range(0, n, CHORDS):
            k, by_rows, row_part, by_columns, column_part = lanes(first, n, dx - ax, dy - ay)
            x0, y0, x1, y1 = chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
            x0, y0, x1, y1 = x0 * scale - x, y0 * scale - y, x1 * scale - x, y1 * scale - y
            at_start, at_end = pull_chords(
                x0, y0, x1, y1, k < n, by_rows, row_part, by_columns, column_part, none + width, none + height,
                none + offset, odd & (none == 0), winding, grad,
            )  # fmt: skip
            nx, ny = (y0 - y1) * scale, (x1 - x0) * scale
            t0, t1 = chord_parameters(k, n)
            p0, q0, r0, s0 = bernstein(t0)
            p1, q1, r1, s1 = bernstein(t1)
            p, q = p0 * at_start + p1 * at_end, q0 * at_start + q1 * at_end
            r, z = r0 * at_start + r1 * at_end, s0 * at_start + s1 * at_end
            gax, gay = gax + tl.sum(p * nx, 0), gay + tl.sum(p * ny, 0)
            gbx, gby = gbx + tl.sum(q * nx, 0), gby + tl.sum(q * ny, 0)
            gcx, gcy = gcx + tl.sum(r * nx, 0), gcy + tl.sum(r * ny, 0)
            gdx, gdy = gdx + tl.sum(z * nx, 0), gdy + tl.sum(z * ny, 0)
        _hand_on(total, points, tl.load(segments + 4 * s), matrices, region, gax, gay)
        _hand_on(total, points, tl.load(segments + 4 * s + 1), matrices, region, gbx, gby)
        _hand_on(total, points, tl.load(segments + 4 * s + 2), matrices, region, gcx, gcy)
        _hand_on(total, points, tl.load(segments + 4 * s + 3), matrices, region, gdx, gdy)


@triton.jit(do_not_specialize=["total"])
def pull(
    points, segments, straight, regions, matrices, edges, windows, offsets, odd, winding, grad, grad_points, total,
    tolerance, DIRECT: tl.constexpr,
):  # fmt: skip
    """Find the gradient by the points, or the edges, from that by the coverage. Programs as in `layout.bound`."""
    if DIRECT:
        e, valid, region, x0, y0, x1, y1 = own_edges(edges, regions, total)
    else:
        region = tl.load(regions + tl.program_id(0))
    x, y, width, height = window_of(region, windows)
    offset, evenodd = tl.load(offsets + region), tl.load(odd + region) != 0
    if DIRECT:
        at_start, at_end = pull_chords(
            x0 - x, y0 - y, x1 - x, y1 - y, valid, 1, e * 0, 1, e * 0, width, height, offset, evenodd, winding, grad
        )
        hand_on_edges(grad_points, e, valid, at_start, at_end, y0 - y1, x1 - x0)
    else:
        pull_segment(
            tl.program_id(0), points, segments, straight, matrices, region, tolerance, 1.0,
            x, y, width, height, offset, evenodd, winding, grad, grad_points,
        )  # fmt: skip
