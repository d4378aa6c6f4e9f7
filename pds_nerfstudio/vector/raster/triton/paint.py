"""Triton kernel that paints regions with gradients.

One program works on some rows of one region's window. Its results, plain colour and alpha, lie in the layout of the
windows.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.device import line_of, store4
from pds_nerfstudio.vector.raster.triton.gradient import (
    COLUMNS,
    REPEAT,
    ROWS,
    has_sharp,
    is_painted,
    own_draw,
    own_rows,
    parameter_at,
    passage,
    slopes,
    spread_of,
    stop_color,
    stop_offset,
)


@triton.jit
def _blend(t, footprint, spread, stops, first, last, offsets, colors, opacities):
    """Return colour and alpha at the gradient's parameter t; see `paint.gradient_colors`."""
    place = spread_of(t, spread)
    fr, fg, fb, fa = stop_color(stops, first, colors, opacities)
    r, g, b, a = fr + 0 * t, fg + 0 * t, fb + 0 * t, fa + 0 * t
    lr, lg, lb, la = fr, fg, fb, fa
    before = stop_offset(offsets, stops, first, 0.0)
    for s in range(first + 1, last):
        here = stop_offset(offsets, stops, s, before)
        done, _ = passage(place, before, here, footprint)
        done = tl.minimum(tl.maximum(done, 0.0), 1.0)
        nr, ng, nb, na = stop_color(stops, s, colors, opacities)
        r, g, b, a = r + (nr - lr) * done, g + (ng - lg) * done, b + (nb - lb) * done, a + (na - la) * done
        lr, lg, lb, la = nr, ng, nb, na
        before = here
    beyond = (t - tl.floor(t + 0.5)) / tl.where(footprint > 0, footprint, 1.0) + 0.5
    seam = (spread == REPEAT) & (beyond > 0) & (beyond < 1)
    r = tl.where(seam, lr + (fr - lr) * beyond, r)
    g = tl.where(seam, lg + (fg - lg) * beyond, g)
    b = tl.where(seam, lb + (fb - lb) * beyond, b)
    return r, g, b, tl.where(seam, la + (fa - la) * beyond, a)


@triton.jit
def paint(textures, draws, maps, boxes, stops, geometries, offsets, colors, opacities, windows, starts, cells):
    """Find colour and alpha of all regions that are painted with gradients. One program for a region's ROWS rows."""
    region, radial, spread, number, first, last, box, own_maps = own_draw(draws, maps)
    geometry = geometries + 6 * number
    left, top, width, height, row = own_rows(region, windows)
    if (tl.program_id(1) * ROWS < height) & (width > 0):
        needs_footprint = has_sharp(offsets, stops, first, last, spread) != 0
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)[None, :]
            x, y = left + column, top + row
            t = parameter_at(x, y, own_maps, boxes, box, radial, geometry)
            footprint = tl.zeros((ROWS, COLUMNS), tl.float32)
            if needs_footprint:
                dx, dy, _, _ = slopes(x, y, left, top, width, height, own_maps, boxes, box, radial, geometry)
                footprint = tl.sqrt(tl.maximum(dx * dx + dy * dy, 1e-12))
            r, g, b, a = _blend(t, footprint, spread, stops, first, last, offsets, colors, opacities)
            a = tl.where(is_painted(x, y, own_maps, boxes, box, radial, geometry), a, 0.0)
            at = line_of(row, width, tl.load(starts + region)) + column
            store4(textures, cells, at, (row < height) & (column < width), r, g, b, a)
