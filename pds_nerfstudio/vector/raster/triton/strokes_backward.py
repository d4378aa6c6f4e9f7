"""Triton kernel for the backward pass of `strokes.outline`: from edges around strokes to chords and widths."""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `stroking.py` says what their arguments are.

import math

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.chords import half_width
from pds_nerfstudio.vector.raster.triton.outlines import REACH
from pds_nerfstudio.vector.raster.triton.strokes import (
    MITRED,
    PLAIN,
    ROUND,
    ROUNDED,
    SQUARE,
    arc_directions,
    corners,
    direction,
    load_chord,
    load_lanes,
)

_QUARTER = tl.constexpr(math.pi / 2)


@triton.jit
def _of_line(edges, grad, slot, some):
    """Return the gradient by both ends of edges; coordinates that are held at the limit have none."""
    at = 4 * slot.to(tl.int64)
    x0 = tl.where(tl.abs(tl.load(edges + at, mask=some, other=0.0)) < REACH, 1.0, 0.0)
    y0 = tl.where(tl.abs(tl.load(edges + at + 1, mask=some, other=0.0)) < REACH, 1.0, 0.0)
    x1 = tl.where(tl.abs(tl.load(edges + at + 2, mask=some, other=0.0)) < REACH, 1.0, 0.0)
    y1 = tl.where(tl.abs(tl.load(edges + at + 3, mask=some, other=0.0)) < REACH, 1.0, 0.0)
    x0, y0 = x0 * tl.load(grad + at, mask=some, other=0.0), y0 * tl.load(grad + at + 1, mask=some, other=0.0)
    x1, y1 = x1 * tl.load(grad + at + 2, mask=some, other=0.0), y1 * tl.load(grad + at + 3, mask=some, other=0.0)
    return x0, y0, x1, y1


@triton.jit
def _of_arc(edges, grad, slot, angle, n, some):
    """Return the gradient by what `strokes._arc` is given: the centre, both radii, and the end."""
    cx, cy, mx, my = angle * 0, angle * 0, angle * 0, angle * 0
    nx, ny, ex, ey = angle * 0, angle * 0, angle * 0, angle * 0
    for k in range(0, tl.max(tl.where(some, n, 0), 0)):
        cos0, sin0, cos1, sin1 = arc_directions(k, n, angle)
        x0, y0, x1, y1 = _of_line(edges, grad, slot + k, some & (k < n))
        last = k + 1 == n
        ex, ey = ex + tl.where(last, x1, 0.0), ey + tl.where(last, y1, 0.0)
        x1, y1 = tl.where(last, 0.0, x1), tl.where(last, 0.0, y1)
        cx, cy = cx + x0 + x1, cy + y0 + y1
        mx, my = mx + cos0 * x0 + cos1 * x1, my + cos0 * y0 + cos1 * y1
        nx, ny = nx + sin0 * x0 + sin1 * x1, ny + sin0 * y0 + sin1 * y1
    return cx, cy, mx, my, nx, ny, ex, ey


@triton.jit
def _of_cap(edges, grad, slot, cap, quarter, some, angle):
    """Return the gradient by what `strokes._cap` is given: the vertex, the side and the reach."""
    ax, ay, bx, by = _of_line(edges, grad, slot, some & (cap != SQUARE) & (cap != ROUND))
    x, y, sx, sy = ax + bx, ay + by, bx - ax, by - ay
    square = some & (cap == SQUARE)
    ax, ay, bx, by = _of_line(edges, grad, slot, square)
    cx, cy, dx, dy = _of_line(edges, grad, slot + 1, square)
    ex, ey, fx, fy = _of_line(edges, grad, slot + 2, square)
    x, y = x + ax + bx + cx + dx + ex + fx, y + ay + by + cy + dy + ey + fy
    sx, sy = sx - ax - bx - cx + dx + ex + fx, sy - ay - by - cy + dy + ey + fy
    rx, ry = bx + cx + dx + ex, by + cy + dy + ey
    rounded = some & (cap == ROUND)
    cx, cy, mx, my, nx, ny, ex, ey = _of_arc(edges, grad, slot, angle, quarter, rounded)
    x, y, sx, sy, rx, ry = x + cx + ex, y + cy + ey, sx - mx, sy - my, rx + nx + ex, ry + ny + ey
    cx, cy, mx, my, nx, ny, ex, ey = _of_arc(edges, grad, slot + quarter, angle, quarter, rounded)
    return x + cx + ex, y + cy + ey, sx + nx + ex, sy + ny + ey, rx + mx, ry + my


