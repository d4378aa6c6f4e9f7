"""Triton kernel for the backward pass of `paint`.

The width of a sharp passage is told from neighbouring pixels, so the gradient goes through five points for each pixel.
"""

# mypy: disable-error-code="no-untyped-def"
# Kernels: `launches.py` says what their arguments are.

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.device import block_sum, line_of, load4, sign
from pds_nerfstudio.vector.raster.triton.gradient import (
    COLUMNS,
    INSIDE,
    REFLECT,
    REPEAT,
    ROWS,
    SHARP,
    apply,
    axis,
    box_of,
    has_sharp,
    in_box,
    is_painted,
    moves,
    own_draw,
    own_rows,
    parameter_at,
    passage,
    roots,
    slopes,
    spread_of,
    stop_color,
    stop_offset,
    vector,
)


@triton.jit
def _pull_parameter(pull, x, y, maps, boxes, row, radial, geometry):
    """Return sums over pixels of what the loss gains by the parameter there, times the parameter's derivatives.

    For a radial gradient, the first six are by what `axis` returns. For a linear one they are by the scaled vector, by
    the start along it, and nothing. The last four are by the place in the bounding box, and by that place times itself.
    """
    u, v = in_box(x, y, maps, boxes, row)
    x, y = apply(maps + 6, u, v)
    if radial:
        ax, ay, fx, fy, growth, start = axis(geometry)
        pull = tl.where(tl.load(geometry + 2) > 0, pull, 0.0)
        ox, oy = x - fx, y - fy
        a, half_b, square, root, t, _ = roots(ox, oy, ax, ay, growth, start)
        c = ox * ox + oy * oy - start * start
        by_half_b = pull / a
        by_a = tl.where(a != -1e-12, -by_half_b * t, 0.0)
        by_square = tl.where(square >= 1e-12, by_half_b / (2 * root), 0.0)
        by_half_b += by_square * 2 * half_b
        by_a -= by_square * c
        by_c = -by_square * a
        gx, gy = by_half_b * ax + 2 * by_c * ox, by_half_b * ay + 2 * by_c * oy
        s0, s1 = block_sum(by_half_b * ox + 2 * by_a * ax), block_sum(by_half_b * oy + 2 * by_a * ay)
        s2, s3 = -block_sum(gx), -block_sum(gy)
        s4, s5 = block_sum(by_half_b * start - 2 * by_a * growth), block_sum(by_half_b * growth - 2 * by_c * start)
    else:
        sx, sy, wx, wy, length = vector(geometry)
        pull = tl.where(length > 0, pull, 0.0)
        gx, gy = pull * wx, pull * wy
        s0, s1, s2 = block_sum(pull * (x - sx)), block_sum(pull * (y - sy)), block_sum(pull)
        s3, s4, s5 = s2 * 0, s2 * 0, s2 * 0
    gu = tl.load(maps + 6) * gx + tl.load(maps + 7) * gy
    gv = tl.load(maps + 8) * gx + tl.load(maps + 9) * gy
    return s0, s1, s2, s3, s4, s5, block_sum(gu), block_sum(gv), block_sum(gu * u), block_sum(gv * v)


@triton.jit
def _hand_on_geometry(s0, s1, s2, s3, s4, s5, radial, geometry, total):
    """Add the sums of `_pull_parameter` to the gradient by a gradient's own numbers."""
    if radial:
        cx, cy, radius = tl.load(geometry), tl.load(geometry + 1), tl.load(geometry + 2)
        ax, ay = cx - tl.load(geometry + 3), cy - tl.load(geometry + 4)
        growth = radius - tl.load(geometry + 5)
        distance = ax * ax + ay * ay
        reach = INSIDE * tl.abs(growth)
        moved = moves(distance, growth)
        # a focus that is moved hangs on the centre and on the axis' direction
        length = tl.sqrt(tl.where(moved, distance, 1.0))
        by_x, by_y = s0 - s2, s1 - s3
        along = (by_x * ax + by_y * ay) / length
        gx = tl.where(moved, reach / length * (by_x - along * ax / length), s0)
        gy = tl.where(moved, reach / length * (by_y - along * ay / length), s1)
        by_growth = s4 + tl.where(moved, INSIDE * sign(growth) * along, 0.0)
        tl.atomic_add(total, gx + tl.where(moved, s2, 0.0), sem="relaxed")
        tl.atomic_add(total + 1, gy + tl.where(moved, s3, 0.0), sem="relaxed")
        tl.atomic_add(total + 2, by_growth, sem="relaxed")
        tl.atomic_add(total + 3, tl.where(moved, 0.0, s2) - gx, sem="relaxed")
        tl.atomic_add(total + 4, tl.where(moved, 0.0, s3) - gy, sem="relaxed")
        tl.atomic_add(total + 5, s5 - by_growth, sem="relaxed")
    else:
        _, _, wx, wy, square = vector(geometry)
        safe = tl.where(square > 0, square, 1.0)
        along = 2 * (s0 * wx + s1 * wy)
        gx, gy = s0 / safe - along * wx, s1 / safe - along * wy
        tl.atomic_add(total, -s2 * wx - gx, sem="relaxed")
        tl.atomic_add(total + 1, -s2 * wy - gy, sem="relaxed")
        tl.atomic_add(total + 2, gx, sem="relaxed")
        tl.atomic_add(total + 3, gy, sem="relaxed")


