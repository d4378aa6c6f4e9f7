"""Triton kernels for what `coverage` and `supersampling` do in PyTorch: from outlines to coverage and back.

The numbers and the rules are those of the two modules. What differs is that nothing is kept of the way there: a
program takes a segment, cuts it into chords, the chords at pixel rows and columns, and adds the pieces to the signed
areas; the backward pass takes the same way again and picks the gradient up from the same cells, so that it needs
atomic operations for the control points only. No array depends in its length on the curves except the buffer of the
windows, whose length is the one number that the host has to wait for.

Outlines come from two sources, each of them a run of chords: a segment over the scene's points, or (`DIRECT`) a row of
edges in canvas pixels, such as strokes are made of.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: what their arguments are is said in `tiled.py`, which calls them.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster import supersampling
from pds_nerfstudio.vector.raster.bezier import MAX_CHORDS
from pds_nerfstudio.vector.raster.rasterizer import MAX_COORDINATE

CHORDS = tl.constexpr(16)
"""Chords that a program works on at a time."""
ROWS = tl.constexpr(8)
"""Pixel rows of each of them that it works on at a time."""
COLUMNS = tl.constexpr(64)
"""Pixel columns that a program sums at a time."""
REACH = tl.constexpr(MAX_COORDINATE)
FAR = tl.constexpr(1e30)
"""Stands for infinity."""
_MOST = tl.constexpr(MAX_CHORDS)
_SCALE = tl.constexpr(supersampling.SCALE)
_TILE = tl.constexpr(supersampling.TILE)
_FINE = tl.constexpr(supersampling.SCALE * supersampling.TILE)
_SLACK = tl.constexpr(supersampling.SLACK)

BOUNDS = tl.constexpr(6)
"""Numbers kept of each region while its window is found: least x and y, largest x and y, then of the windings next to
its boundary the least and the largest, rounded to the integers they count as."""
_BOUNDARY = tl.constexpr(1)
"""Mark of a cell that a boundary runs through."""
_LISTED = tl.constexpr(2)
"""Mark of a tile's first cell: the tile is to be supersampled."""


@triton.jit
def _place(points, row, matrices, region):
    x, y = tl.load(points + 2 * row), tl.load(points + 2 * row + 1)
    matrix = matrices + 6 * region
    moved_x = tl.load(matrix + 0) * x + tl.load(matrix + 2) * y + tl.load(matrix + 4)
    moved_y = tl.load(matrix + 1) * x + tl.load(matrix + 3) * y + tl.load(matrix + 5)
    return tl.minimum(tl.maximum(moved_x, -REACH), REACH), tl.minimum(tl.maximum(moved_y, -REACH), REACH)


@triton.jit
def _open(points, segments, straight, matrices, region, s, tolerance):
    """A segment's control points on the canvas, and how many chords it takes; see `bezier.chord_counts`."""
    ax, ay = _place(points, tl.load(segments + 4 * s), matrices, region)
    bx, by = _place(points, tl.load(segments + 4 * s + 1), matrices, region)
    cx, cy = _place(points, tl.load(segments + 4 * s + 2), matrices, region)
    dx, dy = _place(points, tl.load(segments + 4 * s + 3), matrices, region)
    ux, uy, vx, vy = ax - 2 * bx + cx, ay - 2 * by + cy, bx - 2 * cx + dx, by - 2 * cy + dy
    second = tl.sqrt_rn(tl.maximum(ux * ux + uy * uy, vx * vx + vy * vy))
    count = tl.ceil(tl.sqrt_rn(tl.div_rn(0.75 * second, tolerance)))
    count = tl.minimum(tl.maximum(count, 1.0), 1.0 * _MOST).to(tl.int32)
    return ax, ay, bx, by, cx, cy, dx, dy, tl.where(tl.load(straight + s) != 0, 1, count)


@triton.jit
def _bernstein(t):
    u = 1 - t
    return u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t


@triton.jit
def _parameters(k, n):
    """Where chord k of n starts and ends."""
    count = (k * 0 + n).to(tl.float32)
    return tl.div_rn(k.to(tl.float32), count), tl.div_rn((k + 1).to(tl.float32), count)


@triton.jit
def _chord(k, n, ax, ay, bx, by, cx, cy, dx, dy):
    """Both ends of chord k of n."""
    t0, t1 = _parameters(k, n)
    p, q, r, s = _bernstein(t0)
    x0, y0 = p * ax + q * bx + r * cx + s * dx, p * ay + q * by + r * cy + s * dy
    p, q, r, s = _bernstein(t1)
    return x0, y0, p * ax + q * bx + r * cx + s * dx, p * ay + q * by + r * cy + s * dy


