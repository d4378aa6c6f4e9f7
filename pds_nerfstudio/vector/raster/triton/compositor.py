"""Triton kernels for ordered alpha compositing (Porter and Duff, 1984) and for clip paths, forward and backward.

One program works on one tile of the canvas: it walks through all items of a layer in paint order, leaves out those
whose window does not meet the tile, and keeps the tile's colours in registers. What the backward pass needs of the way
(the difference that each item makes up for) is stored in the layout of the windows, so that it may walk back without
dividing by transmittances, which may be 0.

Planes are [height, width] pixels in row-major order, pictures four of them: premultiplied RGBA.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: what their arguments are is said in `tiled.py`, which calls them.

import triton
import triton.language as tl

TILE = tl.constexpr(16)
"""Pixels along each side of a tile."""
SOLID = tl.constexpr(0)
TEXTURE = tl.constexpr(1)
LAYER = tl.constexpr(2)
ITEM = tl.constexpr(4)
"""Numbers at the head of an item: kind; region, or number of the layer; row of colours; mask or −1. After them come
the rows of opacities whose product is the item's, filled up with −1."""


@triton.jit
def _pixels(width, height):
    """The tile's pixels: x, y, their place in a plane, and which of them lie on the canvas."""
    x = tl.program_id(0) * TILE + tl.arange(0, TILE)[None, :]
    y = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    return x, y, y * width + x, (x < width) & (y < height)


@triton.jit
def _plane(width, height):
    """Pixels of a plane, as a number that products with it do not overflow."""
    return tl.full((), 0, tl.int64) + height * width


@triton.jit
def _cells(region, windows, offsets, x, y):
    """Where a region keeps the pixels, which of them lie in its window, and whether the window meets the tile."""
    window = windows + 4 * region
    left, top, width, height = tl.load(window), tl.load(window + 1), tl.load(window + 2), tl.load(window + 3)
    tile_x, tile_y = tl.program_id(0) * TILE, tl.program_id(1) * TILE
    meets = (tile_x < left + width) & (tile_x + TILE > left) & (tile_y < top + height) & (tile_y + TILE > top)
    column, row = x - left, y - top
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return tl.load(offsets + region) + row.to(tl.int64) * (width + 1) + column, inside, meets


@triton.jit
def _product(item, opacities, without, OPACITIES: tl.constexpr):
    """Product of an item's opacities, except for one of them."""
    factor = 1.0
    for k in tl.static_range(OPACITIES):
        row = tl.load(item + ITEM + k)
        value = tl.load(opacities + row, mask=row >= 0, other=1.0)
        factor *= tl.where(without == k, 1.0, value)
    return factor


@triton.jit
def _load4(base, stride, at, mask):
    a = tl.load(base + at, mask=mask, other=0.0)
    b = tl.load(base + stride + at, mask=mask, other=0.0)
    c = tl.load(base + 2 * stride + at, mask=mask, other=0.0)
    return a, b, c, tl.load(base + 3 * stride + at, mask=mask, other=0.0)


@triton.jit
def _store4(base, stride, at, mask, a, b, c, d):
    tl.store(base + at, a, mask=mask)
    tl.store(base + stride + at, b, mask=mask)
    tl.store(base + 2 * stride + at, c, mask=mask)
    tl.store(base + 3 * stride + at, d, mask=mask)


@triton.jit
def _paint(item, colors, textures, cells, cell, inside):
    """Colour and alpha of a region's pixels before opacities."""
    textured = tl.load(item) == TEXTURE
    color = colors + 3 * tl.load(item + 2)
    seen = inside & textured
    r, g, b, a = _load4(textures, cells, cell, seen)
    r = tl.where(textured, r, tl.load(color, mask=~textured, other=0.0))
    g = tl.where(textured, g, tl.load(color + 1, mask=~textured, other=0.0))
    b = tl.where(textured, b, tl.load(color + 2, mask=~textured, other=0.0))
    return r, g, b, tl.where(textured, a, 1.0)


@triton.jit(do_not_specialize=["cells", "first", "last"])
def composite(
    background,
    out,
    cover,
    colors,
    opacities,
    textures,
    pictures,
    masks,
    items,
    windows,
    offsets,
    kept,
    kept_pictures,
    cells,
    first,
    last,
    width,
    height,
    OPAQUE: tl.constexpr,
    KEEP: tl.constexpr,
    OPACITIES: tl.constexpr,
):
    """Lays items first … last − 1 over a background of three planes (`OPAQUE`), or over nothing."""
    x, y, pixel, on = _pixels(width, height)
    plane = _plane(width, height)
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
            pr, pg, pb, pa = _load4(pictures + picture, plane, pixel, on)
            if KEEP:
                _store4(kept_pictures + picture, plane, pixel, on, r, g, b, a)
            rest = 1 - pa * factor
            r, g, b, a = r * rest + pr * factor, g * rest + pg * factor, b * rest + pb * factor, a * rest + pa * factor
        else:
            cell, inside, meets = _cells(number, windows, offsets, x, y)
            if meets:
                cr, cg, cb, alpha = _paint(item, colors, textures, cells, cell, inside)
                alpha *= tl.load(cover + cell, mask=inside, other=0.0) * _product(item, opacities, -1, OPACITIES)
                alpha *= tl.load(masks + mask * plane + pixel, mask=inside & (mask >= 0), other=1.0)
                dr, dg, db, da = cr - r, cg - g, cb - b, 1 - a
                if KEEP:
                    _store4(kept, cells, cell, inside, dr, dg, db, da)
                r, g, b, a = r + alpha * dr, g + alpha * dg, b + alpha * db, a + alpha * da
    tl.store(out + pixel, r, mask=on)
    tl.store(out + plane + pixel, g, mask=on)
    tl.store(out + 2 * plane + pixel, b, mask=on)
    if not OPAQUE:
        tl.store(out + 3 * plane + pixel, a, mask=on)