@triton.jit
def _hand_on_box(s0, s1, s2, s3, boxes, row, total):
    """Add the sums of `_pull_parameter` to the gradient by the sides of the bounding box."""
    some = row >= 0
    _left, _top, width, height = box_of(boxes, row)
    by_width = tl.where(width > 1e-12, -s2 / width, 0.0)
    by_height = tl.where(height > 1e-12, -s3 / height, 0.0)
    box = total + 4 * row
    tl.atomic_add(box, -s0 / width - by_width, mask=some, sem="relaxed")
    tl.atomic_add(box + 1, -s1 / height - by_height, mask=some, sem="relaxed")
    tl.atomic_add(box + 2, by_width, mask=some, sem="relaxed")
    tl.atomic_add(box + 3, by_height, mask=some, sem="relaxed")


@triton.jit
def _hand_on_color(r, g, b, a, stops, s, on_colors, on_opacities):
    """Add to the gradients by a stop's colour and opacity."""
    color = on_colors + 3 * tl.load(stops + 3 * s + 1)
    tl.atomic_add(color, r, sem="relaxed")
    tl.atomic_add(color + 1, g, sem="relaxed")
    tl.atomic_add(color + 2, b, sem="relaxed")
    tl.atomic_add(on_opacities + tl.load(stops + 3 * s + 2), a, sem="relaxed")


@triton.jit
def _hand_on_offset(by_offset, stops, s, offsets, total):
    """Add to the gradient by a stop's place, unless that is out of range."""
    row = tl.load(stops + 3 * s)
    own = tl.load(offsets + row)
    tl.atomic_add(total + row, by_offset, mask=(own >= 0) & (own <= 1), sem="relaxed")


@triton.jit
def _seam_backward(
    t, footprint, gr, gg, gb, ga, spread, stops, first, last, colors, opacities, on_colors, on_opacities
):
    """Take the gradient back through the seam of a repeated gradient, which leads from the last stop to the first.

    Return the gradients by the parameter and by the footprint, and that by the colours which is left for the passages.
    """
    fr, fg, fb, fa = stop_color(stops, first, colors, opacities)
    lr, lg, lb, la = stop_color(stops, last - 1, colors, opacities)
    apart = t - tl.floor(t + 0.5)
    safe = tl.where(footprint > 0, footprint, 1.0)
    beyond = apart / safe + 0.5
    seam = (spread == REPEAT) & (beyond > 0) & (beyond < 1)
    sr, sg = tl.where(seam, gr, 0.0), tl.where(seam, gg, 0.0)
    sb, sa = tl.where(seam, gb, 0.0), tl.where(seam, ga, 0.0)
    by_beyond = sr * (fr - lr) + sg * (fg - lg) + sb * (fb - lb) + sa * (fa - la)
    if spread == REPEAT:
        rest = 1 - beyond
        _hand_on_color(
            block_sum(sr * beyond), block_sum(sg * beyond), block_sum(sb * beyond), block_sum(sa * beyond),
            stops, first, on_colors, on_opacities,
        )  # fmt: skip
        _hand_on_color(
            block_sum(sr * rest), block_sum(sg * rest), block_sum(sb * rest), block_sum(sa * rest),
            stops, last - 1, on_colors, on_opacities,
        )  # fmt: skip
    return by_beyond / safe, -by_beyond * apart / (safe * safe), gr - sr, gg - sg, gb - sb, ga - sa


@triton.jit
def _passages_backward(
    place, footprint, gr, gg, gb, ga, by_footprint, stops, first, last, offsets, colors, opacities,
    on_offsets, on_colors, on_opacities,
):  # fmt: skip
    """Take the gradient back through the passages between stops; return those by the place and by the footprint."""
    by_place = tl.zeros((ROWS, COLUMNS), tl.float32)
    lr, lg, lb, la = stop_color(stops, first, colors, opacities)
    _hand_on_color(block_sum(gr), block_sum(gg), block_sum(gb), block_sum(ga), stops, first, on_colors, on_opacities)
    before, owner = stop_offset(offsets, stops, first, 0.0), first
    for s in range(first + 1, last):
        here = stop_offset(offsets, stops, s, before)
        own = tl.minimum(tl.maximum(tl.load(offsets + tl.load(stops + 3 * s)), 0.0), 1.0)
        # a stop that lies before its predecessor counts, and is pulled, as that one
        next_owner = tl.where(own >= before, s, owner)
        way, span = passage(place, before, here, footprint)
        done = tl.minimum(tl.maximum(way, 0.0), 1.0)
        nr, ng, nb, na = stop_color(stops, s, colors, opacities)
        dr, dg, db, da = block_sum(gr * done), block_sum(gg * done), block_sum(gb * done), block_sum(ga * done)
        _hand_on_color(dr, dg, db, da, stops, s, on_colors, on_opacities)
        _hand_on_color(-dr, -dg, -db, -da, stops, s - 1, on_colors, on_opacities)
        by_way = gr * (nr - lr) + gg * (ng - lg) + gb * (nb - lb) + ga * (na - la)
        by_way = tl.where((way >= 0) & (way <= 1), by_way, 0.0)
        sharp = here - before < SHARP
        pulled = by_way / span
        by_place += pulled
        middle = 0.5 * (before + here)
        by_span = -pulled * tl.where(sharp, place - middle, place - before) / span
        step = here - before
        wider = tl.where(step > footprint, 1.0, tl.where(step == footprint, 0.5, 0.0))
        wider = tl.where(sharp, wider, 1.0)
        by_footprint += by_span * (1 - wider)
        by_step, moved = block_sum(by_span * wider), block_sum(pulled)
        share = tl.where(sharp, 0.5, 1.0)
        _hand_on_offset(-by_step - moved * share, stops, owner, offsets, on_offsets)
        _hand_on_offset(by_step - moved * (1 - share), stops, next_owner, offsets, on_offsets)
        lr, lg, lb, la = nr, ng, nb, na
        before, owner = here, next_owner
    return by_place, by_footprint


