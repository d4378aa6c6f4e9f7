"""What several Triton kernels do: signs, sums over blocks, four planes at once, windows, and tiles of the canvas.

Kernels call these by their global names; Triton puts them in where they are called.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

TILE = tl.constexpr(16)
"""Pixels along each side of a tile of the canvas, which is what a program of the compositor works on."""


@triton.jit
def sign(x):
    """Return −1, 0 or 1."""
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def block_sum(values):
    """Return the sum over both axes of a block."""
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def load4(base, stride, at, mask):
    """Return what four planes hold at some places, 0 outside of the mask."""
    a = tl.load(base + at, mask=mask, other=0.0)
    b = tl.load(base + stride + at, mask=mask, other=0.0)
    c = tl.load(base + 2 * stride + at, mask=mask, other=0.0)
    return a, b, c, tl.load(base + 3 * stride + at, mask=mask, other=0.0)


@triton.jit
def store4(base, stride, at, mask, a, b, c, d):
    """Put values into four planes."""
    tl.store(base + at, a, mask=mask)
    tl.store(base + stride + at, b, mask=mask)
    tl.store(base + 2 * stride + at, c, mask=mask)
    tl.store(base + 3 * stride + at, d, mask=mask)


@triton.jit
def window_of(region, windows):
    """Return a region's window: left, top, width and height in canvas pixels."""
    window = windows + 4 * region
    return tl.load(window), tl.load(window + 1), tl.load(window + 2), tl.load(window + 3)


@triton.jit
def line_of(row, width, start):
    """Return where a window's row begins; it takes one cell more than the window is wide."""
    return start + row.to(tl.int64) * (width + 1)


@triton.jit
def tile_pixels(width, height):
    """Return this program's pixels: x, y, their place in a plane, and which of them lie on the canvas."""
    x = tl.program_id(0) * TILE + tl.arange(0, TILE)[None, :]
    y = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    return x, y, y * width + x, (x < width) & (y < height)


@triton.jit
def plane_of(width, height):
    """Return the number of a plane's pixels, as a number that products with it do not overflow."""
    return tl.full((), 0, tl.int64) + height * width


@triton.jit
def tile_cells(region, windows, offsets, x, y):
    """Return where a region keeps pixels, which of them lie in its window, and whether that meets the tile."""
    left, top, width, height = window_of(region, windows)
    tile_x, tile_y = tl.program_id(0) * TILE, tl.program_id(1) * TILE
    meets = (tile_x < left + width) & (tile_x + TILE > left) & (tile_y < top + height) & (tile_y + TILE > top)
    column, row = x - left, y - top
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return line_of(row, width, tl.load(offsets + region)) + column, inside, meets