@triton.jit
def _of_joint(edges, grad, slot, ax, ay, bx, by, inner, outer, angle, kite, kind, pieces, joins):
    """Return the gradient by what `strokes.corners` returns of joints: both corners and the turned radius.

    Then that by the vertex, and by the cosine.
    """
    gax, gay, ex, ey = _of_line(edges, grad, slot + 2, joins)
    fx, fy, gbx, gby = _of_line(edges, grad, slot + 3, joins)
    ex, ey = ex + fx, ey + fy
    vx, vy = gax + gbx + ex, gay + gby + ey
    by_share = tl.where(kite, ex * (ax + bx) + ey * (ay + by), 0.0)
    gax, gay, gbx, gby = gax + inner * ex, gay + inner * ey, gbx + inner * ex, gby + inner * ey

    cx, cy, dx, dy = _of_line(edges, grad, slot + 4, joins & (kind == PLAIN))
    mitred = joins & (kind == MITRED)
    ux, uy, ex, ey = _of_line(edges, grad, slot + 4, mitred)
    fx, fy, wx, wy = _of_line(edges, grad, slot + 5, mitred)
    ex, ey = ex + fx, ey + fy
    cx, cy, dx, dy = cx + ux + outer * ex, cy + uy + outer * ey, dx + wx + outer * ex, dy + wy + outer * ey
    # the tip's shares in both corners go to them already; all of it goes to the vertex
    vx, vy = vx + cx + dx + (1 - 2 * outer) * ex, vy + cy + dy + (1 - 2 * outer) * ey
    by_share -= ex * (ax + bx) + ey * (ay + by)
    kx, ky, mx, my, nx, ny, ex, ey = _of_arc(edges, grad, slot + 4, angle, pieces, joins & (kind == ROUNDED))
    cx, cy, dx, dy = cx + mx, cy + my, dx + ex, dy + ey
    vx, vy = vx + kx + ex, vy + ky + ey
    gax, gay, gbx, gby = gax - dx, gay - dy, gbx - cx, gby - cy
    return gax, gay, gbx, gby, nx, ny, vx, vy, -by_share * outer * outer


@triton.jit
def _back(matrix, x, y):
    """Return gradients by vectors in their own units, from those by vectors on the canvas."""
    return tl.load(matrix) * x + tl.load(matrix + 1) * y, tl.load(matrix + 2) * x + tl.load(matrix + 3) * y


@triton.jit
def _by_direction(matrix, ux, uy, half, sx, sy, rx, ry):
    """Return the gradient by a direction and by half the width, from those by side and reach, on the canvas."""
    sx, sy = _back(matrix, sx, sy)
    rx, ry = _back(matrix, rx, ry)
    x, y = rx + sy, ry - sx
    return half * x, half * y, x * ux + y * uy


@triton.jit
def _hand_on(grad_chords, i, ux, uy, length, gx, gy, some):
    """Add the gradient by chords, from that by their direction."""
    flat = length == 0
    across = (gx * -uy + gy * ux) / tl.where(flat, 1.0, length)
    x, y = tl.where(flat, 0.0, -uy * across), tl.where(flat, 0.0, ux * across)
    to = grad_chords + 4 * i.to(tl.int64)
    tl.atomic_add(to, -x, mask=some, sem="relaxed")
    tl.atomic_add(to + 1, -y, mask=some, sem="relaxed")
    tl.atomic_add(to + 2, x, mask=some, sem="relaxed")
    tl.atomic_add(to + 3, y, mask=some, sem="relaxed")


