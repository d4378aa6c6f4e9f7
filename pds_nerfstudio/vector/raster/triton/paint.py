"""Triton kernels for gradients (SVG 2, section 14.2), forward and backward: the functions of `paint`.

One program works on some rows of one region's window; its results, plain colour and alpha, lie in the layout of the
windows. How much the parameter changes over a pixel, which makes sharp passages as wide as that, is told from the
neighbouring pixels as in `paint.pixel_footprint`, so the backward pass visits five points for each pixel.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: what their arguments are is said in `tiled.py`, which calls them.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.paint import SHARP

PAD = tl.constexpr(0)
REFLECT = tl.constexpr(1)
REPEAT = tl.constexpr(2)
DRAW = tl.constexpr(7)
"""Numbers of a gradient that is drawn: region, 1 if radial, spread, row of its geometry, first stop, stop after the
last, row of its bounding box or −1."""
MAPS = tl.constexpr(12)
"""Its two affine maps: from the canvas to the path's units, and from there, or from the bounding box, to its own."""
ROWS = tl.constexpr(16)
"""Pixel rows of a program."""
COLUMNS = tl.constexpr(32)
"""Pixel columns that it works on at a time."""
_SHARP = tl.constexpr(SHARP)


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _sum(values):
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def _box(boxes, row):
    """Corner and size of a bounding box, or of the unit square that changes nothing."""
    box, some = boxes + 4 * row, row >= 0
    left, top = tl.load(box, mask=some, other=0.0), tl.load(box + 1, mask=some, other=0.0)
    right, bottom = tl.load(box + 2, mask=some, other=1.0), tl.load(box + 3, mask=some, other=1.0)
    return left, top, tl.maximum(right - left, 1e-12), tl.maximum(bottom - top, 1e-12)


@triton.jit
def _apply(matrix, x, y):
    moved_x = tl.load(matrix) * x + tl.load(matrix + 2) * y + tl.load(matrix + 4)
    return moved_x, tl.load(matrix + 1) * x + tl.load(matrix + 3) * y + tl.load(matrix + 5)


@triton.jit
def _in_box(x, y, maps, boxes, row):
    """Pixels' centres in the path's units, or in those of its bounding box."""
    left, top, width, height = _box(boxes, row)
    x, y = _apply(maps, x + 0.5, y + 0.5)
    return (x - left) / width, (y - top) / height


@triton.jit
def _axis(geometry):
    """A radial gradient's axis, focus and growth, with the focus inside of the end circle."""
    cx, cy, radius = tl.load(geometry), tl.load(geometry + 1), tl.load(geometry + 2)
    fx, fy, start = tl.load(geometry + 3), tl.load(geometry + 4), tl.load(geometry + 5)
    growth = radius - start
    ax, ay = cx - fx, cy - fy
    distance = ax * ax + ay * ay
    reach = 0.998 * tl.abs(growth)
    moved = distance > reach * reach
    shrink = tl.where(moved, reach / tl.sqrt(tl.where(moved, distance, 1.0)), 1.0)
    fx, fy = tl.where(moved, cx - ax * shrink, fx), tl.where(moved, cy - ay * shrink, fy)
    return ax * shrink, ay * shrink, fx, fy, growth, start


@triton.jit
def _vector(geometry):
    """A linear gradient's start, and its vector divided by its squared length, which is returned as well."""
    sx, sy = tl.load(geometry), tl.load(geometry + 1)
    vx, vy = tl.load(geometry + 2) - sx, tl.load(geometry + 3) - sy
    square = vx * vx + vy * vy
    safe = tl.where(square > 0, square, 1.0)
    return sx, sy, vx / safe, vy / safe, square


