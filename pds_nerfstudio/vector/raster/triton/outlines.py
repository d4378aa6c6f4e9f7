"""Outlines in Triton: runs of chords, and where chords cross the pixels of a window.

Outlines come from two sources: the scene's segments, each of which is cut into chords, and (`DIRECT`) edges in canvas
pixels, such as strokes are made of.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.affine import MAX_COORDINATE
from pds_nerfstudio.vector.raster.bezier import MAX_CHORDS

CHORDS = tl.constexpr(16)
"""Chords that a program works on at a time."""
ROWS = tl.constexpr(8)
"""Pixel rows of each of them that it works on at a time."""
REACH = tl.constexpr(MAX_COORDINATE)
FAR = tl.constexpr(1e30)
"""Stands for infinity."""
_MOST = tl.constexpr(MAX_CHORDS)


@triton.jit
def place(points, row, matrices, region):
    """Return a point on the canvas."""
    x, y = tl.load(points + 2 * row), tl.load(points + 2 * row + 1)
    matrix = matrices + 6 * region
    moved_x = tl.load(matrix + 0) * x + tl.load(matrix + 2) * y + tl.load(matrix + 4)
    moved_y = tl.load(matrix + 1) * x + tl.load(matrix + 3) * y + tl.load(matrix + 5)
    return tl.minimum(tl.maximum(moved_x, -REACH), REACH), tl.minimum(tl.maximum(moved_y, -REACH), REACH)


@triton.jit
def load_segment(points, segments, straight, matrices, region, s, tolerance):
    """Return a segment's control points on the canvas, and its number of chords as in `bezier.chord_counts`."""
    ax, ay = place(points, tl.load(segments + 4 * s), matrices, region)
    bx, by = place(points, tl.load(segments + 4 * s + 1), matrices, region)
    cx, cy = place(points, tl.load(segments + 4 * s + 2), matrices, region)
    dx, dy = place(points, tl.load(segments + 4 * s + 3), matrices, region)
    ux, uy, vx, vy = ax - 2 * bx + cx, ay - 2 * by + cy, bx - 2 * cx + dx, by - 2 * cy + dy
    second = tl.sqrt_rn(tl.maximum(ux * ux + uy * uy, vx * vx + vy * vy))
    count = tl.ceil(tl.sqrt_rn(tl.div_rn(0.75 * second, tolerance)))
    count = tl.minimum(tl.maximum(count, 1.0), 1.0 * _MOST).to(tl.int32)
    return ax, ay, bx, by, cx, cy, dx, dy, tl.where(tl.load(straight + s) != 0, 1, count)


@triton.jit
def bernstein(t):
    """Return the weights of the four control points."""
    u = 1 - t
    return u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t


@triton.jit
def chord_parameters(k, n):
    """Return where chord k of n starts and ends."""
    count = (k * 0 + n).to(tl.float32)
    return tl.div_rn(k.to(tl.float32), count), tl.div_rn((k + 1).to(tl.float32), count)


@triton.jit
def chord(k, n, ax, ay, bx, by, cx, cy, dx, dy):
    """Return both ends of chord k of n."""
    t0, t1 = chord_parameters(k, n)
    p, q, r, s = bernstein(t0)
    x0, y0 = p * ax + q * bx + r * cx + s * dx, p * ay + q * by + r * cy + s * dy
    p, q, r, s = bernstein(t1)
    return x0, y0, p * ax + q * bx + r * cx + s * dx, p * ay + q * by + r * cy + s * dy


@triton.jit
def lanes(first, n, width, height):
    """Return what each lane works on, from chord `first` on: a chord, and the step and start in its rows and columns.

    A straight line is one chord, however long. All lanes share it: by rows if it is steep, else by columns.
    """
    lane = tl.arange(0, CHORDS)
    alone = n == 1
    by_rows = tl.where(alone & (tl.abs(height) > tl.abs(width)), CHORDS, 1)
    by_columns = tl.where(alone & (by_rows == 1), CHORDS, 1)
    k = tl.where(alone, 0, first + lane)
    return k, by_rows, tl.where(by_rows > 1, lane, 0), by_columns, tl.where(by_columns > 1, lane, 0)


@triton.jit
def load_edges(edges, e, valid):
    """Return both ends of edges in canvas pixels."""
    at = edges + 4 * e.to(tl.int64)
    x0, y0 = tl.load(at, mask=valid, other=0.0), tl.load(at + 1, mask=valid, other=0.0)
    return x0, y0, tl.load(at + 2, mask=valid, other=0.0), tl.load(at + 3, mask=valid, other=0.0)


@triton.jit
def own_edges(edges, regions, total):
    """Return this program's edges: their numbers, which of them there are, their regions, and both ends of each."""
    e = tl.program_id(0) * CHORDS + tl.arange(0, CHORDS)
    valid = e < tl.load(total)
    x0, y0, x1, y1 = load_edges(edges, e, valid)
    return e, valid, tl.load(regions + e, mask=valid, other=0), x0, y0, x1, y1


@triton.jit
def rows_between(y0, y1, height):
    """Return the upper and lower ordinate of chords, and the rows of the window from the first to behind the last."""
    top, bottom = tl.minimum(y0, y1), tl.maximum(y0, y1)
    first = tl.minimum(tl.maximum(tl.floor(top), 0.0), 1.0 * height).to(tl.int32)
    last = tl.minimum(tl.maximum(tl.ceil(bottom), 0.0), 1.0 * height).to(tl.int32)
    return top, bottom, first, last


@triton.jit
def columns_between(x_low, x_high, seen, width):
    """Return the first column of pieces, and how many columns each of them crosses.

    Column −1 stands for all that lies left of the window, its width for all that lies right.
    """
    left = tl.minimum(tl.maximum(tl.floor(tl.minimum(x_low, x_high)), -1.0), 1.0 * width).to(tl.int32)
    right = tl.minimum(tl.maximum(tl.ceil(tl.maximum(x_low, x_high)) - 1, -1.0), 1.0 * width).to(tl.int32)
    return left, tl.where(seen, tl.maximum(right, left) - left + 1, 0)


@triton.jit
def within_column(x_low, span, column, width):
    """Return the part of pieces from x_low over `span` that lies in a column; see `part_between`."""
    before = tl.where(column < 0, -FAR, 1.0 * column)
    after = tl.where(column >= width, FAR, column + 1.0)
    return part_between(x_low, span, before, after)


@triton.jit
def part_between(x_low, span, before, after):
    """Return which part of a piece, from u_in to u_out in 0 … 1, lies between two abscissae."""
    flat = span == 0
    safe = tl.where(flat, 1.0, span)
    u0 = tl.minimum(tl.maximum((before - x_low) / safe, 0.0), 1.0)
    u1 = tl.minimum(tl.maximum((after - x_low) / safe, 0.0), 1.0)
    return tl.where(flat, 0.0, tl.minimum(u0, u1)), tl.where(flat, 1.0, tl.maximum(u0, u1))
