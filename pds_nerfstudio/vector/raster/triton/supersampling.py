"""Triton kernels for `supersampling`: tiles of pixels whose winding number cannot be told from its mean."""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster import supersampling
from pds_nerfstudio.vector.raster.triton.coverage import BOUNDARY, COLUMNS
from pds_nerfstudio.vector.raster.triton.coverage_backward import hand_on_edges, pull_chords, pull_segment
from pds_nerfstudio.vector.raster.triton.device import line_of, window_of
from pds_nerfstudio.vector.raster.triton.fill_rule import coverage_of
from pds_nerfstudio.vector.raster.triton.layout import BOUNDS
from pds_nerfstudio.vector.raster.triton.outlines import CHORDS, FAR, chord, load_edges, load_segment, part_between

_SCALE = tl.constexpr(supersampling.SCALE)
_TILE = tl.constexpr(supersampling.TILE)
_FINE = tl.constexpr(supersampling.SCALE * supersampling.TILE)
_SLACK = tl.constexpr(supersampling.SLACK)
_LISTED = tl.constexpr(2)
"""Mark of a tile's first cell: the tile is to be supersampled."""
SCRATCH = 2 * _FINE.value * (_FINE.value + 1)
"""Numbers that a program of `pull_supersampled` notes down about a tile: winding numbers, and gradients."""