@triton.jit
def _lanes(first, n, width, height):
    """What each lane works on, from chord `first` on: a chord, and the step and start in its rows and in its columns.

    A straight line is one chord, however long: all lanes share it, by rows if it is steep, else by columns.
    """
    lane = tl.arange(0, CHORDS)
    alone = n == 1
    by_rows = tl.where(alone & (tl.abs(height) > tl.abs(width)), CHORDS, 1)
    by_columns = tl.where(alone & (by_rows == 1), CHORDS, 1)
    k = tl.where(alone, 0, first + lane)
    return k, by_rows, tl.where(by_rows > 1, lane, 0), by_columns, tl.where(by_columns > 1, lane, 0)


@triton.jit
def _edge(edges, e, valid):
    """Both ends of edges in canvas pixels."""
    at = edges + 4 * e.to(tl.int64)
    x0, y0 = tl.load(at, mask=valid, other=0.0), tl.load(at + 1, mask=valid, other=0.0)
    return x0, y0, tl.load(at + 2, mask=valid, other=0.0), tl.load(at + 3, mask=valid, other=0.0)


@triton.jit
def _rule(winding, odd):
    """`coverage.coverage_of_winding`; odd: follows the even-odd rule."""
    return tl.where(odd, tl.abs(_folded(winding)), tl.minimum(tl.abs(winding), 1.0))


@triton.jit
def _folded(winding):
    """Distance from the nearest even number, with its sign; halves go to the even number of turns, as in PyTorch."""
    half = winding * 0.5
    near = tl.floor(half + 0.5)
    uneven = near - 2 * tl.floor(near * 0.5) == 1
    near = tl.where((near - half == 0.5) & uneven, near - 1, near)
    return winding - 2 * near


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _slope(winding, odd):
    """Derivative of `_rule`; 0 at its kinks."""
    nonzero = tl.where(tl.abs(winding) < 1, _sign(winding), 0.0)
    return tl.where(odd, _sign(_folded(winding)), nonzero)


@triton.jit
def _between(x_low, span, before, after):
    """The part, from u_in to u_out in 0 … 1, of a piece from x_low over `span` that lies between two abscissae."""
    flat = span == 0
    safe = tl.where(flat, 1.0, span)
    u0 = tl.minimum(tl.maximum((before - x_low) / safe, 0.0), 1.0)
    u1 = tl.minimum(tl.maximum((after - x_low) / safe, 0.0), 1.0)
    return tl.where(flat, 0.0, tl.minimum(u0, u1)), tl.where(flat, 1.0, tl.maximum(u0, u1))


@triton.jit
def _widen(x0, y0, x1, y1, valid, region, bounds, width, height):
    """Lets windows grow around chords, as `coverage.fit_windows` does; integers, as the least float is harder."""
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
    """Finds every region's window. One program for each segment, or for each CHORDS edges."""
    program = tl.program_id(0)
    lane = tl.arange(0, CHORDS)
    if DIRECT:
        e = program * CHORDS + lane
        valid = e < total
        x0, y0, x1, y1 = _edge(edges, e, valid)
        region = tl.load(regions + e, mask=valid, other=0)
        _widen(x0, y0, x1, y1, valid, region, bounds, width, height)
    else:
        region = tl.load(regions + program)
        ax, ay, bx, by, cx, cy, dx, dy, n = _open(points, segments, straight, matrices, region, program, tolerance)
        for first in range(0, n, CHORDS):
            k = first + lane
            x0, y0, x1, y1 = _chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
            _widen(x0, y0, x1, y1, k < n, region + lane * 0, bounds, width, height)


