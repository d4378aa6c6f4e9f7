"""The basic shapes of SVG (SVG 2, chapter 10) as outlines, and outlines back as basic shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pds_nerfstudio.vector.svg.numbers import Viewport, is_list, parse_numbers
from pds_nerfstudio.vector.svg.path_grammar import Outline, OutlineBuilder, Point, parse_path

KAPPA = 0.5522847498307936
"""Distance of the control points of a quarter circle from its ends: 4/3 tan(π/8)."""

Numbers = dict[str, float]
"""Geometry attributes in user units."""


def _ellipse(cx: float, cy: float, rx: float, ry: float) -> Outline:
    builder = OutlineBuilder()
    kx, ky = KAPPA * rx, KAPPA * ry
    builder.move((cx + rx, cy))
    builder.curve((cx + rx, cy + ky), (cx + kx, cy + ry), (cx, cy + ry))
    builder.curve((cx - kx, cy + ry), (cx - rx, cy + ky), (cx - rx, cy))
    builder.curve((cx - rx, cy - ky), (cx - kx, cy - ry), (cx, cy - ry))
    builder.curve((cx + kx, cy - ry), (cx + rx, cy - ky), (cx + rx, cy))
    builder.close()
    return builder.finish()


def _rectangle(x: float, y: float, width: float, height: float, rx: float, ry: float) -> Outline:
    builder = OutlineBuilder()
    right, bottom = x + width, y + height
    if rx == 0 or ry == 0:
        builder.move((x, y))
        for corner in ((right, y), (right, bottom), (x, bottom)):
            builder.line(corner)
        builder.close()
        return builder.finish()
    kx, ky = (1 - KAPPA) * rx, (1 - KAPPA) * ry
    builder.move((x + rx, y))
    builder.line((right - rx, y))
    builder.curve((right - kx, y), (right, y + ky), (right, y + ry))
    builder.line((right, bottom - ry))
    builder.curve((right, bottom - ky), (right - kx, bottom), (right - rx, bottom))
    builder.line((x + rx, bottom))
    builder.curve((x + kx, bottom), (x, bottom - ky), (x, bottom - ry))
    builder.line((x, y + ry))
    builder.curve((x, y + ky), (x + kx, y), (x + rx, y))
    builder.close()
    return builder.finish()


def _build(tag: str, n: Numbers) -> Outline:
    if tag == "circle":
        return _ellipse(n["cx"], n["cy"], n["r"], n["r"])
    if tag == "ellipse":
        return _ellipse(n["cx"], n["cy"], n["rx"], n["ry"])
    if tag == "rect":
        return _rectangle(n["x"], n["y"], n["width"], n["height"], n["rx"], n["ry"])
    builder = OutlineBuilder()
    builder.move((n["x1"], n["y1"]))
    builder.line((n["x2"], n["y2"]))
    return builder.finish()


def _fit_rectangle(points: Sequence[Point], rounded: bool) -> Numbers:
    if rounded:
        top, right, bottom, left = points[0], points[4], points[8], points[12]
        x, y = left[0], top[1]
        rx, ry = top[0] - x, right[1] - y
        return {"x": x, "y": y, "width": right[0] - x, "height": bottom[1] - y, "rx": rx, "ry": ry}
    x, far_x = (points[0][0] + points[3][0]) / 2, (points[1][0] + points[2][0]) / 2
    y, far_y = (points[0][1] + points[1][1]) / 2, (points[2][1] + points[3][1]) / 2
    return {"x": x, "y": y, "width": far_x - x, "height": far_y - y, "rx": 0.0, "ry": 0.0}


def _fit(tag: str, points: Sequence[Point], rounded: bool) -> Numbers:
    """Return the numbers of the shape that an outline of this tag would have, if it still is one."""
    if tag == "line":
        (x1, y1), (x2, y2) = points
        return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    if tag == "rect":
        return _fit_rectangle(points, rounded)
    cx, cy = (points[0][0] + points[6][0]) / 2, (points[3][1] + points[9][1]) / 2
    rx, ry = (points[0][0] - points[6][0]) / 2, (points[3][1] - points[9][1]) / 2
    if tag == "circle":
        return {"cx": cx, "cy": cy, "r": (rx + ry) / 2}
    return {"cx": cx, "cy": cy, "rx": rx, "ry": ry}


@dataclass(frozen=True)
class ShapeSource:
    """The geometry of an element, as it was read."""

    tag: str
    """Which shape it is."""
    outline: Outline
    """Its points and contours."""
    numbers: Numbers
    """Its geometry attributes in user units; none of a path, polyline or polygon."""
    complete: bool
    """Whether all of it was read. Path data and points are read up to their first error."""
    unread: tuple[str, ...] = ()
    """Attributes that are no lengths, and count as if they were not there."""


GEOMETRY = {
    "path": ("d",),
    "rect": ("x", "y", "width", "height", "rx", "ry"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "line": ("x1", "y1", "x2", "y2"),
    "polyline": ("points",),
    "polygon": ("points",),
}
"""The geometry attributes of each shape."""


def read_shape(tag: str, get: Callable[[str], str | None], viewport: Viewport) -> ShapeSource | None:
    """Read the geometry of a shape.

    Args:
        tag: Which shape.
        get: Attribute values by name.
        viewport: What percentages refer to.

    Returns:
        None where the element draws nothing.
    """
    if tag == "path":
        outline, complete = parse_path(get("d") or "")
        return ShapeSource(tag, outline, {}, complete) if outline.contours else None
    if tag in ("polyline", "polygon"):
        text = get("points") or ""
        values = parse_numbers(text)
        builder = OutlineBuilder()
        for index, point in enumerate(zip(values[::2], values[1::2], strict=False)):
            (builder.line if index else builder.move)(point)
        if tag == "polygon":
            builder.close()
        outline = builder.finish()
        complete = len(values) % 2 == 0 and is_list(text)
        return ShapeSource(tag, outline, {}, complete) if len(values) > 3 else None
    numbers: Numbers = {}
    unread = []
    for name in GEOMETRY[tag]:
        reference = (
            viewport.width
            if name in ("x", "width", "rx", "cx", "x1", "x2")
            else viewport.diagonal
            if name == "r"
            else viewport.height
        )
        length = get(name)
        value = viewport.length(length, reference)
        if value is not None:
            numbers[name] = value
        elif length and length.strip() not in ("", "auto"):
            unread.append(name)
    if tag in ("rect", "ellipse"):
        # one radius stands for both
        rx, ry = numbers.get("rx", -1.0), numbers.get("ry", -1.0)
        rx, ry = (rx if rx >= 0 else max(ry, 0.0)), (ry if ry >= 0 else max(rx, 0.0))
        if tag == "rect":
            rx = min(rx, numbers.get("width", 0.0) / 2)
            ry = min(ry, numbers.get("height", 0.0) / 2)
        numbers["rx"], numbers["ry"] = rx, ry
    numbers = {name: numbers.get(name, 0.0) for name in GEOMETRY[tag]}
    sizes = {"rect": ("width", "height"), "circle": ("r",), "ellipse": ("rx", "ry"), "line": ()}[tag]
    if any(numbers[name] <= 0 for name in sizes):
        return None
    return ShapeSource(tag, _build(tag, numbers), numbers, True, tuple(unread))


def fit_shape(source: ShapeSource, points: Sequence[Point], tolerance: float) -> Numbers | None:
    """Return the geometry attributes of an edited basic shape.

    Args:
        source: The shape as it was read; no path, polyline or polygon.
        points: Its points now.
        tolerance: How far a point may lie from the shape that the numbers describe.

    Returns:
        None if it no longer is such a shape.
    """
    rounded = source.tag == "rect" and source.numbers["rx"] > 0 and source.numbers["ry"] > 0
    numbers = _fit(source.tag, points, rounded)
    if any(numbers.get(name, 0.0) < 0 for name in ("width", "height", "rx", "ry", "r")):
        return None
    built = _build(source.tag, numbers).points
    if len(built) != len(points):
        return None
    far = max(max(abs(p[0] - q[0]), abs(p[1] - q[1])) for p, q in zip(built, points, strict=True))
    return numbers if far <= tolerance else None
