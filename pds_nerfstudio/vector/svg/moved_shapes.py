"""Basic shapes that were moved as wholes: as basic shapes again, with a transform where they are turned or slanted."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.svg.basic_shapes import Numbers, ShapeSource
from pds_nerfstudio.vector.svg.numbers import format_number
from pds_nerfstudio.vector.svg.path_grammar import Point
from pds_nerfstudio.vector.svg.transforms import about, read_transform

_LAST = re.compile(r"[\s,]*\b(rotate|matrix)\s*\([^()]*\)\s*$")


@dataclass(frozen=True)
class Moved:
    """A basic shape, and what turns or slants it about its middle."""

    tag: str
    """Which shape."""
    numbers: Numbers
    """Its geometry attributes in user units."""
    middle: Point
    """Its middle."""
    angle: float = 0.0
    """By how much it is turned, in radians."""
    slant: float = 0.0
    """By how much it is slanted before that: how far x goes with y."""

    @property
    def is_upright(self) -> bool:
        """Whether it needs no transform."""
        return self.angle == self.slant == 0

    def transform(self, before: str, decimals: int) -> tuple["Moved", str]:
        """Return the shape with the transform that puts it in place.

        Args:
            before: The transform that the element has; a turn at its end becomes one with the new one.
            decimals: How many the result has for lengths.

        Returns:
            The shape, which may have to stand elsewhere for that, and the transform.
        """
        last = _LAST.search(before)
        outer = read_transform(last[0]) if last else None
        head = before[: last.start()] if last and outer else "" if before.strip() == "none" else before
        radius = max(*map(abs, self.middle), 1e-9)
        finer = min(max(decimals + math.ceil(math.log10(radius)), 1), 9)
        if self.slant == 0 and (outer is None or (last and last[1] == "rotate")):
            shape, angle = self, self.angle
            if outer is not None:
                shape = self.at(affine.apply(outer, *self.middle))
                angle += math.atan2(outer[1], outer[0])
            x, y = (format_number(v, decimals) for v in shape.middle)
            degrees = format_number(math.degrees(angle), max(finer - 1, 1))
            return shape, f"{head} rotate({degrees} {x} {y})".strip()
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        whole = about((cos, sin, cos * self.slant - sin, sin * self.slant + cos, 0.0, 0.0), *self.middle)
        whole = whole if outer is None else affine.compose(outer, whole)
        values = [format_number(v, finer) for v in whole[:4]] + [format_number(v, decimals + 1) for v in whole[4:]]
        return self, f"{head} matrix({' '.join(values)})".strip()

    def at(self, middle: Point) -> "Moved":
        """Return the shape with its middle elsewhere."""
        step = middle[0] - self.middle[0], middle[1] - self.middle[1]
        numbers = dict(self.numbers)
        for name in ("x", "cx", "y", "cy"):
            if name in numbers:
                numbers[name] += step[name[-1] == "y"]
        return Moved(self.tag, numbers, middle, self.angle, self.slant)


def move_shape(
    source: ShapeSource, points: Sequence[Point], tolerance: float, slants: bool, dashed: bool
) -> Moved | None:
    """Return a basic shape that was moved as a whole.

    A circle or an ellipse is an ellipse under every affine map; a rectangle stays one as long as it is not slanted.

    Args:
        source: The shape as it was read: a rect, a circle or an ellipse.
        points: Its points now.
        tolerance: How far a point may lie from the shape.
        slants: Whether it may have a transform that slants it: what is stroked may not, for that slants the stroke.
        dashed: Whether it matters where its outline begins.

    Returns:
        None if it is no such shape any more.
    """
    n = source.numbers
    rectangle = source.tag == "rect"
    middle = (n["x"] + n["width"] / 2, n["y"] + n["height"] / 2) if rectangle else (n["cx"], n["cy"])
    matrix = _map_between(np.asarray(source.outline.points) - middle, np.asarray(points), tolerance)
    if matrix is None:
        return None
    linear, center = matrix[:2].T, (float(matrix[2, 0]), float(matrix[2, 1]))
    if rectangle:
        return _rectangle(n, linear, center, tolerance, slants, dashed)
    radii = (n["r"], n["r"]) if source.tag == "circle" else (n["rx"], n["ry"])
    return None if dashed else _ellipse(source.tag, linear * radii, center, tolerance)


def _map_between(before: np.ndarray, after: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Return the affine map (3 × 2, of rows) that takes points to others; None where none does."""
    homogeneous = np.concatenate([before, np.ones((len(before), 1))], 1)
    matrix: np.ndarray = np.linalg.lstsq(homogeneous, after, rcond=None)[0]
    if np.abs(homogeneous @ matrix - after).max() > tolerance or abs(np.linalg.det(matrix[:2])) < 1e-9:
        return None
    return matrix


def _ellipse(tag: str, axes: np.ndarray, center: Point, tolerance: float) -> Moved:
    directions, (longer, shorter), _ = np.linalg.svd(axes)
    (cx, cy), angle = center, math.atan2(directions[1, 0], directions[0, 0])
    if longer - shorter <= tolerance and tag == "circle":
        return Moved(tag, {"cx": cx, "cy": cy, "r": float(longer + shorter) / 2}, center)
    rx, ry = float(longer), float(shorter)
    angle -= round(angle / math.pi) * math.pi
    if abs(angle) > math.pi / 4:
        rx, ry, angle = ry, rx, angle - math.copysign(math.pi / 2, angle)
    if (longer - shorter) * abs(math.sin(angle)) <= tolerance:
        angle = 0.0
    return Moved("ellipse", {"cx": cx, "cy": cy, "rx": rx, "ry": ry}, center, angle)


def _rectangle(
    n: Numbers, linear: np.ndarray, center: Point, tolerance: float, slants: bool, dashed: bool
) -> Moved | None:
    along, angle = float(np.hypot(*linear[:, 0])), math.atan2(linear[1, 0], linear[0, 0])
    cos, sin = math.cos(angle), math.sin(angle)
    slant, across = (float(v) for v in np.array([[cos, sin], [-sin, cos]]) @ linear[:, 1])
    if across < 0:  # mirrored, which nobody sees but by the dashes
        slant, across = -slant, -across
        if dashed:
            return None
    width, height, rx, ry = along * n["width"], across * n["height"], along * n["rx"], across * n["ry"]
    if abs(slant) * n["height"] <= 2 * tolerance:
        slant = 0.0
    elif not slants:
        return None
    if not dashed:
        angle -= round(angle / math.pi) * math.pi
    far = math.hypot(width, height) / 2
    if slant == 0 and not dashed and abs(abs(angle) - math.pi / 2) * far <= tolerance:
        width, height, rx, ry, angle = height, width, ry, rx, 0.0
    if abs(angle) * far <= tolerance:
        angle = 0.0
    numbers = {"x": center[0] - width / 2, "y": center[1] - height / 2}
    numbers |= {"width": width, "height": height, "rx": rx, "ry": ry}
    return Moved("rect", numbers, center, angle, slant / across)