@triton.jit
def _sum(values):
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def _hand_on_product(item, opacities, grad_opacities, grad, OPACITIES: tl.constexpr):
    """Adds a gradient by the product of an item's opacities to those by its opacities."""
    for k in tl.static_range(OPACITIES):
        row = tl.load(item + ITEM + k)
        others = _product(item, opacities, k, OPACITIES)
        tl.atomic_add(grad_opacities + row, grad * others, mask=row >= 0, sem="relaxed")


@triton.jit(do_not_specialize=["cells", "first", "last"])
def composite_backward(
    grad,
    grad_background,
    cover,
    colors,
    opacities,
    textures,
    pictures,
    masks,
    items,
    windows,
    offsets,
    kept,
    kept_pictures,
    grad_cover,
    grad_colors,
    grad_opacities,
    grad_textures,
    grad_pictures,
    grad_masks,
    cells,
    first,
    last,
    width,
    height,
    OPAQUE: tl.constexpr,
    OPACITIES: tl.constexpr,
):
    """Walks back through what `composite` did."""
    x, y, pixel, on = _pixels(width, height)
    plane = _plane(width, height)
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
            shown = tl.load(masks + mask * plane + pixel, mask=on & (mask >= 0), other=1.0)
            both = shown * factor
            picture = 4 * plane * number
            pr, pg, pb, pa = _load4(pictures + picture, plane, pixel, on)
            r, g, b, a = _load4(kept_pictures + picture, plane, pixel, on)
            below = gr * r + gg * g + gb * b + ga * a
            _store4(grad_pictures + picture, plane, pixel, on, gr * both, gg * both, gb * both, (ga - below) * both)
            by_both = gr * pr + gg * pg + gb * pb + ga * pa - pa * below
            tl.atomic_add(grad_masks + mask * plane + pixel, by_both * factor, mask=on & (mask >= 0), sem="relaxed")
            _hand_on_product(item, opacities, grad_opacities, _sum(by_both * shown), OPACITIES)
            rest = 1 - pa * both
            gr, gg, gb, ga = gr * rest, gg * rest, gb * rest, ga * rest
        else:
            cell, inside, meets = _cells(number, windows, offsets, x, y)
            if meets:
                _, _, _, own = _paint(item, colors, textures, cells, cell, inside)
                covered = tl.load(cover + cell, mask=inside, other=0.0)
                shown = tl.load(masks + mask * plane + pixel, mask=inside & (mask >= 0), other=1.0)
                dr, dg, db, da = _load4(kept, cells, cell, inside)
                alpha = covered * own * shown * factor
                by_alpha = gr * dr + gg * dg + gb * db + ga * da
                tl.store(grad_cover + cell, by_alpha * own * shown * factor, mask=inside)
                tl.atomic_add(
                    grad_masks + mask * plane + pixel,
                    by_alpha * covered * own * factor,
                    mask=inside & (mask >= 0),
                    sem="relaxed",
                )
                _hand_on_product(item, opacities, grad_opacities, _sum(by_alpha * covered * own * shown), OPACITIES)
                r, g, b = gr * alpha, gg * alpha, gb * alpha
                if tl.load(item) == TEXTURE:
                    _store4(grad_textures, cells, cell, inside, r, g, b, by_alpha * covered * shown * factor)
                else:
                    color = grad_colors + 3 * tl.load(item + 2)
                    tl.atomic_add(color, _sum(r), sem="relaxed")
                    tl.atomic_add(color + 1, _sum(g), sem="relaxed")
                    tl.atomic_add(color + 2, _sum(b), sem="relaxed")
                gr, gg, gb, ga = gr - r, gg - g, gb - b, ga - ga * alpha
    if OPAQUE:
        tl.store(grad_background + pixel, gr, mask=on)
        tl.store(grad_background + plane + pixel, gg, mask=on)
        tl.store(grad_background + 2 * plane + pixel, gb, mask=on)


@triton.jit
def _clipped(entry, cover, masks, windows, offsets, x, y, pixel, plane):
    """Coverage of one region of a mask, and the region's own mask."""
    region, inner = tl.load(entry), tl.load(entry + 1)
    cell, inside, _ = _cells(region, windows, offsets, x, y)
    covered = tl.load(cover + cell, mask=inside, other=0.0)
    return covered, tl.load(masks + inner * plane + pixel, mask=inside & (inner >= 0), other=1.0), cell, inside


@triton.jit(do_not_specialize=["number", "clip", "first", "last"])
def union(cover, masks, entries, windows, offsets, number, clip, first, last, width, height):
    """Mask `number`: the union of entries first … last − 1, cut by mask `clip`, or by nothing if that is −1.

    entries: region of each, and the mask that cuts it, or −1.
    """
    x, y, pixel, on = _pixels(width, height)
    plane = _plane(width, height)
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
    """The way back from mask `number` to what it was made of."""
    x, y, pixel, on = _pixels(width, height)
    plane = _plane(width, height)
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