@triton.jit
def _pull_neighbour(
    side: tl.constexpr, by_square, dx, dy, across, down, x, y, left, top, width, height, maps, boxes, box, radial,
    geometry,
):  # fmt: skip
    """Do `_pull_parameter` for the pixels to the left (0), right (1), above (2) or below (3), through the footprint."""
    if side < 2:
        near_x, near_y = x + (2 * side - 1), y + 0 * x
        near_x = tl.minimum(tl.maximum(near_x, left), left + width - 1)
        change = by_square * dx / across * (2 * side - 1)
    else:
        near_x, near_y = x + 0 * y, y + (2 * side - 5)
        near_y = tl.minimum(tl.maximum(near_y, top), top + height - 1)
        change = by_square * dy / down * (2 * side - 5)
    return _pull_parameter(change, near_x, near_y, maps, boxes, box, radial, geometry)


@triton.jit
def paint_backward(
    on_textures, draws, maps, boxes, stops, geometries, offsets, colors, opacities, windows, starts,
    on_boxes, on_geometries, on_offsets, on_colors, on_opacities, cells,
):  # fmt: skip
    """Find the gradients by everything that `paint` read. Programs as there."""
    region, radial, spread, number, first, last, box, own_maps = own_draw(draws, maps)
    geometry = geometries + 6 * number
    left, top, width, height, row = own_rows(region, windows)
    if (tl.program_id(1) * ROWS < height) & (width > 0):
        needs_footprint = has_sharp(offsets, stops, first, last, spread) != 0
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)[None, :]
            x, y = left + column, top + row
            at = line_of(row, width, tl.load(starts + region)) + column
            gr, gg, gb, ga = load4(on_textures, cells, at, (row < height) & (column < width))
            ga = tl.where(is_painted(x, y, own_maps, boxes, box, radial, geometry), ga, 0.0)
            t = parameter_at(x, y, own_maps, boxes, box, radial, geometry)
            dx, dy = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS, COLUMNS), tl.float32)
            across, down = dx + 1.0, dy + 1.0
            footprint = tl.zeros((ROWS, COLUMNS), tl.float32)
            if needs_footprint:
                dx, dy, across, down = slopes(x, y, left, top, width, height, own_maps, boxes, box, radial, geometry)
                across, down = across + footprint, down + footprint
                footprint = tl.sqrt(tl.maximum(dx * dx + dy * dy, 1e-12))
            by_t, by_footprint, gr, gg, gb, ga = _seam_backward(
                t, footprint, gr, gg, gb, ga, spread, stops, first, last, colors, opacities, on_colors, on_opacities
            )
            by_place, by_footprint = _passages_backward(
                spread_of(t, spread), footprint, gr, gg, gb, ga, by_footprint, stops, first, last, offsets, colors,
                opacities, on_offsets, on_colors, on_opacities,
            )  # fmt: skip
            turn = t - 2 * tl.floor(t * 0.5) - 1
            by_t += tl.where(spread == REFLECT, -sign(turn) * by_place, by_place)
            s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 = _pull_parameter(by_t, x, y, own_maps, boxes, box, radial, geometry)
            if needs_footprint:
                safe = tl.where(footprint > 0, footprint, 1.0)
                by_square = tl.where(dx * dx + dy * dy >= 1e-12, by_footprint / safe, 0.0)
                for side in tl.static_range(4):
                    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 = _pull_neighbour(
                        side, by_square, dx, dy, across, down, x, y, left, top, width, height, own_maps, boxes, box,
                        radial, geometry,
                    )  # fmt: skip
                    s0, s1, s2, s3, s4 = s0 + a0, s1 + a1, s2 + a2, s3 + a3, s4 + a4
                    s5, s6, s7, s8, s9 = s5 + a5, s6 + a6, s7 + a7, s8 + a8, s9 + a9
            _hand_on_geometry(s0, s1, s2, s3, s4, s5, radial, geometry, on_geometries + 6 * number)
            _hand_on_box(s6, s7, s8, s9, boxes, box, on_boxes)
