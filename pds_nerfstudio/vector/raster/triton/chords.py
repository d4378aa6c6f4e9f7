"""Triton kernels that cut the segments of strokes into chords, in their own units, and their backward pass.

They do what `outlines.stroke_edges` does first: segments are cut so finely that the sides of a stroke are smooth, too.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `stroking.py` says what their arguments are.

import math

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.outlines import CHORDS, bernstein, chord, chord_parameters, load_segment

_PI = tl.constexpr(math.pi)
_MOST_TURNS = tl.constexpr(256.0)
"""Chords that the turning of a segment may ask for; as many as `bezier.MAX_CHORDS`."""


@triton.jit
def angle_between(cross, dot):
    """Return the angle in 0 … π of directions, from the size of their cross product and their scalar product.

    Triton has no arctangent for all devices. This one (Abramowitz and Stegun, 4.4.49) is right to 2e-8.
    """
    y, x = tl.abs(cross), tl.abs(dot)
    larger = tl.maximum(y, x)
    t = tl.where(larger > 0, tl.minimum(y, x) / tl.where(larger > 0, larger, 1.0), 0.0)
    s = t * t
    series = -0.0752896400 + s * (0.0429096138 + s * (-0.0161657367 + s * 0.0028662257))
    series = 1 + s * (-0.3333314528 + s * (0.1999355085 + s * (-0.1420889944 + s * (0.1065626393 + s * series))))
    angle = tl.where(y > x, 0.5 * _PI - t * series, t * series)
    return tl.where(dot < 0, _PI - angle, angle)


@triton.jit
def arc_step(radius, tolerance):
    """Return the angle of chords of arcs; see `stroke.arc_step`."""
    return tl.minimum(tl.sqrt_rn(tl.div_rn(8 * tolerance, tl.maximum(radius, 1e-30))), 1.0)


@triton.jit
def half_width(widths, pens, contour, valid):
    """Return half the width of contours' strokes."""
    row = tl.load(pens + 3 * contour, mask=valid, other=0)
    return 0.5 * tl.maximum(tl.load(widths + row, mask=valid, other=0.0), 0.0)


@triton.jit
def count_chords(points, segments, straight, instances, regions, matrices, widths, pens, tolerances, tolerance, counts):
    """Find how many chords each segment is cut into. One program for each segment."""
    s = tl.program_id(0)
    instance = tl.load(instances + s)
    region = tl.load(regions + instance)
    ax, ay, bx, by, cx, cy, dx, dy, n = load_segment(points, segments, straight, matrices, region, s, tolerance)
    ux, uy, vx, vy, wx, wy = bx - ax, by - ay, cx - bx, cy - by, dx - cx, dy - cy
    turning = angle_between(ux * vy - uy * vx, ux * vx + uy * vy)
    turning += angle_between(vx * wy - vy * wx, vx * wx + vy * wy)
    step = arc_step(half_width(widths, pens, instance, True), tl.load(tolerances + instance))
    turns = tl.minimum(tl.ceil(tl.div_rn(turning, step)), _MOST_TURNS).to(tl.int32)
    tl.store(counts + s, tl.where(tl.load(straight + s) != 0, 1, tl.maximum(n, turns)))


@triton.jit
def _own_segment(points, segments, s):
    """Return a segment's control points in their own units."""
    a, b = points + 2 * tl.load(segments + 4 * s), points + 2 * tl.load(segments + 4 * s + 1)
    c, d = points + 2 * tl.load(segments + 4 * s + 2), points + 2 * tl.load(segments + 4 * s + 3)
    return (
        tl.load(a), tl.load(a + 1), tl.load(b), tl.load(b + 1), tl.load(c), tl.load(c + 1), tl.load(d), tl.load(d + 1)
    )  # fmt: skip


@triton.jit
def flatten(points, segments, instances, firsts, chords, contours, smooth):
    """Write the chords of all segments, the contour of each, and whether one of its own segment follows.

    One program for each segment.
    """
    s = tl.program_id(0)
    first, n = tl.load(firsts + s), tl.load(firsts + s + 1) - tl.load(firsts + s)
    ax, ay, bx, by, cx, cy, dx, dy = _own_segment(points, segments, s)
    lane = tl.arange(0, CHORDS)
    contour = tl.load(instances + s)
    for start in range(0, n, CHORDS):
        k = start + lane
        some = k < n
        x0, y0, x1, y1 = chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
        to = chords + 4 * (first + k).to(tl.int64)
        tl.store(to, x0, mask=some)
        tl.store(to + 1, y0, mask=some)
        tl.store(to + 2, x1, mask=some)
        tl.store(to + 3, y1, mask=some)
        tl.store(contours + first + k, contour + lane * 0, mask=some)
        tl.store(smooth + first + k, (k + 1 < n).to(tl.int32), mask=some)


@triton.jit
def flatten_backward(segments, firsts, grad_chords, grad_points):
    """Add the gradient by the points, from that by the chords. One program for each segment."""
    s = tl.program_id(0)
    first, n = tl.load(firsts + s), tl.load(firsts + s + 1) - tl.load(firsts + s)
    lane = tl.arange(0, CHORDS)
    gax, gay, gbx, gby = 0.0, 0.0, 0.0, 0.0
    gcx, gcy, gdx, gdy = 0.0, 0.0, 0.0, 0.0
    for start in range(0, n, CHORDS):
        k = start + lane
        some = k < n
        at = grad_chords + 4 * (first + k).to(tl.int64)
        x0, y0 = tl.load(at, mask=some, other=0.0), tl.load(at + 1, mask=some, other=0.0)
        x1, y1 = tl.load(at + 2, mask=some, other=0.0), tl.load(at + 3, mask=some, other=0.0)
        t0, t1 = chord_parameters(k, n)
        p0, q0, r0, s0 = bernstein(t0)
        p1, q1, r1, s1 = bernstein(t1)
        gax, gay = gax + tl.sum(p0 * x0 + p1 * x1, 0), gay + tl.sum(p0 * y0 + p1 * y1, 0)
        gbx, gby = gbx + tl.sum(q0 * x0 + q1 * x1, 0), gby + tl.sum(q0 * y0 + q1 * y1, 0)
        gcx, gcy = gcx + tl.sum(r0 * x0 + r1 * x1, 0), gcy + tl.sum(r0 * y0 + r1 * y1, 0)
        gdx, gdy = gdx + tl.sum(s0 * x0 + s1 * x1, 0), gdy + tl.sum(s0 * y0 + s1 * y1, 0)
    _add_to_point(grad_points, tl.load(segments + 4 * s), gax, gay)
    _add_to_point(grad_points, tl.load(segments + 4 * s + 1), gbx, gby)
    _add_to_point(grad_points, tl.load(segments + 4 * s + 2), gcx, gcy)
    _add_to_point(grad_points, tl.load(segments + 4 * s + 3), gdx, gdy)


@triton.jit
def _add_to_point(grad_points, row, gx, gy):
    tl.atomic_add(grad_points + 2 * row, gx, sem="relaxed")
    tl.atomic_add(grad_points + 2 * row + 1, gy, sem="relaxed")