@triton.jit
def find_ambiguous(winding, marks, windows, offsets, odd, bounds, listed, tiles, BLOCK: tl.constexpr):
    """List the tiles that hold what `supersampling.ambiguous_cells` finds. Programs as in `coverage.accumulate`.

    listed: how many tiles; tiles: region, row and column of each, in tiles from its window's upper left corner.
    """
    region = tl.program_id(0)
    _, _, width, height = window_of(region, windows)
    spread = tl.load(bounds + region * BOUNDS + 5) - tl.load(bounds + region * BOUNDS + 4)
    row = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[:, None]
    if (spread >= 2) & (tl.program_id(1) * BLOCK < height):
        offset = tl.load(offsets + region)
        evenodd = tl.load(odd + region) != 0
        for first in range(0, width + 1, COLUMNS):
            column = first + tl.arange(0, COLUMNS)[None, :]
            inside = (row < height) & (column <= width)
            cell = line_of(row, width, offset) + column
            boundary = (tl.load(marks + cell, mask=inside, other=0) & BOUNDARY) != 0
            low = tl.full((BLOCK, COLUMNS), FAR, tl.float32)
            high = tl.full((BLOCK, COLUMNS), -FAR, tl.float32)
            for near in tl.static_range(9):
                y = tl.minimum(tl.maximum(row + (near // 3 - 1), 0), height - 1)
                x = tl.minimum(tl.maximum(column + (near % 3 - 1), 0), width - 1)
                value = tl.load(winding + line_of(y, width, offset) + x, mask=boundary, other=0.0)
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
    """Return the winding numbers that one chord, in subpixels of a tile, adds to all of the tile's subpixels."""
    row = 1.0 * tl.arange(0, _FINE)[:, None]
    column = 1.0 * tl.arange(0, _FINE)[None, :]
    rise, run = y1 - y0, x1 - x0
    safe = tl.where(rise == 0, 1.0, rise)
    low = tl.maximum(row, tl.minimum(y0, y1))
    high = tl.minimum(row + 1, tl.maximum(y0, y1))
    x_low = x0 + run * ((low - y0) / safe)
    span = x0 + run * ((high - y0) / safe) - x_low
    height = tl.maximum(high - low, 0.0)
    u_in, u_out = part_between(x_low, span, column, column + 1)
    upright = span == 0
    left = tl.where(upright, tl.where(x_low < column, 1.0, 0.0), tl.where(span > 0, u_in, 1 - u_out))
    within = tl.where(upright, tl.where((x_low >= column) & (x_low < column + 1), 1.0, 0.0), u_out - u_in)
    inset = x_low + span * (0.5 * (u_in + u_out)) - column
    share = left + tl.where(within > 0, within * (1 - inset), 0.0)
    return tl.where(rise > 0, 1.0, -1.0) * height * share


@triton.jit
def _to_tile(x0, y0, x1, y1, x, y):
    """Return a chord of canvas pixels in subpixels of the tile at (x, y)."""
    return (x0 * _SCALE - x, y0 * _SCALE - y, x1 * _SCALE - x, y1 * _SCALE - y)


@triton.jit
def _meets_tile(x0, y0, x1, y1):
    """Return whether a chord adds anything to a tile: it lies in its rows, and not to the right of it."""
    return (tl.maximum(y0, y1) > 0) & (tl.minimum(y0, y1) < _FINE) & (tl.minimum(x0, x1) < _FINE)


@triton.jit
def _fine_winding(
    points, segments, straight, matrices, edges, region, start, end, x, y, tolerance, DIRECT: tl.constexpr
):
    """Return the winding numbers of the subpixels of the tile at (x, y), in subpixels, from its region's outlines."""
    winding = tl.zeros((_FINE, _FINE), tl.float32)
    for s in range(start, end):
        if DIRECT:
            e = edges + 4 * s
            x0, y0, x1, y1 = _to_tile(tl.load(e), tl.load(e + 1), tl.load(e + 2), tl.load(e + 3), x, y)
            if _meets_tile(x0, y0, x1, y1):
                winding += _fine_area(x0, y0, x1, y1)
        else:
            ax, ay, bx, by, cx, cy, dx, dy, n = load_segment(points, segments, straight, matrices, region, s, tolerance)
            for k in range(0, n):
                x0, y0, x1, y1 = chord(tl.full((), 0, tl.int32) + k, n, ax, ay, bx, by, cx, cy, dx, dy)
                x0, y0, x1, y1 = _to_tile(x0, y0, x1, y1, x, y)
                if _meets_tile(x0, y0, x1, y1):
                    winding += _fine_area(x0, y0, x1, y1)
    return winding


@triton.jit
def _listed_tile(i, tiles, firsts, windows):
    """Return tile i: region, row and column, the run of its region's outlines, and its corner in subpixels."""
    tile = tiles + 3 * i
    region, row, column = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    left, top, _, _ = window_of(region, windows)
    start, end = tl.load(firsts + region), tl.load(firsts + region + 1)
    return region, row, column, start, end, (left + column * _TILE) * _SCALE, (top + row * _TILE) * _SCALE


@triton.jit
def supersample(
    points, segments, straight, matrices, edges, firsts, windows, offsets, odd, listed, tiles, cover, tolerance,
    DIRECT: tl.constexpr,
):  # fmt: skip
    """Supersample the listed tiles, as `supersampling.supersample` does. Any number of programs.

    firsts: for each region where its segments or edges begin, and last where those of the last one end.
    """
    for i in range(tl.program_id(0), tl.load(listed), tl.num_programs(0)):
        region, tile_row, tile_column, start, end, x, y = _listed_tile(i, tiles, firsts, windows)
        if start < end:
            winding = _fine_winding(
                points, segments, straight, matrices, edges, region, start, end, x, y, tolerance, DIRECT
            )
            fine = tl.reshape(coverage_of(winding, tl.load(odd + region) != 0), (_TILE, _SCALE, _TILE, _SCALE))
            mean = tl.sum(tl.sum(fine, 3), 1) / (_SCALE * _SCALE)
            _, _, width, height = window_of(region, windows)
            row = tile_row * _TILE + tl.arange(0, _TILE)[:, None]
            column = tile_column * _TILE + tl.arange(0, _TILE)[None, :]
            cell = line_of(row, width, tl.load(offsets + region)) + column
            tl.store(cover + cell, mean, mask=(row < height) & (column < width))


@triton.jit
def _note_down(winding, region, tile_row, tile_column, windows, offsets, grad, fine_winding, fine_grad):
    """Note down a tile's winding numbers and, on its subpixels, its pixels' gradient, which is taken away from them."""
    row = tl.arange(0, _FINE)[:, None]
    column = tl.arange(0, _FINE)[None, :]
    _, _, width, height = window_of(region, windows)
    pixel_row, pixel_column = tile_row * _TILE + row // _SCALE, tile_column * _TILE + column // _SCALE
    cell = line_of(pixel_row, width, tl.load(offsets + region)) + pixel_column
    inside = (pixel_row < height) & (pixel_column < width)
    taken = tl.load(grad + cell, mask=inside, other=0.0) / (_SCALE * _SCALE)
    # the tile before is done with the scratch, and this one's gradients are read before they go
    tl.debug_barrier()
    tl.store(fine_winding + row * (_FINE + 1) + column, winding)
    tl.store(fine_grad + row * (_FINE + 1) + column, taken)
    tl.store(grad + cell, 0.0, mask=inside)
    tl.debug_barrier()


@triton.jit
def _pull_fine_edges(edges, start, end, x, y, odd, fine_winding, fine_grad, grad_points):
    """Do `pull_chords` for a run of edges in the tile at (x, y)."""
    lane = tl.arange(0, CHORDS)
    none = lane * 0
    for first in range(start, end, CHORDS):
        e = first + lane
        x0, y0, x1, y1 = load_edges(edges, e, e < end)
        x0, y0, x1, y1 = _to_tile(x0, y0, x1, y1, x, y)
        at_start, at_end = pull_chords(
            x0, y0, x1, y1, e < end, 1, none, 1, none, none + _FINE, none + _FINE, none.to(tl.int64),
            odd & (none == 0), fine_winding, fine_grad,
        )  # fmt: skip
        nx, ny = (y0 - y1) * _SCALE, (x1 - x0) * _SCALE
        hand_on_edges(grad_points, e, e < end, at_start, at_end, nx, ny)


@triton.jit
def pull_supersampled(
    points, segments, straight, matrices, edges, firsts, windows, offsets, odd, listed, tiles, grad, scratch,
    grad_points, tolerance, DIRECT: tl.constexpr,
):  # fmt: skip
    """Do `pull` for the listed tiles. Their pixels' gradient is taken away: it has no other part in the coverage.

    scratch: for each program the winding numbers of a tile's subpixels, and the gradients by their coverage.
    """
    fine_winding = scratch + 2 * _FINE * (_FINE + 1) * tl.program_id(0)
    fine_grad = fine_winding + _FINE * (_FINE + 1)
    for i in range(tl.program_id(0), tl.load(listed), tl.num_programs(0)):
        region, tile_row, tile_column, start, end, x, y = _listed_tile(i, tiles, firsts, windows)
        if start < end:
            evenodd = tl.load(odd + region) != 0
            winding = _fine_winding(
                points, segments, straight, matrices, edges, region, start, end, x, y, tolerance, DIRECT
            )
            _note_down(winding, region, tile_row, tile_column, windows, offsets, grad, fine_winding, fine_grad)
            if DIRECT:
                _pull_fine_edges(edges, start, end, x, y, evenodd, fine_winding, fine_grad, grad_points)
            else:
                for s in range(start, end):
                    pull_segment(
                        s, points, segments, straight, matrices, region, tolerance, 1.0 * _SCALE, x, y,
                        _FINE, _FINE, 0, evenodd, fine_winding, fine_grad, grad_points,
                    )  # fmt: skip