@triton.jit(do_not_specialize=["total"])
def outline_backward(
    chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices, contour_regions,
    offsets, edges, grad, grad_chords, grad_widths,
):  # fmt: skip
    """Add to the gradients by chords and widths, from that by the edges. Programs as in `strokes.count_edges`."""
    (
        i, contour, region, counts, joins, ends, begins, _, _, _, _, sx, sy, rx, ry, tx, ty, qx, qy, after, dot, angle,
        to_left, kite, kind, pieces, cap, quarter, tail, _,
    ) = load_lanes(
        chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices,
        contour_regions,
    )  # fmt: skip
    ax, ay, bx, by, inner, outer, _, _ = corners(sx, sy, tx, ty, rx, ry, qx, qy, dot, to_left, kite, kind)
    slot = tl.load(offsets + i, mask=i < tl.load(total), other=0)
    # p and v: by both ends; s, r, t and q: by side and reach of this chord and of the next; names as in `outline`
    px, py, vx, vy = _of_line(edges, grad, slot, counts)
    wx, wy, zx, zy = _of_line(edges, grad, slot + 1, counts)
    gsx, gsy = wx + zx - px - vx, wy + zy - py - vy
    px, py, vx, vy = px + zx, py + zy, vx + wx, vy + wy

    gax, gay, gbx, gby, gnx, gny, x, y, by_dot = _of_joint(
        edges, grad, slot, ax, ay, bx, by, inner, outer, angle, kite, kind, pieces, joins
    )
    vx, vy = vx + x, vy + y
    gsx, gsy = gsx + tl.where(to_left, gbx, -gax), gsy + tl.where(to_left, gby, -gay)
    gtx, gty = tl.where(to_left, gax, -gbx), tl.where(to_left, gay, -gby)
    grx, gry = tl.where(to_left, gnx, 0.0), tl.where(to_left, gny, 0.0)
    gqx, gqy = tl.where(to_left, 0.0, -gnx), tl.where(to_left, 0.0, -gny)

    right = angle * 0 + _QUARTER
    x, y, ex, ey, fx, fy = _of_cap(edges, grad, slot + 2, cap, quarter, ends, right)
    vx, vy, gsx, gsy, grx, gry = vx + x, vy + y, gsx + ex, gsy + ey, grx + fx, gry + fy
    x, y, ex, ey, fx, fy = _of_cap(edges, grad, slot + 2 + tail, cap, quarter, begins, right)
    px, py, gsx, gsy, grx, gry = px + x, py + y, gsx - ex, gsy - ey, grx - fx, gry - fy

    matrix = matrices + 6 * region
    half = half_width(widths, pens, contour, counts)
    x0, y0, x1, y1 = load_chord(chords, i, counts)
    ux, uy, length = direction(x0, y0, x1, y1)
    x0, y0, x1, y1 = load_chord(chords, after, joins)
    wx, wy, other_length = direction(x0, y0, x1, y1)
    gux, guy, by_half = _by_direction(matrix, ux, uy, half, gsx, gsy, grx, gry)
    gwx, gwy, by_half_too = _by_direction(matrix, wx, wy, half, gtx, gty, gqx, gqy)
    _hand_on(grad_chords, i, ux, uy, length, gux + by_dot * wx, guy + by_dot * wy, counts)
    _hand_on(grad_chords, after, wx, wy, other_length, gwx + by_dot * ux, gwy + by_dot * uy, joins)
    px, py = _back(matrix, px, py)
    vx, vy = _back(matrix, vx, vy)
    to = grad_chords + 4 * i.to(tl.int64)
    tl.atomic_add(to, px, mask=counts, sem="relaxed")
    tl.atomic_add(to + 1, py, mask=counts, sem="relaxed")
    tl.atomic_add(to + 2, vx, mask=counts, sem="relaxed")
    tl.atomic_add(to + 3, vy, mask=counts, sem="relaxed")
    row = tl.load(pens + 3 * contour, mask=counts, other=0)
    seen = counts & (tl.load(widths + row, mask=counts, other=0.0) >= 0)
    tl.atomic_add(grad_widths + row, 0.5 * (by_half + by_half_too), mask=seen, sem="relaxed")
