"""Triton kernels for clip paths, forward and backward. One program works on one tile of the canvas."""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.device import TILE, plane_of, tile_cells, tile_pixels


@triton.jit
def _clipped(entry, cover, masks, windows, offsets, x, y, pixel, plane):
    """Return the coverage of one region of a mask, the region's own mask, where that is kept, and where it counts."""
    region, inner = tl.load(entry), tl.load(entry + 1)
    cell, inside, _ = tile_cells(region, windows, offsets, x, y)
    covered = tl.load(cover + cell, mask=inside, other=0.0)
    return covered, tl.load(masks + inner * plane + pixel, mask=inside & (inner >= 0), other=1.0), cell, inside


@triton.jit(do_not_specialize=["number", "clip", "first", "last"])
def union(cover, masks, entries, windows, offsets, number, clip, first, last, width, height):
    """Make mask `number`: the union of entries first … last − 1, cut by mask `clip`, or by nothing if that is −1.

    entries: region of each, and the mask that cuts it, or −1.
    """
    x, y, pixel, on = tile_pixels(width, height)
    plane = plane_of(width, height)
    left = tl.full((TILE, TILE), 1.0, tl.float32)
    for i in range(first, last):
        covered, inner, _, _ = _clipped(entries + 2 * i, cover, masks, windows, offsets, x, y, pixel, plane)
        left *= 1 - covered * inner
    cut = tl.load(masks + clip * plane + pixel, mask=on & (clip >= 0), other=1.0)
    tl.store(masks + number * plane + pixel, (1 - left) * cut, mask=on)


@triton.jit(do_not_specialize=["number", "clip", "first", "last"])
def union_backward(
    cover, masks, entries, windows, offsets, grad_cover, grad_masks, number, clip, first, last, width, height
):
    """Take the gradient by mask `number` back to what it was made of."""
    x, y, pixel, on = tile_pixels(width, height)
    plane = plane_of(width, height)
    grad = tl.load(grad_masks + number * plane + pixel, mask=on, other=0.0)
    cut = tl.load(masks + clip * plane + pixel, mask=on & (clip >= 0), other=1.0)
    left = tl.full((TILE, TILE), 1.0, tl.float32)
    for i in range(first, last):
        others = tl.full((TILE, TILE), 1.0, tl.float32)
        for j in range(first, last):
            covered, inner, _, _ = _clipped(entries + 2 * j, cover, masks, windows, offsets, x, y, pixel, plane)
            others *= tl.where(i == j, 1.0, 1 - covered * inner)
        covered, inner, cell, inside = _clipped(entries + 2 * i, cover, masks, windows, offsets, x, y, pixel, plane)
        left *= 1 - covered * inner
        pull = grad * cut * others
        tl.store(grad_cover + cell, pull * inner, mask=inside)
        own = tl.load(entries + 2 * i + 1)
        tl.atomic_add(grad_masks + own * plane + pixel, pull * covered, mask=inside & (own >= 0), sem="relaxed")
    tl.atomic_add(grad_masks + clip * plane + pixel, grad * (1 - left), mask=on & (clip >= 0), sem="relaxed")