@triton.jit
def _parameter(x, y, radial, geometry):
    """`paint.radial_parameter` or `paint.linear_parameter`."""
    if radial:
        ax, ay, fx, fy, growth, start = _axis(geometry)
        ox, oy = x - fx, y - fy
        a = ax * ax + ay * ay - growth * growth
        half_b = ox * ax + oy * ay + start * growth
        root = tl.sqrt(tl.maximum(half_b * half_b - a * (ox * ox + oy * oy - start * start), 1e-12))
        t = (half_b - root) / tl.where(a < 0, a, -1e-12)
        t = tl.where(tl.load(geometry + 2) > 0, t, 1.0)
    else:
        sx, sy, wx, wy, square = _vector(geometry)
        t = tl.where(square > 0, (x - sx) * wx + (y - sy) * wy, 1.0)
    return t


@triton.jit
def _at(x, y, maps, boxes, row, radial, geometry):
    """The gradient's parameter at pixels."""
    x, y = _in_box(x, y, maps, boxes, row)
    x, y = _apply(maps + 6, x, y)
    return _parameter(x, y, radial, geometry)


@triton.jit
def _slopes(x, y, left, top, width, height, maps, boxes, row, radial, geometry):
    """How the parameter changes to the right and downwards, within the window, and what that was divided by."""
    x0, x1 = tl.maximum(x - 1, left), tl.minimum(x + 1, left + width - 1)
    y0, y1 = tl.maximum(y - 1, top), tl.minimum(y + 1, top + height - 1)
    across, down = 1.0 * tl.maximum(x1 - x0, 1), 1.0 * tl.maximum(y1 - y0, 1)
    dx = _at(x1, y, maps, boxes, row, radial, geometry) - _at(x0, y, maps, boxes, row, radial, geometry)
    dy = _at(x, y1, maps, boxes, row, radial, geometry) - _at(x, y0, maps, boxes, row, radial, geometry)
    return dx / across, dy / down, across, down


@triton.jit
def _spread(t, spread):
    """`paint.spread_parameter`."""
    turn = t - 2 * tl.floor(t * 0.5) - 1
    return tl.where(spread == REPEAT, t - tl.floor(t), tl.where(spread == REFLECT, 1 - tl.abs(turn), t))


@triton.jit
def _offset(offsets, stops, s, before):
    """Place of a stop that does not lie before its predecessor."""
    own = tl.minimum(tl.maximum(tl.load(offsets + tl.load(stops + 3 * s)), 0.0), 1.0)
    return tl.maximum(own, before)


@triton.jit
def _color(stops, s, colors, opacities):
    color = colors + 3 * tl.load(stops + 3 * s + 1)
    opacity = tl.load(opacities + tl.load(stops + 3 * s + 2))
    return tl.load(color), tl.load(color + 1), tl.load(color + 2), opacity


@triton.jit
def _has_sharp(offsets, stops, first, last, spread):
    """Whether the parameter's change over a pixel matters."""
    sharp = tl.where(spread == REPEAT, 1, 0)
    before = _offset(offsets, stops, first, 0.0)
    for s in range(first + 1, last):
        here = _offset(offsets, stops, s, before)
        sharp = tl.where(here - before < _SHARP, 1, sharp)
        before = here
    return sharp


@triton.jit
def _passage(place, before, here, footprint):
    """How far a passage between two stops has come, before that is cut to 0 … 1, and over what width it goes."""
    step = here - before
    sharp = step < _SHARP
    width = tl.where(sharp, tl.maximum(step, footprint), step)
    return tl.where(sharp, (place - 0.5 * (before + here)) / width + 0.5, (place - before) / width), width


