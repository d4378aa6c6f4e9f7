"""Triton kernels for ordered alpha compositing (Porter and Duff, 1984), forward and backward.

One program works on one tile of the canvas: it walks through all items of a layer in paint order, leaves out those
whose window does not meet the tile, and keeps the tile's colours in registers. The forward pass stores what the
backward pass needs of the way, the difference that each item makes up for, in the layout of the windows. So the
backward pass need not divide by transmittances, which may be 0.

Planes are [height, width] pixels in row-major order, pictures four of them: premultiplied RGBA.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.device import (
    TILE,
    block_sum,
    load4,
    plane_of,
    store4,
    tile_cells,
    tile_pixels,
)

SOLID = tl.constexpr(0)
TEXTURE = tl.constexpr(1)
LAYER = tl.constexpr(2)
ITEM = tl.constexpr(4)
"""Numbers at the head of an item: kind; region, or number of the layer; row of colours; mask or −1. After them come
the rows of opacities whose product is the item's, filled up with −1."""


@triton.jit
def _product(item, opacities, without, OPACITIES: tl.constexpr):
    """Return the product of an item's opacities, except for one of them."""
    factor = 1.0
    for k in tl.static_range(OPACITIES):
        row = tl.load(item + ITEM + k)
        value = tl.load(opacities + row, mask=row >= 0, other=1.0)
        factor *= tl.where(without == k, 1.0, value)
    return factor


@triton.jit
def _paint(item, colors, textures, cells, cell, inside):
    """Return colour and alpha of a region's pixels before opacities."""
    textured = tl.load(item) == TEXTURE
    color = colors + 3 * tl.load(item + 2)
    seen = inside & textured
    r, g, b, a = load4(textures, cells, cell, seen)
    r = tl.where(textured, r, tl.load(color, mask=~textured, other=0.0))
    g = tl.where(textured, g, tl.load(color + 1, mask=~textured, other=0.0))
    b = tl.where(textured, b, tl.load(color + 2, mask=~textured, other=0.0))
    return r, g, b, tl.where(textured, a, 1.0)


@triton.jit(do_not_specialize=["cells", "first", "last"])
def composite(
    background, out, cover, colors, opacities, textures, pictures, masks, items, windows, offsets, kept, kept_pictures,
    cells, first, last, width, height, OPAQUE: tl.constexpr, KEEP: tl.constexpr, OPACITIES: tl.constexpr,
):  # fmt: skip
    """Lay items first … last − 1 over a background of three planes (`OPAQUE`), or over nothing."""
    x, y, pixel, on = tile_pixels(width, height)
    plane = plane_of(width, height)
    r = tl.zeros((TILE, TILE), tl.float32)
    g, b, a = r, r, r
    if OPAQUE:
        r = tl.load(background + pixel, mask=on, other=0.0)
        g = tl.load(background + plane + pixel, mask=on, other=0.0)
        b = tl.load(background + 2 * plane + pixel, mask=on, other=0.0)
        a += 1.0
    for i in range(first, last):
        item = items + i * (ITEM + OPACITIES)
        number, mask = tl.load(item + 1), tl.load(item + 3)
        if tl.load(item) == LAYER:
            factor = tl.load(masks + mask * plane + pixel, mask=on & (mask >= 0), other=1.0)
            factor *= _product(item, opacities, -1, OPACITIES)
            picture = 4 * plane * number
            pr, pg, pb, pa = load4(pictures + picture, plane, pixel, on)
            if KEEP:
                store4(kept_pictures + picture, plane, pixel, on, r, g, b, a)
            rest = 1 - pa * factor
            r, g, b, a = r * rest + pr * factor, g * rest + pg * factor, b * rest + pb * factor, a * rest + pa * factor
        else:
            cell, inside, meets = tile_cells(number, windows, offsets, x, y)
            if meets:
                cr, cg, cb, alpha = _paint(item, colors, textures, cells, cell, inside)
                alpha *= tl.load(cover + cell, mask=inside, other=0.0) * _product(item, opacities, -1, OPACITIES)
                alpha *= tl.load(masks + mask * plane + pixel, mask=inside & (mask >= 0), other=1.0)
                dr, dg, db, da = cr - r, cg - g, cb - b, 1 - a
                if KEEP:
                    store4(kept, cells, cell, inside, dr, dg, db, da)
                r, g, b, a = r + alpha * dr, g + alpha * dg, b + alpha * db, a + alpha * da
    tl.store(out + pixel, r, mask=on)
    tl.store(out + plane + pixel, g, mask=on)
    tl.store(out + 2 * plane + pixel, b, mask=on)
    if not OPAQUE:
        tl.store(out + 3 * plane + pixel, a, mask=on)


@triton.jit
def _hand_on_product(item, opacities, grad_opacities, grad, OPACITIES: tl.constexpr):
    """Add a gradient by the product of an item's opacities to those by its opacities."""
    for k in tl.static_range(OPACITIES):
        row = tl.load(item + ITEM + k)
        others = _product(item, opacities, k, OPACITIES)
        tl.atomic_add(grad_opacities + row, grad * others, mask=row >= 0, sem="relaxed")


