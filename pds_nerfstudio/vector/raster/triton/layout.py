"""Triton kernels for `coverage.fit_windows`: a window around each region, and where its cells are kept."""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.outlines import CHORDS, chord, load_segment, own_edges

BOUNDS = tl.constexpr(6)
"""Numbers kept of each region: least x and y, largest x and y, then of the windings next to its boundary the least and
the largest, rounded to the integers that they count as."""


@triton.jit
def _widen(x0, y0, x1, y1, valid, region, bounds, width, height):
    """Let windows grow around chords. Their sides are integers, as there is no atomic minimum of floats."""
    left, right = tl.ceil(tl.minimum(x0, x1)) - 1, tl.floor(tl.maximum(x0, x1)) + 1
    top, bottom = tl.ceil(tl.minimum(y0, y1)) - 1, tl.floor(tl.maximum(y0, y1)) + 1
    at = bounds + region * BOUNDS
    tl.atomic_min(at, tl.minimum(tl.maximum(left, 0.0), width).to(tl.int32), mask=valid)
    tl.atomic_min(at + 1, tl.minimum(tl.maximum(top, 0.0), height).to(tl.int32), mask=valid)
    tl.atomic_max(at + 2, tl.minimum(tl.maximum(right, 0.0), width).to(tl.int32), mask=valid)
    tl.atomic_max(at + 3, tl.minimum(tl.maximum(bottom, 0.0), height).to(tl.int32), mask=valid)


@triton.jit(do_not_specialize=["total"])
def bound(
    points, segments, straight, regions, matrices, edges, bounds, total, tolerance, width, height, DIRECT: tl.constexpr
):
    """Find every region's window. One program for each segment, or for each CHORDS edges."""
    if DIRECT:
        _, valid, region, x0, y0, x1, y1 = own_edges(edges, regions, total)
        _widen(x0, y0, x1, y1, valid, region, bounds, width, height)
    else:
        s = tl.program_id(0)
        region = tl.load(regions + s)
        ax, ay, bx, by, cx, cy, dx, dy, n = load_segment(points, segments, straight, matrices, region, s, tolerance)
        lane = tl.arange(0, CHORDS)
        for first in range(0, n, CHORDS):
            k = first + lane
            x0, y0, x1, y1 = chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
            _widen(x0, y0, x1, y1, k < n, region + lane * 0, bounds, width, height)


@triton.jit(do_not_specialize=["room"])
def lay_out(bounds, windows, offsets, regions, room, BLOCK: tl.constexpr):
    """Lay the windows out one after the other. One program.

    windows: x, y, width, height of each; offsets: first cell of each, and last how many cells there are. If that is
    more than there is room for, all windows are empty.
    """
    start = tl.zeros((), tl.int64)
    for first in range(0, regions, BLOCK):
        r = first + tl.arange(0, BLOCK)
        real = r < regions
        at = bounds + r * BOUNDS
        x, y = tl.load(at, mask=real, other=0), tl.load(at + 1, mask=real, other=0)
        w = tl.load(at + 2, mask=real, other=0) - x
        h = tl.load(at + 3, mask=real, other=0) - y
        some = (w > 0) & (h > 0)
        w, h = tl.where(some, w, 0), tl.where(some, h, 0)
        to = windows + 4 * r
        tl.store(to, x, mask=real)
        tl.store(to + 1, y, mask=real)
        tl.store(to + 2, w, mask=real)
        tl.store(to + 3, h, mask=real)
        area = (w + 1).to(tl.int64) * h
        tl.store(offsets + r, start + tl.cumsum(area, 0) - area, mask=real)
        start += tl.sum(area, 0)
    tl.store(offsets + regions, start)
    if start > room:
        for first in range(0, regions, BLOCK):
            r = first + tl.arange(0, BLOCK)
            tl.store(windows + 4 * r + 2, 0, mask=r < regions)
            tl.store(windows + 4 * r + 3, 0, mask=r < regions)