@triton.jit
def paint(textures, draws, maps, boxes, stops, geometries, offsets, colors, opacities, windows, starts, cells):
    """Colour and alpha of all regions that are painted with gradients. One program for each and ROWS rows."""
    draw = draws + DRAW * tl.program_id(0)
    region, radial, spread = tl.load(draw), tl.load(draw + 1) != 0, tl.load(draw + 2)
    geometry = geometries + 6 * tl.load(draw + 3)
    first, last, box = tl.load(draw + 4), tl.load(draw + 5), tl.load(draw + 6)
    map_ = maps + MAPS * tl.program_id(0)
    window = windows + 4 * region
    left, top, width, height = tl.load(window), tl.load(window + 1), tl.load(window + 2), tl.load(window + 3)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    if (tl.program_id(1) * ROWS < height) & (width > 0):
        needs_footprint = _has_sharp(offsets, stops, first, last, spread) != 0
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)[None, :]
            x, y = left + column, top + row
            t = _at(x, y, map_, boxes, box, radial, geometry)
            footprint = tl.zeros((ROWS, COLUMNS), tl.float32)
            if needs_footprint:
                dx, dy, _, _ = _slopes(x, y, left, top, width, height, map_, boxes, box, radial, geometry)
                footprint = tl.sqrt(tl.maximum(dx * dx + dy * dy, 1e-12))
            place = _spread(t, spread)
            fr, fg, fb, fa = _color(stops, first, colors, opacities)
            r, g, b, a = fr + 0 * t, fg + 0 * t, fb + 0 * t, fa + 0 * t
            lr, lg, lb, la = fr, fg, fb, fa
            before = _offset(offsets, stops, first, 0.0)
            for s in range(first + 1, last):
                here = _offset(offsets, stops, s, before)
                done, _ = _passage(place, before, here, footprint)
                done = tl.minimum(tl.maximum(done, 0.0), 1.0)
                nr, ng, nb, na = _color(stops, s, colors, opacities)
                r, g, b, a = r + (nr - lr) * done, g + (ng - lg) * done, b + (nb - lb) * done, a + (na - la) * done
                lr, lg, lb, la = nr, ng, nb, na
                before = here
            beyond = (t - tl.floor(t + 0.5)) / tl.where(footprint > 0, footprint, 1.0) + 0.5
            seam = (spread == REPEAT) & (beyond > 0) & (beyond < 1)
            r = tl.where(seam, lr + (fr - lr) * beyond, r)
            g = tl.where(seam, lg + (fg - lg) * beyond, g)
            b = tl.where(seam, lb + (fb - lb) * beyond, b)
            a = tl.where(seam, la + (fa - la) * beyond, a)
            inside = (row < height) & (column < width)
            to = textures + tl.load(starts + region) + row.to(tl.int64) * (width + 1) + column
            tl.store(to, r, mask=inside)
            tl.store(to + cells, g, mask=inside)
            tl.store(to + 2 * cells, b, mask=inside)
            tl.store(to + 3 * cells, a, mask=inside)


@triton.jit
def _pull(pull, x, y, maps, boxes, row, radial, geometry):
    """Sums over pixels of what the loss gains by the parameter there, times the parameter's derivatives.

    The first six are by the quantities of `_axis` for a radial gradient; for a linear one they are by the scaled
    vector, by the start along it, and nothing. The last four are by the place in the bounding box, and that times the
    place.
    """
    u, v = _in_box(x, y, maps, boxes, row)
    x, y = _apply(maps + 6, u, v)
    if radial:
        ax, ay, fx, fy, growth, start = _axis(geometry)
        pull = tl.where(tl.load(geometry + 2) > 0, pull, 0.0)
        ox, oy = x - fx, y - fy
        a = ax * ax + ay * ay - growth * growth
        half_b = ox * ax + oy * ay + start * growth
        c = ox * ox + oy * oy - start * start
        square = half_b * half_b - a * c
        root = tl.sqrt(tl.maximum(square, 1e-12))
        divisor = tl.where(a < 0, a, -1e-12)
        by_half_b, by_root = pull / divisor, -pull / divisor
        by_a = tl.where(a < 0, by_root * (half_b - root) / divisor, 0.0)
        by_square = tl.where(square >= 1e-12, by_root / (2 * root), 0.0)
        by_half_b += by_square * 2 * half_b
        by_a -= by_square * c
        by_c = -by_square * a
        gx, gy = by_half_b * ax + 2 * by_c * ox, by_half_b * ay + 2 * by_c * oy
        s0, s1 = _sum(by_half_b * ox + 2 * by_a * ax), _sum(by_half_b * oy + 2 * by_a * ay)
        s2, s3 = -_sum(gx), -_sum(gy)
        s4, s5 = _sum(by_half_b * start - 2 * by_a * growth), _sum(by_half_b * growth - 2 * by_c * start)
    else:
        sx, sy, wx, wy, length = _vector(geometry)
        pull = tl.where(length > 0, pull, 0.0)
        gx, gy = pull * wx, pull * wy
        s0, s1, s2 = _sum(pull * (x - sx)), _sum(pull * (y - sy)), _sum(pull)
        s3, s4, s5 = s2 * 0, s2 * 0, s2 * 0
    gu = tl.load(maps + 6) * gx + tl.load(maps + 7) * gy
    gv = tl.load(maps + 8) * gx + tl.load(maps + 9) * gy
    return s0, s1, s2, s3, s4, s5, _sum(gu), _sum(gv), _sum(gu * u), _sum(gv * v)