@triton.jit
def lay_out(bounds, windows, offsets, regions, BLOCK: tl.constexpr):
    """Lays the windows out one after the other. One program.

    windows: x, y, width, height of each; offsets: first cell of each, and last how many cells there are.
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


@triton.jit
def _scatter_chords(
    x0, y0, x1, y1, valid, by_rows, row_part, by_columns, column_part, region, windows, offsets, area, marks
):
    """Adds the signed areas of the lanes' parts of chords; see `_lanes` and `coverage._cut`."""
    window = windows + 4 * region
    x, y = tl.load(window, mask=valid, other=0), tl.load(window + 1, mask=valid, other=0)
    width, height = tl.load(window + 2, mask=valid, other=0), tl.load(window + 3, mask=valid, other=0)
    offset = tl.load(offsets + region, mask=valid, other=0)
    x0, y0, x1, y1 = x0 - x, y0 - y, x1 - x, y1 - y
    rise, run = y1 - y0, x1 - x0
    top, bottom = tl.minimum(y0, y1), tl.maximum(y0, y1)
    first = tl.minimum(tl.maximum(tl.floor(top), 0.0), 1.0 * height).to(tl.int32)
    last = tl.minimum(tl.maximum(tl.ceil(bottom), 0.0), 1.0 * height).to(tl.int32)
    count = tl.where(valid & (rise != 0) & (width > 0), last - first, 0)
    rise = tl.where(rise == 0, 1.0, rise)[:, None]
    step = tl.arange(0, ROWS)[None, :]
    width = width[:, None]
    for start in range(0, tl.cdiv(tl.max(count, 0), by_rows), ROWS):
        place = (start + step) * by_rows + row_part[:, None]
        row = first[:, None] + place
        seen = place < count[:, None]
        low = tl.maximum(1.0 * row, top[:, None])
        high = tl.minimum(row + 1.0, bottom[:, None])
        x_low = x0[:, None] + run[:, None] * ((low - y0[:, None]) / rise)
        x_high = x0[:, None] + run[:, None] * ((high - y0[:, None]) / rise)
        signed = tl.where(rise > 0, high - low, low - high)
        span = x_high - x_low
        left = tl.minimum(tl.maximum(tl.floor(tl.minimum(x_low, x_high)), -1.0), 1.0 * width).to(tl.int32)
        right = tl.minimum(tl.maximum(tl.ceil(tl.maximum(x_low, x_high)) - 1, -1.0), 1.0 * width).to(tl.int32)
        columns = tl.where(seen, tl.maximum(right, left) - left + 1, 0)
        line = offset[:, None] + row.to(tl.int64) * (width + 1)
        for i in range(0, tl.cdiv(tl.max(tl.max(columns, 1), 0), by_columns)):
            column = left + (i * by_columns + column_part[:, None])
            crossed = i * by_columns + column_part[:, None] < columns
            before = tl.where(column < 0, -FAR, 1.0 * column)
            after = tl.where(column >= width, FAR, column + 1.0)
            u_in, u_out = _between(x_low, span, before, after)
            inside = (column >= 0) & (column < width)
            inset = tl.where(inside, x_low + span * (0.5 * (u_in + u_out)) - column, 0.0)
            piece = signed * (u_out - u_in)
            cell = line + tl.maximum(column, 0)
            tl.atomic_add(area + cell, piece * (1 - inset), mask=crossed, sem="relaxed")
            tl.atomic_add(area + cell + 1, piece * inset, mask=crossed & inside, sem="relaxed")
            tl.store(marks + cell, _BOUNDARY, mask=crossed)


@triton.jit(do_not_specialize=["total"])
def scatter(
    points,
    segments,
    straight,
    regions,
    matrices,
    edges,
    windows,
    offsets,
    area,
    marks,
    total,
    tolerance,
    DIRECT: tl.constexpr,
):
    """Adds the signed areas along all outlines. Programs as in `bound`."""
    program = tl.program_id(0)
    lane = tl.arange(0, CHORDS)
    if DIRECT:
        e = program * CHORDS + lane
        valid = e < total
        x0, y0, x1, y1 = _edge(edges, e, valid)
        region = tl.load(regions + e, mask=valid, other=0)
        _scatter_chords(x0, y0, x1, y1, valid, 1, lane * 0, 1, lane * 0, region, windows, offsets, area, marks)
    else:
        region = tl.load(regions + program)
        ax, ay, bx, by, cx, cy, dx, dy, n = _open(points, segments, straight, matrices, region, program, tolerance)
        for first in range(0, n, CHORDS):
            k, by_rows, row_part, by_columns, column_part = _lanes(first, n, dx - ax, dy - ay)
            x0, y0, x1, y1 = _chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
            _scatter_chords(
                x0, y0, x1, y1, k < n, by_rows, row_part, by_columns, column_part, region + lane * 0, windows, offsets,
                area, marks,
            )  # fmt: skip


