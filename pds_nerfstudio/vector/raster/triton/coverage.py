"""Triton kernels for `coverage`: from outlines to coverage.

The numbers and the rules are those of the module in PyTorch. What differs is that nothing is kept of the way there: a
program takes a segment, cuts it into chords, the chords at pixel rows and columns, and adds the pieces to the signed
areas. The backward pass (`coverage_backward`) takes the same way again and picks the gradient up from the same cells,
so that it needs atomic operations for the control points only. No array is as long as there are pieces; the buffer of
the windows has a length that depends on the curves, and that is the one number that the host has to wait for.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.supersampling import SLACK
from pds_nerfstudio.vector.raster.triton.device import line_of, window_of
from pds_nerfstudio.vector.raster.triton.fill_rule import coverage_of
from pds_nerfstudio.vector.raster.triton.layout import BOUNDS
from pds_nerfstudio.vector.raster.triton.outlines import (
    CHORDS,
    ROWS,
    chord,
    columns_between,
    lanes,
    load_segment,
    own_edges,
    rows_between,
    within_column,
)

COLUMNS = tl.constexpr(64)
"""Pixel columns that a program sums at a time."""
BOUNDARY = tl.constexpr(1)
"""Mark of a cell that a boundary runs through."""
_SLACK = tl.constexpr(SLACK)


@triton.jit
def _scatter_chords(
    x0, y0, x1, y1, valid, by_rows, row_part, by_columns, column_part, region, windows, offsets, area, marks
):
    """Add the signed areas of the lanes' parts of chords; see `outlines.lanes` and `coverage._cut`."""
    window = windows + 4 * region
    x, y = tl.load(window, mask=valid, other=0), tl.load(window + 1, mask=valid, other=0)
    width, height = tl.load(window + 2, mask=valid, other=0), tl.load(window + 3, mask=valid, other=0)
    offset = tl.load(offsets + region, mask=valid, other=0)
    x0, y0, x1, y1 = x0 - x, y0 - y, x1 - x, y1 - y
    rise, run = y1 - y0, x1 - x0
    top, bottom, first, last = rows_between(y0, y1, height)
    count = tl.where(valid & (rise != 0) & (width > 0), last - first, 0)
    rise = tl.where(rise == 0, 1.0, rise)[:, None]
    step = tl.arange(0, ROWS)[None, :]
    width = width[:, None]
    for start in range(0, tl.cdiv(tl.max(count, 0), by_rows), ROWS):
        turn = (start + step) * by_rows + row_part[:, None]
        row = first[:, None] + turn
        seen = turn < count[:, None]
        low = tl.maximum(1.0 * row, top[:, None])
        high = tl.minimum(row + 1.0, bottom[:, None])
        x_low = x0[:, None] + run[:, None] * ((low - y0[:, None]) / rise)
        x_high = x0[:, None] + run[:, None] * ((high - y0[:, None]) / rise)
        signed = tl.where(rise > 0, high - low, low - high)
        span = x_high - x_low
        left, columns = columns_between(x_low, x_high, seen, width)
        line = line_of(row, width, offset[:, None])
        for i in range(0, tl.cdiv(tl.max(tl.max(columns, 1), 0), by_columns)):
            column = left + (i * by_columns + column_part[:, None])
            crossed = i * by_columns + column_part[:, None] < columns
            u_in, u_out = within_column(x_low, span, column, width)
            inside = (column >= 0) & (column < width)
            inset = tl.where(inside, x_low + span * (0.5 * (u_in + u_out)) - column, 0.0)
            piece = signed * (u_out - u_in)
            cell = line + tl.maximum(column, 0)
            tl.atomic_add(area + cell, piece * (1 - inset), mask=crossed, sem="relaxed")
            tl.atomic_add(area + cell + 1, piece * inset, mask=crossed & inside, sem="relaxed")
            tl.store(marks + cell, BOUNDARY, mask=crossed)


@triton.jit(do_not_specialize=["total"])
def scatter(
    points, segments, straight, regions, matrices, edges, windows, offsets, area, marks, total, tolerance,
    DIRECT: tl.constexpr,
):  # fmt: skip
    """Add the signed areas along all outlines. Programs as in `layout.bound`."""
    lane = tl.arange(0, CHORDS)
    if DIRECT:
        _, valid, region, x0, y0, x1, y1 = own_edges(edges, regions, total)
        _scatter_chords(x0, y0, x1, y1, valid, 1, lane * 0, 1, lane * 0, region, windows, offsets, area, marks)
    else:
        s = tl.program_id(0)
        region = tl.load(regions + s)
        ax, ay, bx, by, cx, cy, dx, dy, n = load_segment(points, segments, straight, matrices, region, s, tolerance)
        for first in range(0, n, CHORDS):
            k, by_rows, row_part, by_columns, column_part = lanes(first, n, dx - ax, dy - ay)
            x0, y0, x1, y1 = chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
            _scatter_chords(
                x0, y0, x1, y1, k < n, by_rows, row_part, by_columns, column_part, region + lane * 0, windows, offsets,
                area, marks,
            )  # fmt: skip


@triton.jit
def accumulate(winding, cover, marks, windows, offsets, odd, bounds, BLOCK: tl.constexpr):
    """Turn signed areas into winding numbers, in place, and into coverage. One program for a region's BLOCK rows."""
    region = tl.program_id(0)
    _, _, width, height = window_of(region, windows)
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(1) * BLOCK < height:
        line = line_of(row, width, tl.load(offsets + region))
        evenodd = tl.load(odd + region) != 0
        total = tl.zeros((BLOCK,), tl.float32)
        least = tl.full((BLOCK, COLUMNS), 2**30, tl.int32)
        most = tl.full((BLOCK, COLUMNS), -(2**30), tl.int32)
        for first in range(0, width + 1, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            inside = (row < height)[:, None] & (column <= width)[None, :]
            cell = line[:, None] + column[None, :]
            part = tl.load(winding + cell, mask=inside, other=0.0)
            value = total[:, None] + tl.cumsum(part, 1)
            total += tl.sum(part, 1)
            tl.store(winding + cell, value, mask=inside)
            tl.store(cover + cell, coverage_of(value, evenodd), mask=inside)
            marked = tl.load(marks + cell, mask=inside, other=0) != 0
            least = tl.where(marked, tl.minimum(least, tl.floor(value + _SLACK).to(tl.int32)), least)
            most = tl.where(marked, tl.maximum(most, tl.ceil(value - _SLACK).to(tl.int32)), most)
        tl.atomic_min(bounds + region * BOUNDS + 4, tl.min(tl.min(least, 1), 0))
        tl.atomic_max(bounds + region * BOUNDS + 5, tl.max(tl.max(most, 1), 0))
