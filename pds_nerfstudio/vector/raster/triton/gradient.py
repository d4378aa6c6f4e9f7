"""Gradients in Triton (SVG 2, section 14.2): the functions of `paint`, at the pixels of a region's window.

How much the parameter changes over a pixel, which makes sharp passages as wide as that, is told from the neighbouring
pixels as in `paint.pixel_footprint`.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster import paint
from pds_nerfstudio.vector.raster.triton.device import window_of

PAD = tl.constexpr(0)
REFLECT = tl.constexpr(1)
REPEAT = tl.constexpr(2)
DRAW = tl.constexpr(7)
"""Numbers of a gradient that is drawn: region, 1 if radial, spread, row of its geometry, first stop, stop after the
last, row of its bounding box or −1."""
MAPS = tl.constexpr(12)
"""Numbers of its two affine maps: from the canvas to the path's units, and from there, or from the bounding box, to its
own."""
ROWS = tl.constexpr(16)
"""Pixel rows of a program."""
COLUMNS = tl.constexpr(32)
"""Pixel columns that it works on at a time."""
SHARP = tl.constexpr(paint.SHARP)
INSIDE, OUTSIDE = tl.constexpr(paint.INSIDE), tl.constexpr(paint.OUTSIDE)


@triton.jit
def own_draw(draws, maps):
    """Return what this program draws: the numbers of `DRAW`, and where its maps are."""
    draw = draws + DRAW * tl.program_id(0)
    region, radial, spread, row = tl.load(draw), tl.load(draw + 1) != 0, tl.load(draw + 2), tl.load(draw + 3)
    first, last, box = tl.load(draw + 4), tl.load(draw + 5), tl.load(draw + 6)
    return region, radial, spread, row, first, last, box, maps + MAPS * tl.program_id(0)


@triton.jit
def own_rows(region, windows):
    """Return the region's window, and this program's pixel rows in it."""
    left, top, width, height = window_of(region, windows)
    return left, top, width, height, tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]


@triton.jit
def box_of(boxes, row):
    """Return corner and size of a bounding box, or of the unit square, which changes nothing."""
    box, some = boxes + 4 * row, row >= 0
    left, top = tl.load(box, mask=some, other=0.0), tl.load(box + 1, mask=some, other=0.0)
    right, bottom = tl.load(box + 2, mask=some, other=1.0), tl.load(box + 3, mask=some, other=1.0)
    return left, top, tl.maximum(right - left, 1e-12), tl.maximum(bottom - top, 1e-12)


@triton.jit
def apply(matrix, x, y):
    """Return where an affine map sends points."""
    moved_x = tl.load(matrix) * x + tl.load(matrix + 2) * y + tl.load(matrix + 4)
    return moved_x, tl.load(matrix + 1) * x + tl.load(matrix + 3) * y + tl.load(matrix + 5)


@triton.jit
def in_box(x, y, maps, boxes, row):
    """Return pixels' centres in the path's units, or in those of its bounding box."""
    left, top, width, height = box_of(boxes, row)
    x, y = apply(maps, x + 0.5, y + 0.5)
    return (x - left) / width, (y - top) / height


@triton.jit
def moves(distance, growth):
    """Return whether a focus that is so far (squared) from the centre is moved inside of the end circle."""
    reach, beyond = INSIDE * growth, OUTSIDE * growth
    return (distance > reach * reach) & (distance <= beyond * beyond)


@triton.jit
def axis(geometry):
    """Return a radial gradient's axis, focus, growth and first radius; a focus on the end circle is moved inside."""
    cx, cy, radius = tl.load(geometry), tl.load(geometry + 1), tl.load(geometry + 2)
    fx, fy, start = tl.load(geometry + 3), tl.load(geometry + 4), tl.load(geometry + 5)
    growth = radius - start
    ax, ay = cx - fx, cy - fy
    distance = ax * ax + ay * ay
    reach = INSIDE * tl.abs(growth)
    moved = moves(distance, growth)
    shrink = tl.where(moved, reach / tl.sqrt(tl.where(moved, distance, 1.0)), 1.0)
    fx, fy = tl.where(moved, cx - ax * shrink, fx), tl.where(moved, cy - ay * shrink, fy)
    return ax * shrink, ay * shrink, fx, fy, growth, start


@triton.jit
def vector(geometry):
    """Return a linear gradient's start, its vector divided by its squared length, and that square."""
    sx, sy = tl.load(geometry), tl.load(geometry + 1)
    vx, vy = tl.load(geometry + 2) - sx, tl.load(geometry + 3) - sy
    square = vx * vx + vy * vy
    safe = tl.where(square > 0, square, 1.0)
    return sx, sy, vx / safe, vy / safe, square