@triton.jit
def accumulate(winding, cover, marks, windows, offsets, odd, bounds, BLOCK: tl.constexpr):
    """Signed areas to winding numbers, in place, and on to coverage. One program for each region and BLOCK rows."""
    region = tl.program_id(0)
    width, height = tl.load(windows + 4 * region + 2), tl.load(windows + 4 * region + 3)
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(1) * BLOCK < height:
        line = tl.load(offsets + region) + row.to(tl.int64) * (width + 1)
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
            tl.store(cover + cell, _rule(value, evenodd), mask=inside)
            marked = tl.load(marks + cell, mask=inside, other=0) != 0
            least = tl.where(marked, tl.minimum(least, tl.floor(value + _SLACK).to(tl.int32)), least)
            most = tl.where(marked, tl.maximum(most, tl.ceil(value - _SLACK).to(tl.int32)), most)
        tl.atomic_min(bounds + region * BOUNDS + 4, tl.min(tl.min(least, 1), 0))
        tl.atomic_max(bounds + region * BOUNDS + 5, tl.max(tl.max(most, 1), 0))


@triton.jit
def find_ambiguous(winding, marks, windows, offsets, odd, bounds, listed, tiles, BLOCK: tl.constexpr):
    """Lists the tiles that hold what `supersampling.ambiguous_cells` finds. Programs as in `accumulate`.

    listed: how many tiles; tiles: region, row and column of each, in tiles from its window's upper left corner.
    """
    region = tl.program_id(0)
    width, height = tl.load(windows + 4 * region + 2), tl.load(windows + 4 * region + 3)
    spread = tl.load(bounds + region * BOUNDS + 5) - tl.load(bounds + region * BOUNDS + 4)
    row = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[:, None]
    if (spread >= 2) & (tl.program_id(1) * BLOCK < height):
        offset = tl.load(offsets + region)
        evenodd = tl.load(odd + region) != 0
        for first in range(0, width + 1, COLUMNS):
            column = first + tl.arange(0, COLUMNS)[None, :]
            inside = (row < height) & (column <= width)
            cell = offset + row.to(tl.int64) * (width + 1) + column
            boundary = (tl.load(marks + cell, mask=inside, other=0) & _BOUNDARY) != 0
            low = tl.full((BLOCK, COLUMNS), FAR, tl.float32)
            high = tl.full((BLOCK, COLUMNS), -FAR, tl.float32)
            for near in tl.static_range(9):
                y = tl.minimum(tl.maximum(row + (near // 3 - 1), 0), height - 1)
                x = tl.minimum(tl.maximum(column + (near % 3 - 1), 0), width - 1)
                value = tl.load(winding + offset + y.to(tl.int64) * (width + 1) + x, mask=boundary, other=0.0)
                low, high = tl.minimum(low, value), tl.maximum(high, value)
            matters = ((low < 1 - _SLACK) & (high > _SLACK - 1)) | evenodd
            found = boundary & matters & (tl.ceil(high - _SLACK) - tl.floor(low + _SLACK) >= 2)
            tile_row, tile_column = row // _TILE, column // _TILE
            corner = offset + tile_row.to(tl.int64) * _TILE * (width + 1) + tile_column * _TILE
            before = tl.atomic_or(marks + corner, _LISTED, mask=found)
            fresh = found & ((before & _LISTED) == 0)
            slot = tl.atomic_add(listed + corner * 0, 1, mask=fresh, sem="relaxed")
            to = tiles + 3 * slot.to(tl.int64)
            tl.store(to, region + slot * 0, mask=fresh)
            tl.store(to + 1, tile_row + slot * 0, mask=fresh)
            tl.store(to + 2, tile_column + slot * 0, mask=fresh)


@triton.jit
def _fine_area(x0, y0, x1, y1):
    """Winding numbers that one chord, in subpixels of a tile, adds to all of the tile's subpixels."""
    row = 1.0 * tl.arange(0, _FINE)[:, None]
    column = 1.0 * tl.arange(0, _FINE)[None, :]
    rise, run = y1 - y0, x1 - x0
    safe = tl.where(rise == 0, 1.0, rise)
    low = tl.maximum(row, tl.minimum(y0, y1))
    high = tl.minimum(row + 1, tl.maximum(y0, y1))
    x_low = x0 + run * ((low - y0) / safe)
    span = x0 + run * ((high - y0) / safe) - x_low
    height = tl.maximum(high - low, 0.0)
    u_in, u_out = _between(x_low, span, column, column + 1)
    upright = span == 0
    left = tl.where(upright, tl.where(x_low < column, 1.0, 0.0), tl.where(span > 0, u_in, 1 - u_out))
    within = tl.where(upright, tl.where((x_low >= column) & (x_low < column + 1), 1.0, 0.0), u_out - u_in)
    inset = x_low + span * (0.5 * (u_in + u_out)) - column
    share = left + tl.where(within > 0, within * (1 - inset), 0.0)
    return tl.where(rise > 0, 1.0, -1.0) * height * share


@triton.jit
def _to_tile(x0, y0, x1, y1, x, y):
    """From canvas pixels to subpixels of the tile at (x, y)."""
    return (x0 * _SCALE - x, y0 * _SCALE - y, x1 * _SCALE - x, y1 * _SCALE - y)


@triton.jit
def _fine_winding(
    points, segments, straight, matrices, edges, region, start, end, x, y, tolerance, DIRECT: tl.constexpr
):
    """Winding numbers of the subpixels of the tile at (x, y), in subpixels, from all outlines of its region."""
    winding = tl.zeros((_FINE, _FINE), tl.float32)
    for s in range(start, end):
        if DIRECT:
            e = edges + 4 * s
            x0, y0, x1, y1 = _to_tile(tl.load(e), tl.load(e + 1), tl.load(e + 2), tl.load(e + 3), x, y)
            if (tl.maximum(y0, y1) > 0) & (tl.minimum(y0, y1) < _FINE) & (tl.minimum(x0, x1) < _FINE):
                winding += _fine_area(x0, y0, x1, y1)
        else:
            ax, ay, bx, by, cx, cy, dx, dy, n = _open(points, segments, straight, matrices, region, s, tolerance)
            for k in range(0, n):
                x0, y0, x1, y1 = _chord(tl.full((), 0, tl.int32) + k, n, ax, ay, bx, by, cx, cy, dx, dy)
                x0, y0, x1, y1 = _to_tile(x0, y0, x1, y1, x, y)
                if (tl.maximum(y0, y1) > 0) & (tl.minimum(y0, y1) < _FINE) & (tl.minimum(x0, x1) < _FINE):
                    winding += _fine_area(x0, y0, x1, y1)
    return winding


@triton.jit
def refine(
    points,
    segments,
    straight,
    matrices,
    edges,
    firsts,
    windows,
    offsets,
    odd,
    listed,
    tiles,
    cover,
    tolerance,
    DIRECT: tl.constexpr,
):
    """Supersamples the listed tiles, as `supersampling.refine` does. Any number of programs.

    firsts: for each region where its segments or edges begin, and last where those of the last one end.
    """
    for i in range(tl.program_id(0), tl.load(listed), tl.num_programs(0)):
        tile = tiles + 3 * i
        region, tile_row, tile_column = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
        start, end = tl.load(firsts + region), tl.load(firsts + region + 1)
        if start < end:
            window = windows + 4 * region
            x = (tl.load(window) + tile_column * _TILE) * _SCALE
            y = (tl.load(window + 1) + tile_row * _TILE) * _SCALE
            winding = _fine_winding(
                points, segments, straight, matrices, edges, region, start, end, x, y, tolerance, DIRECT
            )
            fine = tl.reshape(_rule(winding, tl.load(odd + region) != 0), (_TILE, _SCALE, _TILE, _SCALE))
            mean = tl.sum(tl.sum(fine, 3), 1) / (_SCALE * _SCALE)
            width, height = tl.load(window + 2), tl.load(window + 3)
            row = tile_row * _TILE + tl.arange(0, _TILE)[:, None]
            column = tile_column * _TILE + tl.arange(0, _TILE)[None, :]
            cell = tl.load(offsets + region) + row.to(tl.int64) * (width + 1) + column
            tl.store(cover + cell, mean, mask=(row < height) & (column < width))


@triton.jit
def _pull(x0, y0, x1, y1, valid, by_rows, row_part, by_columns, column_part, width, height, offset, odd, winding, grad):
    """What the loss gains when chords move outward: at their starts, at their ends; see `coverage._density`.

    The lanes' parts of chords, see `_lanes`, are in their window's coordinates. The result is to be multiplied by the
    chord's normal (−Δy, Δx).
    """
    rise, run = y1 - y0, x1 - x0
    level = rise == 0
    top, bottom = tl.minimum(y0, y1), tl.maximum(y0, y1)
    first = tl.minimum(tl.maximum(tl.floor(top), 0.0), 1.0 * height).to(tl.int32)
    last = tl.minimum(tl.maximum(tl.ceil(bottom), 0.0), 1.0 * height).to(tl.int32)
    touches = (run != 0) & (y0 >= 0) & (y0 <= height)
    count = tl.where(level, tl.where(touches, 1, 0), last - first)
    count = tl.where(valid & (width > 0), count, 0)
    upright = (x0 == x1) & (x0 == tl.floor(x0)) & (x0 >= 0) & (x0 <= width)
    aligned = (tl.where(level, y0 == tl.floor(y0), upright))[:, None]
    jump = tl.where(level, -_sign(run), _sign(rise))[:, None]
    level, width, height, odd = level[:, None], width[:, None], height[:, None], odd[:, None]
    rise, run = tl.where(level, 1.0, rise[:, None]), run[:, None]
    step = tl.arange(0, ROWS)[None, :]
    at_start = tl.zeros((CHORDS,), tl.float32)
    at_end = tl.zeros((CHORDS,), tl.float32)
    for start in range(0, tl.cdiv(tl.max(count, 0), by_rows), ROWS):
        place = (start + step) * by_rows + row_part[:, None]
        row = first[:, None] + place
        seen = place < count[:, None]
        low = tl.maximum(1.0 * row, top[:, None])
        high = tl.minimum(row + 1.0, bottom[:, None])
        t_low = tl.where(level, 0.0, (low - y0[:, None]) / rise)
        t_run = tl.where(level, 1.0, (high - y0[:, None]) / rise) - t_low
        x_low = x0[:, None] + run * t_low
        x_high = x0[:, None] + run * (t_low + t_run)
        span = x_high - x_low
        left = tl.minimum(tl.maximum(tl.floor(tl.minimum(x_low, x_high)), -1.0), 1.0 * width).to(tl.int32)
        right = tl.minimum(tl.maximum(tl.ceil(tl.maximum(x_low, x_high)) - 1, -1.0), 1.0 * width).to(tl.int32)
        columns = tl.where(seen, tl.maximum(right, left) - left + 1, 0)
        line = offset[:, None] + row.to(tl.int64) * (width + 1)
        for i in range(0, tl.cdiv(tl.max(tl.max(columns, 1), 0), by_columns)):
            column = left + (i * by_columns + column_part[:, None])
            crossed = i * by_columns + column_part[:, None] < columns
            outer = tl.where(column < 0, -FAR, 1.0 * column)
            u_in, u_out = _between(x_low, span, outer, tl.where(column >= width, FAR, column + 1.0))
            t_in, t_out = t_low + u_in * t_run, t_low + u_out * t_run
            weight1 = 0.5 * tl.abs(t_out * t_out - t_in * t_in)
            weight0 = tl.abs(t_out - t_in) - weight1

            in_columns = (column >= 0) & (column < width)
            inside = in_columns & (row < height)
            across = crossed & aligned & (in_columns | ~level)
            sees_after = crossed & inside
            sees_before = across & tl.where(level, row >= 1, column >= 1)
            after = line + tl.maximum(column, 0)
            before = tl.where(level, after - (width + 1), after - 1)
            high_w = tl.load(winding + after, mask=sees_after, other=0.0)
            low_w = tl.load(winding + before, mask=sees_before, other=0.0)
            grad_after = tl.load(grad + after, mask=sees_after, other=0.0)
            grad_before = tl.load(grad + before, mask=sees_before, other=0.0)
            within = grad_after * _slope(high_w, odd)
            low_w, high_w = tl.where(sees_before, low_w, high_w - jump), tl.where(sees_after, high_w, low_w + jump)
            difference = high_w - low_w
            same = tl.abs(difference) < 1e-6
            chord = (_rule(high_w, odd) - _rule(low_w, odd)) / tl.where(same, 1.0, difference)
            chord = tl.where(same, _slope(low_w, odd), chord)
            density = tl.where(aligned, 0.5 * (grad_after + grad_before) * chord, within)
            density = tl.where(crossed, density, 0.0)
            at_start += tl.sum(density * weight0, 1)
            at_end += tl.sum(density * weight1, 1)
    return at_start, at_end


@triton.jit
def _hand_on(total, points, row, matrices, region, gx, gy):
    """Adds a gradient by a control point on the canvas to that by the scene's point."""
    x, y = _place(points, row, matrices, region)
    gx, gy = tl.where(tl.abs(x) < REACH, gx, 0.0), tl.where(tl.abs(y) < REACH, gy, 0.0)
    matrix = matrices + 6 * region
    tl.atomic_add(total + 2 * row, tl.load(matrix + 0) * gx + tl.load(matrix + 1) * gy, sem="relaxed")
    tl.atomic_add(total + 2 * row + 1, tl.load(matrix + 2) * gx + tl.load(matrix + 3) * gy, sem="relaxed")


@triton.jit
def _hand_on_edges(total, e, valid, at_start, at_end, nx, ny):
    to = total + 4 * e.to(tl.int64)
    tl.atomic_add(to, at_start * nx, mask=valid, sem="relaxed")
    tl.atomic_add(to + 1, at_start * ny, mask=valid, sem="relaxed")
    tl.atomic_add(to + 2, at_end * nx, mask=valid, sem="relaxed")
    tl.atomic_add(to + 3, at_end * ny, mask=valid, sem="relaxed")


@triton.jit
def _pull_segment(
    s,
    points,
    segments,
    straight,
    matrices,
    region,
    tolerance,
    scale,
    x,
    y,
    width,
    height,
    offset,
    odd,
    winding,
    grad,
    total,
):
    """`_pull` for all chords of a segment, in a window at (x, y) of pixels `scale` times as fine; adds to `total`."""
    none = tl.arange(0, CHORDS) * 0
    ax, ay, bx, by, cx, cy, dx, dy, n = _open(points, segments, straight, matrices, region, s, tolerance)
    # a curve lies within the box around its control points
    left = tl.minimum(tl.minimum(ax, bx), tl.minimum(cx, dx)) * scale - x
    right = tl.maximum(tl.maximum(ax, bx), tl.maximum(cx, dx)) * scale - x
    top = tl.minimum(tl.minimum(ay, by), tl.minimum(cy, dy)) * scale - y
    bottom = tl.maximum(tl.maximum(ay, by), tl.maximum(cy, dy)) * scale - y
    if (left < width + 1) & (right > -1) & (top < height + 1) & (bottom > -1):
        gax, gay, gbx, gby = 0.0, 0.0, 0.0, 0.0
        gcx, gcy, gdx, gdy = 0.0, 0.0, 0.0, 0.0
        for first in range(0, n, CHORDS):
            k, by_rows, row_part, by_columns, column_part = _lanes(first, n, dx - ax, dy - ay)
            x0, y0, x1, y1 = _chord(k, n, ax, ay, bx, by, cx, cy, dx, dy)
            x0, y0, x1, y1 = x0 * scale - x, y0 * scale - y, x1 * scale - x, y1 * scale - y
            at_start, at_end = _pull(
                x0, y0, x1, y1, k < n, by_rows, row_part, by_columns, column_part, none + width, none + height,
                none + offset, odd & (none == 0), winding, grad,
            )  # fmt: skip
            nx, ny = (y0 - y1) * scale, (x1 - x0) * scale
            t0, t1 = _parameters(k, n)
            p0, q0, r0, s0 = _bernstein(t0)
            p1, q1, r1, s1 = _bernstein(t1)
            p, q, r, z = (
                p0 * at_start + p1 * at_end,
                q0 * at_start + q1 * at_end,
                r0 * at_start + r1 * at_end,
                s0 * at_start + s1 * at_end,
            )
            gax += tl.sum(p * nx, 0)
            gay += tl.sum(p * ny, 0)
            gbx += tl.sum(q * nx, 0)
            gby += tl.sum(q * ny, 0)
            gcx += tl.sum(r * nx, 0)
            gcy += tl.sum(r * ny, 0)
            gdx += tl.sum(z * nx, 0)
            gdy += tl.sum(z * ny, 0)
        _hand_on(total, points, tl.load(segments + 4 * s), matrices, region, gax, gay)
        _hand_on(total, points, tl.load(segments + 4 * s + 1), matrices, region, gbx, gby)
        _hand_on(total, points, tl.load(segments + 4 * s + 2), matrices, region, gcx, gcy)
        _hand_on(total, points, tl.load(segments + 4 * s + 3), matrices, region, gdx, gdy)


@triton.jit(do_not_specialize=["total"])
def pull(
    points,
    segments,
    straight,
    regions,
    matrices,
    edges,
    windows,
    offsets,
    odd,
    winding,
    grad,
    grad_points,
    total,
    tolerance,
    DIRECT: tl.constexpr,
):
    """Gradient by the points, or the edges, from that by the coverage. Programs as in `bound`."""
    program = tl.program_id(0)
    if DIRECT:
        e = program * CHORDS + tl.arange(0, CHORDS)
        valid = e < total
        x0, y0, x1, y1 = _edge(edges, e, valid)
        region = tl.load(regions + e, mask=valid, other=0)
        window = windows + 4 * region
        x, y = tl.load(window), tl.load(window + 1)
        width, height, offset = tl.load(window + 2), tl.load(window + 3), tl.load(offsets + region)
        evenodd = tl.load(odd + region) != 0
        at_start, at_end = _pull(
            x0 - x, y0 - y, x1 - x, y1 - y, valid, 1, e * 0, 1, e * 0, width, height, offset, evenodd, winding, grad
        )
        _hand_on_edges(grad_points, e, valid, at_start, at_end, y0 - y1, x1 - x0)
    else:
        region = tl.load(regions + program)
        window = windows + 4 * region
        x, y = tl.load(window), tl.load(window + 1)
        width, height, offset = tl.load(window + 2), tl.load(window + 3), tl.load(offsets + region)
        evenodd = tl.load(odd + region) != 0
        _pull_segment(
            program, points, segments, straight, matrices, region, tolerance, 1.0,
            x, y, width, height, offset, evenodd, winding, grad, grad_points,
        )  # fmt: skip


@triton.jit
def pull_refined(
    points,
    segments,
    straight,
    matrices,
    edges,
    firsts,
    windows,
    offsets,
    odd,
    listed,
    tiles,
    grad,
    scratch,
    grad_points,
    tolerance,
    DIRECT: tl.constexpr,
):
    """`pull` for the listed tiles, whose pixels' gradient it takes away: they have no other part in the coverage.

    scratch: for each program the winding numbers of a tile's subpixels, and the gradients by their coverage.
    """
    row = tl.arange(0, _FINE)[:, None]
    column = tl.arange(0, _FINE)[None, :]
    own = 2 * _FINE * (_FINE + 1) * tl.program_id(0)
    fine_winding, fine_grad = scratch + own, scratch + own + _FINE * (_FINE + 1)
    for i in range(tl.program_id(0), tl.load(listed), tl.num_programs(0)):
        tile = tiles + 3 * i
        region, tile_row, tile_column = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
        start, end = tl.load(firsts + region), tl.load(firsts + region + 1)
        if start < end:
            window = windows + 4 * region
            x = (tl.load(window) + tile_column * _TILE) * _SCALE
            y = (tl.load(window + 1) + tile_row * _TILE) * _SCALE
            width, height = tl.load(window + 2), tl.load(window + 3)
            evenodd = tl.load(odd + region) != 0
            winding = _fine_winding(
                points, segments, straight, matrices, edges, region, start, end, x, y, tolerance, DIRECT
            )
            pixel_row, pixel_column = tile_row * _TILE + row // _SCALE, tile_column * _TILE + column // _SCALE
            cell = tl.load(offsets + region) + pixel_row.to(tl.int64) * (width + 1) + pixel_column
            inside = (pixel_row < height) & (pixel_column < width)
            taken = tl.load(grad + cell, mask=inside, other=0.0) / (_SCALE * _SCALE)
            # the tile before is done with the scratch, and this one's gradients are read before they go
            tl.debug_barrier()
            tl.store(fine_winding + row * (_FINE + 1) + column, winding)
            tl.store(fine_grad + row * (_FINE + 1) + column, taken)
            tl.store(grad + cell, 0.0, mask=inside)
            tl.debug_barrier()
            if DIRECT:
                lane = tl.arange(0, CHORDS)
                none = lane * 0
                for first in range(start, end, CHORDS):
                    e = first + lane
                    x0, y0, x1, y1 = _edge(edges, e, e < end)
                    x0, y0, x1, y1 = _to_tile(x0, y0, x1, y1, x, y)
                    at_start, at_end = _pull(
                        x0, y0, x1, y1, e < end, 1, none, 1, none, none + _FINE, none + _FINE, none.to(tl.int64),
                        evenodd & (none == 0), fine_winding, fine_grad,
                    )  # fmt: skip
                    nx, ny = (y0 - y1) * _SCALE, (x1 - x0) * _SCALE
                    _hand_on_edges(grad_points, e, e < end, at_start, at_end, nx, ny)
            else:
                for s in range(start, end):
                    _pull_segment(
                        s, points, segments, straight, matrices, region, tolerance, 1.0 * _SCALE, x, y,
                        _FINE, _FINE, 0, evenodd, fine_winding, fine_grad, grad_points,
                    )  # fmt: skip