@triton.jit
def _hand_on_geometry(s0, s1, s2, s3, s4, s5, radial, geometry, total):
    """From the sums of `_pull` to the gradient's own numbers."""
    if radial:
        cx, cy, radius = tl.load(geometry), tl.load(geometry + 1), tl.load(geometry + 2)
        ax, ay = cx - tl.load(geometry + 3), cy - tl.load(geometry + 4)
        growth = radius - tl.load(geometry + 5)
        distance = ax * ax + ay * ay
        reach = 0.998 * tl.abs(growth)
        moved = distance > reach * reach
        # a focus that is moved hangs on the centre and on the axis' direction
        length = tl.sqrt(tl.where(moved, distance, 1.0))
        by_x, by_y = s0 - s2, s1 - s3
        along = (by_x * ax + by_y * ay) / length
        gx = tl.where(moved, reach / length * (by_x - along * ax / length), s0)
        gy = tl.where(moved, reach / length * (by_y - along * ay / length), s1)
        by_growth = s4 + tl.where(moved, 0.998 * _sign(growth) * along, 0.0)
        tl.atomic_add(total, gx + tl.where(moved, s2, 0.0), sem="relaxed")
        tl.atomic_add(total + 1, gy + tl.where(moved, s3, 0.0), sem="relaxed")
        tl.atomic_add(total + 2, by_growth, sem="relaxed")
        tl.atomic_add(total + 3, tl.where(moved, 0.0, s2) - gx, sem="relaxed")
        tl.atomic_add(total + 4, tl.where(moved, 0.0, s3) - gy, sem="relaxed")
        tl.atomic_add(total + 5, s5 - by_growth, sem="relaxed")
    else:
        _, _, wx, wy, square = _vector(geometry)
        safe = tl.where(square > 0, square, 1.0)
        along = 2 * (s0 * wx + s1 * wy)
        gx, gy = s0 / safe - along * wx, s1 / safe - along * wy
        tl.atomic_add(total, -s2 * wx - gx, sem="relaxed")
        tl.atomic_add(total + 1, -s2 * wy - gy, sem="relaxed")
        tl.atomic_add(total + 2, gx, sem="relaxed")
        tl.atomic_add(total + 3, gy, sem="relaxed")


@triton.jit
def _hand_on_box(s0, s1, s2, s3, boxes, row, total):
    """From the sums of `_pull` to the sides of the bounding box."""
    some = row >= 0
    left, top, width, height = _box(boxes, row)
    by_width = tl.where(width > 1e-12, -s2 / width, 0.0)
    by_height = tl.where(height > 1e-12, -s3 / height, 0.0)
    box = total + 4 * row
    tl.atomic_add(box, -s0 / width - by_width, mask=some, sem="relaxed")
    tl.atomic_add(box + 1, -s1 / height - by_height, mask=some, sem="relaxed")
    tl.atomic_add(box + 2, by_width, mask=some, sem="relaxed")
    tl.atomic_add(box + 3, by_height, mask=some, sem="relaxed")


