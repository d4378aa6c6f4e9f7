"""Triton kernels for `stroke`: from chords to the edges around a stroke.

The pieces are those of the module in PyTorch: for each chord its two sides, then either the joint to the next chord
(its inner and its outer side) or a cap. A program works on some chords, each by one lane. What a lane adds is counted
first, so that each knows where its edges belong. Chords without length are passed over, as `polyline.drop_points`
removes them.

All pieces are sums of a few vectors, which are moved to the canvas first: there, the pen is an ellipse.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `stroking.py` says what their arguments are.

import math

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.scene import Cap, Join
from pds_nerfstudio.vector.raster.triton.chords import angle_between, arc_step, half_width
from pds_nerfstudio.vector.raster.triton.outlines import REACH

LANES = tl.constexpr(128)
"""Chords that a program works on."""
ROUND, SQUARE = tl.constexpr(int(Cap.ROUND)), tl.constexpr(int(Cap.SQUARE))
PLAIN, MITRED, ROUNDED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
"""How the outer side of a joint is led around."""
_JOIN_MITER, _JOIN_ROUND = tl.constexpr(int(Join.MITER)), tl.constexpr(int(Join.ROUND))
_SHARPEST = tl.constexpr(3.1)
"""Beyond this angle in radians a joint has neither a tip nor a kite."""
_MOST_CHORDS = tl.constexpr(16384.0)
"""Chords of an arc, at most."""
_QUARTER = tl.constexpr(math.pi / 2)


@triton.jit
def load_chord(chords, i, valid):
    """Return both ends of chords."""
    at = chords + 4 * i.to(tl.int64)
    x0, y0 = tl.load(at, mask=valid, other=0.0), tl.load(at + 1, mask=valid, other=0.0)
    return x0, y0, tl.load(at + 2, mask=valid, other=0.0), tl.load(at + 3, mask=valid, other=0.0)


@triton.jit
def _has_length(chords, i, valid):
    x0, y0, x1, y1 = load_chord(chords, i, valid)
    return (x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0) > 0


@triton.jit
def place_in_contour(chords, smooth, i, first, last, closed, valid):
    """Return which chords count, which one follows each or −1, whether that joint is smooth, and which begin a stroke.

    A contour without any length is a point: its first chord counts, and has two ends.
    """
    real = _has_length(chords, i, valid)
    after = i * 0 - 1
    even = tl.load(smooth + i, mask=valid, other=0) != 0
    at, searching = i, valid
    while tl.max(searching.to(tl.int32), 0) > 0:
        searching = searching & ((at != last) | closed)
        at = tl.where(at == last, first, at + 1)
        hit = searching & (_has_length(chords, at, searching) | (at == i))
        after = tl.where(hit, at, after)
        searching = searching & (hit == 0)
        even = even & ((searching == 0) | (tl.load(smooth + at, mask=searching, other=1) != 0))
    is_point = valid & (real == 0) & (i == first) & ((after == -1) | (after == i))
    begins = real & (closed == 0)
    at, searching = i, begins
    while tl.max(searching.to(tl.int32), 0) > 0:
        searching = searching & (at != first)
        at = tl.where(searching, at - 1, at)
        hit = searching & _has_length(chords, at, searching)
        begins = begins & (hit == 0)
        searching = searching & (hit == 0)
    counts = real | is_point
    return counts, tl.where(real, after, -1), even, begins | is_point


@triton.jit
def direction(x0, y0, x1, y1):
    """Return the direction of chords, and their length; a point looks right."""
    run, rise = x1 - x0, y1 - y0
    square = run * run + rise * rise
    flat = square == 0
    length = tl.sqrt_rn(tl.where(flat, 1.0, square))
    ux, uy = tl.where(flat, 1.0, tl.div_rn(run, length)), tl.where(flat, 0.0, tl.div_rn(rise, length))
    return ux, uy, tl.where(flat, 0.0, length)


@triton.jit
def turn(ux, uy, length, vx, vy, other_length, half, tolerance, join, miter_limit, even):
    """Return of joints: cosine, angle, which turn left, which have a kite, the kind of their outer side."""
    dot = ux * vx + uy * vy
    cross = ux * vy - uy * vx
    angle = angle_between(cross, dot)
    sharp = angle >= _SHARPEST
    # the tangent of half the angle
    steepness = tl.abs(cross) / tl.where(sharp, 1.0, 1 + dot)
    kite = (half * steepness <= tl.minimum(length, other_length)) & (sharp == 0)
    round_off = half * (1 - tl.cos(0.5 * angle)) > tolerance
    join = tl.where(even, _JOIN_ROUND, join)
    within_limit = tl.sqrt_rn(2.0 / tl.maximum(1 + dot, 1e-12)) <= miter_limit
    kind = tl.where(round_off & (join == _JOIN_ROUND), ROUNDED, PLAIN)
    kind = tl.where(round_off & (join == _JOIN_MITER) & within_limit & (sharp == 0), MITRED, kind)
    return dot, angle, cross > 0, kite, kind


@triton.jit
def arc_chords(angle, half, tolerance):
    """Return how many chords an arc is cut into."""
    count = tl.ceil(tl.div_rn(angle, arc_step(half, tolerance)))
    return tl.minimum(tl.maximum(count, 1.0), _MOST_CHORDS).to(tl.int32)


@triton.jit
def _along(matrix, x, y):
    """Return vectors on the canvas."""
    return tl.load(matrix) * x + tl.load(matrix + 2) * y, tl.load(matrix + 1) * x + tl.load(matrix + 3) * y


@triton.jit
def load_lanes(
    chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices, contour_regions
):  # fmt: skip
    """Return all about this program's chords, the ones that follow, and what is between them.

    i, contour, region: of each chord, its contour and the region.
    counts, joins, ends, begins: which chords count, have a joint behind them, or a cap behind or before them.
    x0, y0, x1, y1: both ends on the canvas.
    sx, sy, rx, ry: from there to the left side of the stroke, and how far a cap reaches, both on the canvas.
    tx, ty, qx, qy: the same of the chord that follows, which is number `after`.
    dot, angle, to_left, kite, kind, pieces: of the joint; see `turn`; pieces of the outer side.
    cap, quarter: the kind of caps, and pieces of a quarter of a round one.
    tail, count: edges behind the two sides up to a cap before the chord, and all edges.
    """
    i = tl.program_id(0) * LANES + tl.arange(0, LANES)
    valid = i < tl.load(total)
    contour = tl.load(contours + i, mask=valid, other=0)
    first, last = tl.load(firsts + contour), tl.load(firsts + contour + 1) - 1
    around = tl.load(closed + contour) != 0
    counts, after, even, begins = place_in_contour(chords, smooth, i, first, last, around, valid)
    joins, ends = counts & (after >= 0), counts & (after < 0)
    half = half_width(widths, pens, contour, valid)
    join, cap = tl.load(pens + 3 * contour + 1), tl.load(pens + 3 * contour + 2)
    tolerance, limit = tl.load(tolerances + contour), tl.load(miter_limits + contour)
    x0, y0, x1, y1 = load_chord(chords, i, valid)
    ux, uy, length = direction(x0, y0, x1, y1)
    a0, b0, a1, b1 = load_chord(chords, after, joins)
    vx, vy, other_length = direction(a0, b0, a1, b1)
    dot, angle, to_left, kite, kind = turn(
        ux, uy, length, vx, vy, other_length, half, tolerance, join, limit, even
    )  # fmt: skip
    quarter = arc_chords(half * 0 + _QUARTER, half, tolerance)
    pieces = tl.where(kind == ROUNDED, arc_chords(angle, half, tolerance), tl.where(kind == MITRED, 2, 1))
    of_cap = tl.where(cap == ROUND, 2 * quarter, tl.where(cap == SQUARE, 3, 1))
    tail = tl.where(joins, 2 + pieces, tl.where(ends, of_cap, 0))
    count = tl.where(counts, 2 + tail + tl.where(begins, of_cap, 0), 0)

    region = tl.load(contour_regions + contour)
    matrix = matrices + 6 * region
    shift_x, shift_y = tl.load(matrix + 4), tl.load(matrix + 5)
    x0, y0 = _along(matrix, x0, y0)
    x1, y1 = _along(matrix, x1, y1)
    sx, sy = _along(matrix, -uy * half, ux * half)
    rx, ry = _along(matrix, ux * half, uy * half)
    tx, ty = _along(matrix, -vy * half, vx * half)
    qx, qy = _along(matrix, vx * half, vy * half)
    return (
        i, contour, region, counts, joins, ends, begins, x0 + shift_x, y0 + shift_y, x1 + shift_x, y1 + shift_y,
        sx, sy, rx, ry, tx, ty, qx, qy, after, dot, angle, to_left, kite, kind, pieces, cap, quarter, tail, count,
    )  # fmt: skip


@triton.jit(do_not_specialize=["total"])
def count_edges(
    chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices, contour_regions,
    edge_counts,
):  # fmt: skip
    """Find how many edges each chord adds. One program for LANES chords."""
    (
        i, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, count
    ) = load_lanes(
        chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices,
        contour_regions,
    )  # fmt: skip
    tl.store(edge_counts + i, count, mask=i < tl.load(total))


@triton.jit
def corners(sx, sy, tx, ty, rx, ry, qx, qy, dot, to_left, kite, kind):
    """Return what leads around joints, from their vertices: two corners on the inner side, in the outline's order.

    On the outer side the corners are opposite to those, in the other order. Further: how far off the crossing of the
    offset lines is, in shares of the corners' sum, on the inner and on the outer side; and the radius that is a quarter
    turn on from the first corner of the outer side.
    """
    # along the outline, the left side runs backwards
    ax, ay, bx, by = (
        tl.where(to_left, tx, -sx),
        tl.where(to_left, ty, -sy),
        tl.where(to_left, sx, -tx),
        tl.where(to_left, sy, -ty),
    )
    share = 1 / tl.where(kite | (kind == MITRED), 1 + dot, 1.0)
    nx, ny = tl.where(to_left, rx, -qx), tl.where(to_left, ry, -qy)
    return ax, ay, bx, by, tl.where(kite, share, 0.0), share, nx, ny


@triton.jit
def _clamped(value):
    return tl.minimum(tl.maximum(value, -REACH), REACH)


@triton.jit
def _line(edges, slot, x0, y0, x1, y1, some):
    to = edges + 4 * slot.to(tl.int64)
    tl.store(to, _clamped(x0), mask=some)
    tl.store(to + 1, _clamped(y0), mask=some)
    tl.store(to + 2, _clamped(x1), mask=some)
    tl.store(to + 3, _clamped(y1), mask=some)


@triton.jit
def arc_directions(k, n, angle):
    """Return the cosines and sines of where piece k of n of an arc starts and ends."""
    step = angle / n.to(tl.float32)
    return tl.cos(k * step), tl.sin(k * step), tl.cos((k + 1) * step), tl.sin((k + 1) * step)


@triton.jit
def _arc(edges, slot, x, y, mx, my, nx, ny, end_x, end_y, angle, n, some):
    """Write the chords of arcs about (x, y), from the radius m towards n, which is a quarter turn on, to an end."""
    for k in range(0, tl.max(tl.where(some, n, 0), 0)):
        cos0, sin0, cos1, sin1 = arc_directions(k, n, angle)
        last = k + 1 == n
        to_x = tl.where(last, end_x, x + mx * cos1 + nx * sin1)
        to_y = tl.where(last, end_y, y + my * cos1 + ny * sin1)
        _line(
            edges, slot + k, x + mx * cos0 + nx * sin0, y + my * cos0 + ny * sin0, to_x, to_y, some & (k < n)
        )  # fmt: skip


@triton.jit
def _cap(edges, slot, x, y, sx, sy, rx, ry, cap, quarter, some):
    """Write caps around ends at (x, y) from one side, −s, to the other, s; strokes reach r farther."""
    _line(edges, slot, x - sx, y - sy, x + sx, y + sy, some & (cap != SQUARE) & (cap != ROUND))
    square = some & (cap == SQUARE)
    _line(edges, slot, x - sx, y - sy, x - sx + rx, y - sy + ry, square)
    _line(edges, slot + 1, x - sx + rx, y - sy + ry, x + sx + rx, y + sy + ry, square)
    _line(edges, slot + 2, x + sx + rx, y + sy + ry, x + sx, y + sy, square)
    rounded = some & (cap == ROUND)
    angle = x * 0 + _QUARTER
    _arc(edges, slot, x, y, -sx, -sy, rx, ry, x + rx, y + ry, angle, quarter, rounded)
    _arc(edges, slot + quarter, x, y, rx, ry, sx, sy, x + sx, y + sy, angle, quarter, rounded)


@triton.jit(do_not_specialize=["total"])
def outline(
    chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices, contour_regions,
    offsets, edges, regions,
):  # fmt: skip
    """Write the edges around strokes, on the canvas, and the region of each. Programs as in `count_edges`."""
    (
        i, _, region, counts, joins, ends, begins, x0, y0, x1, y1, sx, sy, rx, ry, tx, ty, qx, qy, _, dot, angle,
        to_left, kite, kind, pieces, cap, quarter, tail, count,
    ) = load_lanes(
        chords, contours, smooth, firsts, closed, widths, pens, miter_limits, tolerances, total, matrices,
        contour_regions,
    )  # fmt: skip
    slot = tl.load(offsets + i, mask=i < tl.load(total), other=0)
    for k in range(0, tl.max(count, 0)):
        tl.store(regions + slot + k, region, mask=k < count)
    _line(edges, slot, x0 - sx, y0 - sy, x1 - sx, y1 - sy, counts)
    _line(edges, slot + 1, x1 + sx, y1 + sy, x0 + sx, y0 + sy, counts)

    ax, ay, bx, by, inner, outer, nx, ny = corners(sx, sy, tx, ty, rx, ry, qx, qy, dot, to_left, kite, kind)
    tip_x, tip_y = x1 + inner * (ax + bx), y1 + inner * (ay + by)
    _line(edges, slot + 2, x1 + ax, y1 + ay, tip_x, tip_y, joins)
    _line(edges, slot + 3, tip_x, tip_y, x1 + bx, y1 + by, joins)
    _line(edges, slot + 4, x1 - bx, y1 - by, x1 - ax, y1 - ay, joins & (kind == PLAIN))
    mitred, tip_x, tip_y = joins & (kind == MITRED), x1 - outer * (ax + bx), y1 - outer * (ay + by)
    _line(edges, slot + 4, x1 - bx, y1 - by, tip_x, tip_y, mitred)
    _line(edges, slot + 5, tip_x, tip_y, x1 - ax, y1 - ay, mitred)
    rounded = joins & (kind == ROUNDED)
    _arc(edges, slot + 4, x1, y1, -bx, -by, nx, ny, x1 - ax, y1 - ay, angle, pieces, rounded)
    _cap(edges, slot + 2, x1, y1, sx, sy, rx, ry, cap, quarter, ends)
    _cap(edges, slot + 2 + tail, x0, y0, -sx, -sy, -rx, -ry, cap, quarter, begins)