@triton.jit
def roots(ox, oy, ax, ay, growth, start):
    """Return what a radial gradient's parameter comes from, for offsets from its focus.

    That are the first coefficient of its equation, half of the second, negated, and the quarter of its discriminant;
    then the root of that, with the sign that it is added with; and last, the parameter and where there is one.
    """
    a = ax * ax + ay * ay - growth * growth
    half_b = ox * ax + oy * ay + start * growth
    square = half_b * half_b - a * (ox * ox + oy * oy - start * start)
    root = tl.sqrt(tl.maximum(square, 1e-12))
    beyond = OUTSIDE * growth
    cone = ax * ax + ay * ay > beyond * beyond
    a = tl.where(cone | (a < 0), a, -1e-12)
    far = cone & (start + (half_b + root) / a * growth >= 0)
    root = tl.where(far, root, -root)
    t = (half_b + root) / a
    return a, half_b, square, root, t, (cone == 0) | ((square >= 0) & (start + t * growth >= 0))


@triton.jit
def _parameter(x, y, radial, geometry):
    """Return `paint.radial_parameter` or `paint.linear_parameter`."""
    if radial:
        ax, ay, fx, fy, growth, start = axis(geometry)
        ox, oy = x - fx, y - fy
        _, _, _, _, t, _ = roots(ox, oy, ax, ay, growth, start)
        t = tl.where(tl.load(geometry + 2) > 0, t, 1.0)
    else:
        sx, sy, wx, wy, square = vector(geometry)
        t = tl.where(square > 0, (x - sx) * wx + (y - sy) * wy, 1.0)
    return t


@triton.jit
def parameter_at(x, y, maps, boxes, row, radial, geometry):
    """Return the gradient's parameter at pixels."""
    x, y = in_box(x, y, maps, boxes, row)
    x, y = apply(maps + 6, x, y)
    return _parameter(x, y, radial, geometry)


@triton.jit
def is_painted(x, y, maps, boxes, row, radial, geometry):
    """Return where a gradient paints: within the cone that it may be, and nowhere where its bounding box is flat."""
    box, some = boxes + 4 * row, row >= 0
    wide = tl.load(box + 2, mask=some, other=1.0) > tl.load(box, mask=some, other=0.0)
    high = tl.load(box + 3, mask=some, other=1.0) > tl.load(box + 1, mask=some, other=0.0)
    x, y = in_box(x, y, maps, boxes, row)
    x, y = apply(maps + 6, x, y)
    painted = (x == x) & wide & high
    if radial:
        ax, ay, fx, fy, growth, start = axis(geometry)
        _, _, _, _, _, within = roots(x - fx, y - fy, ax, ay, growth, start)
        painted = painted & (within | (tl.load(geometry + 2) <= 0))
    return painted


@triton.jit
def slopes(x, y, left, top, width, height, maps, boxes, row, radial, geometry):
    """Return how the parameter changes to the right and downwards, and how many pixels apart that was measured."""
    x0, x1 = tl.maximum(x - 1, left), tl.minimum(x + 1, left + width - 1)
    y0, y1 = tl.maximum(y - 1, top), tl.minimum(y + 1, top + height - 1)
    across, down = 1.0 * tl.maximum(x1 - x0, 1), 1.0 * tl.maximum(y1 - y0, 1)
    dx = parameter_at(x1, y, maps, boxes, row, radial, geometry) - parameter_at(
        x0, y, maps, boxes, row, radial, geometry
    )
    dy = parameter_at(x, y1, maps, boxes, row, radial, geometry) - parameter_at(
        x, y0, maps, boxes, row, radial, geometry
    )
    return dx / across, dy / down, across, down


@triton.jit
def spread_of(t, spread):
    """Return `paint.spread_parameter`."""
    turn = t - 2 * tl.floor(t * 0.5) - 1
    return tl.where(spread == REPEAT, t - tl.floor(t), tl.where(spread == REFLECT, 1 - tl.abs(turn), t))


@triton.jit
def stop_offset(offsets, stops, s, before):
    """Return the place of a stop; one that lies before its predecessor counts as if it lay upon it."""
    own = tl.minimum(tl.maximum(tl.load(offsets + tl.load(stops + 3 * s)), 0.0), 1.0)
    return tl.maximum(own, before)


@triton.jit
def stop_color(stops, s, colors, opacities):
    """Return the colour and the opacity of a stop."""
    color = colors + 3 * tl.load(stops + 3 * s + 1)
    opacity = tl.load(opacities + tl.load(stops + 3 * s + 2))
    return tl.load(color), tl.load(color + 1), tl.load(color + 2), opacity


@triton.jit
def has_sharp(offsets, stops, first, last, spread):
    """Return whether the parameter's change over a pixel matters."""
    sharp = tl.where(spread == REPEAT, 1, 0)
    before = stop_offset(offsets, stops, first, 0.0)
    for s in range(first + 1, last):
        here = stop_offset(offsets, stops, s, before)
        sharp = tl.where(here - before < SHARP, 1, sharp)
        before = here
    return sharp


@triton.jit
def passage(place, before, here, footprint):
    """Return how far a passage between two stops has come, before that is cut to 0 … 1, and how wide it is."""
    step = here - before
    sharp = step < SHARP
    width = tl.where(sharp, tl.maximum(step, footprint), step)
    return tl.where(sharp, (place - 0.5 * (before + here)) / width + 0.5, (place - before) / width), width