@triton.jit
def _hand_on_color(r, g, b, a, stops, s, on_colors, on_opacities):
    color = on_colors + 3 * tl.load(stops + 3 * s + 1)
    tl.atomic_add(color, r, sem="relaxed")
    tl.atomic_add(color + 1, g, sem="relaxed")
    tl.atomic_add(color + 2, b, sem="relaxed")
    tl.atomic_add(on_opacities + tl.load(stops + 3 * s + 2), a, sem="relaxed")


@triton.jit
def _hand_on_offset(by_offset, stops, s, offsets, total):
    """Adds to the gradient by a stop's place, unless that is out of range."""
    row = tl.load(stops + 3 * s)
    own = tl.load(offsets + row)
    tl.atomic_add(total + row, by_offset, mask=(own >= 0) & (own <= 1), sem="relaxed")


@triton.jit
def paint_backward(
    on_textures,
    draws,
    maps,
    boxes,
    stops,
    geometries,
    offsets,
    colors,
    opacities,
    windows,
    starts,
    on_boxes,
    on_geometries,
    on_offsets,
    on_colors,
    on_opacities,
    cells,
):
    """Gradients by everything that `paint` read. Programs as there."""
    draw = draws + DRAW * tl.program_id(0)
    region, radial, spread = tl.load(draw), tl.load(draw + 1) != 0, tl.load(draw + 2)
    geometry = geometries + 6 * tl.load(draw + 3)
    first, last, box = tl.load(draw + 4), tl.load(draw + 5), tl.load(draw + 6)
    map_ = maps + MAPS * tl.program_id(0)
    window = windows + 4 * region
    left, top, width, height = tl.load(window), tl.load(window + 1), tl.load(window + 2), tl.load(window + 3)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    if (tl.program_id(1) * ROWS < height) & (width > 0):
        needs_footprint = _has_sharp(offsets, stops, first, last, spread) != 0
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)[None, :]
            x, y = left + column, top + row
            inside = (row < height) & (column < width)
            at = on_textures + tl.load(starts + region) + row.to(tl.int64) * (width + 1) + column
            gr, gg = tl.load(at, mask=inside, other=0.0), tl.load(at + cells, mask=inside, other=0.0)
            gb = tl.load(at + 2 * cells, mask=inside, other=0.0)
            ga = tl.load(at + 3 * cells, mask=inside, other=0.0)
            t = _at(x, y, map_, boxes, box, radial, geometry)
            dx, dy = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS, COLUMNS), tl.float32)
            across, down = dx + 1.0, dy + 1.0
            footprint = tl.zeros((ROWS, COLUMNS), tl.float32)
            if needs_footprint:
                dx, dy, across, down = _slopes(x, y, left, top, width, height, map_, boxes, box, radial, geometry)
                across, down = across + footprint, down + footprint
                footprint = tl.sqrt(tl.maximum(dx * dx + dy * dy, 1e-12))

            # the seam of a repeated gradient leads from the last stop to the first
            fr, fg, fb, fa = _color(stops, first, colors, opacities)
            lr, lg, lb, la = _color(stops, last - 1, colors, opacities)
            apart = t - tl.floor(t + 0.5)
            safe = tl.where(footprint > 0, footprint, 1.0)
            beyond = apart / safe + 0.5
            seam = (spread == REPEAT) & (beyond > 0) & (beyond < 1)
            sr, sg, sb, sa = (
                tl.where(seam, gr, 0.0),
                tl.where(seam, gg, 0.0),
                tl.where(seam, gb, 0.0),
                tl.where(seam, ga, 0.0),
            )
            by_beyond = sr * (fr - lr) + sg * (fg - lg) + sb * (fb - lb) + sa * (fa - la)
            by_t = by_beyond / safe
            by_footprint = -by_beyond * apart / (safe * safe)
            if spread == REPEAT:
                rest = 1 - beyond
                _hand_on_color(
                    _sum(sr * beyond), _sum(sg * beyond), _sum(sb * beyond), _sum(sa * beyond),
                    stops, first, on_colors, on_opacities,
                )  # fmt: skip
                _hand_on_color(
                    _sum(sr * rest), _sum(sg * rest), _sum(sb * rest), _sum(sa * rest),
                    stops, last - 1, on_colors, on_opacities,
                )  # fmt: skip
            gr, gg, gb, ga = gr - sr, gg - sg, gb - sb, ga - sa

            place = _spread(t, spread)
            by_place = tl.zeros((ROWS, COLUMNS), tl.float32)
            lr, lg, lb, la = fr, fg, fb, fa
            _hand_on_color(_sum(gr), _sum(gg), _sum(gb), _sum(ga), stops, first, on_colors, on_opacities)
            before, owner = _offset(offsets, stops, first, 0.0), first
            for s in range(first + 1, last):
                here = _offset(offsets, stops, s, before)
                own = tl.minimum(tl.maximum(tl.load(offsets + tl.load(stops + 3 * s)), 0.0), 1.0)
                # a stop that lies before its predecessor counts, and is pulled, as that one
                next_owner = tl.where(own >= before, s, owner)
                way, span = _passage(place, before, here, footprint)
                done = tl.minimum(tl.maximum(way, 0.0), 1.0)
                nr, ng, nb, na = _color(stops, s, colors, opacities)
                dr, dg, db, da = _sum(gr * done), _sum(gg * done), _sum(gb * done), _sum(ga * done)
                _hand_on_color(dr, dg, db, da, stops, s, on_colors, on_opacities)
                _hand_on_color(-dr, -dg, -db, -da, stops, s - 1, on_colors, on_opacities)
                by_way = gr * (nr - lr) + gg * (ng - lg) + gb * (nb - lb) + ga * (na - la)
                by_way = tl.where((way >= 0) & (way <= 1), by_way, 0.0)
                sharp = here - before < _SHARP
                pulled = by_way / span
                by_place += pulled
                middle = 0.5 * (before + here)
                by_span = -pulled * tl.where(sharp, place - middle, place - before) / span
                step = here - before
                wider = tl.where(step > footprint, 1.0, tl.where(step == footprint, 0.5, 0.0))
                wider = tl.where(sharp, wider, 1.0)
                by_footprint += by_span * (1 - wider)
                by_step, moved = _sum(by_span * wider), _sum(pulled)
                share = tl.where(sharp, 0.5, 1.0)
                _hand_on_offset(-by_step - moved * share, stops, owner, offsets, on_offsets)
                _hand_on_offset(by_step - moved * (1 - share), stops, next_owner, offsets, on_offsets)
                lr, lg, lb, la = nr, ng, nb, na
                before, owner = here, next_owner
            turn = t - 2 * tl.floor(t * 0.5) - 1
            by_t += tl.where(spread == REFLECT, -_sign(turn) * by_place, by_place)
            s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 = _pull(by_t, x, y, map_, boxes, box, radial, geometry)
            if needs_footprint:
                by_square = tl.where(dx * dx + dy * dy >= 1e-12, by_footprint / safe, 0.0)
                for side in tl.static_range(4):
                    if side < 2:
                        near_x, near_y = x + (2 * side - 1), y + 0 * x
                        near_x = tl.minimum(tl.maximum(near_x, left), left + width - 1)
                        change = by_square * dx / across * (2 * side - 1)
                    else:
                        near_x, near_y = x + 0 * y, y + (2 * side - 5)
                        near_y = tl.minimum(tl.maximum(near_y, top), top + height - 1)
                        change = by_square * dy / down * (2 * side - 5)
                    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 = _pull(
                        change, near_x, near_y, map_, boxes, box, radial, geometry
                    )
                    s0, s1, s2, s3, s4 = s0 + a0, s1 + a1, s2 + a2, s3 + a3, s4 + a4
                    s5, s6, s7, s8, s9 = s5 + a5, s6 + a6, s7 + a7, s8 + a8, s9 + a9
            on_geometry = on_geometries + 6 * tl.load(draw + 3)
            _hand_on_geometry(s0, s1, s2, s3, s4, s5, radial, geometry, on_geometry)
            _hand_on_box(s6, s7, s8, s9, boxes, box, on_boxes)