@triton.jit
def _layer_backward(
    item, number, mask, factor, gr, gg, gb, ga, on, pixel, plane, pictures, masks, kept_pictures, opacities,
    grad_pictures, grad_masks, grad_opacities, OPACITIES: tl.constexpr,
):  # fmt: skip
    """Take the gradient back through a layer; return what is left of it for the items below."""
    shown = tl.load(masks + mask * plane + pixel, mask=on & (mask >= 0), other=1.0)
    both = shown * factor
    picture = 4 * plane * number
    pr, pg, pb, pa = load4(pictures + picture, plane, pixel, on)
    r, g, b, a = load4(kept_pictures + picture, plane, pixel, on)
    below = gr * r + gg * g + gb * b + ga * a
    store4(grad_pictures + picture, plane, pixel, on, gr * both, gg * both, gb * both, (ga - below) * both)
    by_both = gr * pr + gg * pg + gb * pb + ga * pa - pa * below
    tl.atomic_add(grad_masks + mask * plane + pixel, by_both * factor, mask=on & (mask >= 0), sem="relaxed")
    _hand_on_product(item, opacities, grad_opacities, block_sum(by_both * shown), OPACITIES)
    rest = 1 - pa * both
    return gr * rest, gg * rest, gb * rest, ga * rest


@triton.jit
def _region_backward(
    item, mask, factor, gr, gg, gb, ga, cell, inside, pixel, plane, cover, colors, opacities, textures, masks, kept,
    grad_cover, grad_colors, grad_opacities, grad_textures, grad_masks, cells, OPACITIES: tl.constexpr,
):  # fmt: skip
    """Take the gradient back through a region; return what is left of it for the items below."""
    _, _, _, own = _paint(item, colors, textures, cells, cell, inside)
    covered = tl.load(cover + cell, mask=inside, other=0.0)
    shown = tl.load(masks + mask * plane + pixel, mask=inside & (mask >= 0), other=1.0)
    dr, dg, db, da = load4(kept, cells, cell, inside)
    alpha = covered * own * shown * factor
    by_alpha = gr * dr + gg * dg + gb * db + ga * da
    tl.store(grad_cover + cell, by_alpha * own * shown * factor, mask=inside)
    on_mask = grad_masks + mask * plane + pixel
    tl.atomic_add(on_mask, by_alpha * covered * own * factor, mask=inside & (mask >= 0), sem="relaxed")
    _hand_on_product(item, opacities, grad_opacities, block_sum(by_alpha * covered * own * shown), OPACITIES)
    r, g, b = gr * alpha, gg * alpha, gb * alpha
    if tl.load(item) == TEXTURE:
        store4(grad_textures, cells, cell, inside, r, g, b, by_alpha * covered * shown * factor)
    else:
        color = grad_colors + 3 * tl.load(item + 2)
        tl.atomic_add(color, block_sum(r), sem="relaxed")
        tl.atomic_add(color + 1, block_sum(g), sem="relaxed")
        tl.atomic_add(color + 2, block_sum(b), sem="relaxed")
    return gr - r, gg - g, gb - b, ga - ga * alpha


@triton.jit(do_not_specialize=["cells", "first", "last"])
def composite_backward(
    grad, grad_background, cover, colors, opacities, textures, pictures, masks, items, windows, offsets, kept,
    kept_pictures, grad_cover, grad_colors, grad_opacities, grad_textures, grad_pictures, grad_masks, cells, first,
    last, width, height, OPAQUE: tl.constexpr, OPACITIES: tl.constexpr,
):  # fmt: skip
    """Walk back through what `composite` did."""
    x, y, pixel, on = tile_pixels(width, height)
    plane = plane_of(width, height)
    gr = tl.load(grad + pixel, mask=on, other=0.0)
    gg = tl.load(grad + plane + pixel, mask=on, other=0.0)
    gb = tl.load(grad + 2 * plane + pixel, mask=on, other=0.0)
    ga = tl.zeros((TILE, TILE), tl.float32)
    if not OPAQUE:
        ga = tl.load(grad + 3 * plane + pixel, mask=on, other=0.0)
    for back in range(0, last - first):
        item = items + (last - 1 - back) * (ITEM + OPACITIES)
        number, mask = tl.load(item + 1), tl.load(item + 3)
        factor = _product(item, opacities, -1, OPACITIES)
        if tl.load(item) == LAYER:
            gr, gg, gb, ga = _layer_backward(
                item, number, mask, factor, gr, gg, gb, ga, on, pixel, plane, pictures, masks, kept_pictures,
                opacities, grad_pictures, grad_masks, grad_opacities, OPACITIES,
            )  # fmt: skip
        else:
            cell, inside, meets = tile_cells(number, windows, offsets, x, y)
            if meets:
                gr, gg, gb, ga = _region_backward(
                    item, mask, factor, gr, gg, gb, ga, cell, inside, pixel, plane, cover, colors, opacities, textures,
                    masks, kept, grad_cover, grad_colors, grad_opacities, grad_textures, grad_masks, cells, OPACITIES,
                )  # fmt: skip
    if OPAQUE:
        tl.store(grad_background + pixel, gr, mask=on)
        tl.store(grad_background + plane + pixel, gg, mask=on)
        tl.store(grad_background + 2 * plane + pixel, gb, mask=on)
