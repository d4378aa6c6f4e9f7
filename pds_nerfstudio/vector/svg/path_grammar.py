"""Path data (SVG 2, section 9.3) to absolute cubics and back."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pds_nerfstudio.vector.svg.numbers import MAX_NUMBER, NUMBER, format_number

Point = tuple[float, float]
Segment = tuple[int, int, int, int]

# Atomic groups: no number is taken apart to make two of it.
_NEXT = rf"[\s,]*+((?>{NUMBER.pattern}))"
_NEXT_FLAG = r"[\s,]*+([01])"
_ARGUMENTS = {
    command: re.compile(3 * _NEXT + 2 * _NEXT_FLAG + 2 * _NEXT if command == "A" else count * _NEXT)
    for command, count in {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}.items()
}
_BLANK = re.compile(r"[\s,]*")
_COMMAND = re.compile(r"\s*([MmLlHhVvCcSsQqTtAaZz])")
_SAME_POINT = 1e-9


@dataclass
class Outline:
    """Contours of cubics over one list of points."""

    points: list[Point] = field(default_factory=list)
    """End and control points."""
    contours: list[tuple[list[Segment], bool]] = field(default_factory=list)
    """For each contour its segments, as indices of points, and whether it is closed. A straight line from i
    to j is (i, i, j, j). A closed contour ends in the index it starts with."""
    within: set[int] = field(default_factory=set)
    """Points at which the pieces of an arc meet, which are no vertices."""


class OutlineBuilder:
    """An outline, drawn command by command."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._segments: list[Segment] = []
        self._start = -1
        self._current = -1
        self._moved = False

    @property
    def position(self) -> Point:
        """The current point."""
        return self.outline.points[self._current] if self._current >= 0 else (0.0, 0.0)

    def _add(self, point: Point) -> int:
        points, (x, y) = self.outline.points, point
        if not (-MAX_NUMBER <= x <= MAX_NUMBER and -MAX_NUMBER <= y <= MAX_NUMBER):
            # sums and arcs of numbers that are each within bounds may still leave them
            x, y = (min(max(c, -MAX_NUMBER), MAX_NUMBER) if c == c else 0.0 for c in point)
        points.append((x, y))
        return len(points) - 1

    def move(self, point: Point) -> None:
        """Start a new contour."""
        self._finish(False)
        self._start = self._current = self._add(point)
        self._moved = True

    def line(self, point: Point) -> None:
        """Draw a straight line."""
        end = self._add(point)
        self._segments.append((self._current, self._current, end, end))
        self._current = end

    def curve(self, first: Point, second: Point, point: Point) -> None:
        """Draw a cubic."""
        indices = [self._add(p) for p in (first, second, point)]
        self._segments.append((self._current, *indices))  # type: ignore[arg-type]
        self._current = indices[-1]

    def close(self) -> None:
        """Close the contour; the next command starts another one at the same place."""
        if self._start < 0 or not (self._segments or self._moved):
            return
        points = self.outline.points
        start, here = points[self._start], points[self._current]
        reach = max(1.0, abs(start[0]), abs(start[1]))
        gap = max(abs(start[0] - here[0]), abs(start[1] - here[1]))
        if not self._segments:
            self._segments.append((self._start,) * 4)
        elif gap <= _SAME_POINT * reach:
            # the last command already went back to the start: make it one point, so that it stays one
            a, b, c, d = self._segments[-1]
            self._segments[-1] = (a, b, self._start if c == d else c, self._start)
            if d == len(points) - 1 and d != self._start:
                points.pop()
        else:
            self._segments.append((self._current, self._current, self._start, self._start))
        self._finish(True)
        # nothing is drawn from here unless another command follows
        self._current = self._start = self._add(start)
        self._moved = False

    def _finish(self, closed: bool) -> None:
        if self._segments:
            self.outline.contours.append((self._segments, closed))
        elif self._current >= 0 and self._current == len(self.outline.points) - 1:
            self.outline.points.pop()
        self._segments = []

    def finish(self) -> Outline:
        """Return the outline so far."""
        self._finish(False)
        return self.outline


def arc_to_cubics(
    start: Point, rx: float, ry: float, rotation: float, large: bool, sweep: bool, end: Point
) -> list[tuple[Point, Point, Point]]:
    """Return an elliptical arc as cubics of at most a quarter turn each (SVG 2, appendix B.2.4).

    Args:
        start: Where it starts.
        rx: First radius.
        ry: Second radius.
        rotation: Angle of the first radius in degrees.
        large: Whether to take the longer of the two ways.
        sweep: Whether angles increase.
        end: Where it ends.

    Returns:
        Two control points and an end point for each cubic; none for an arc without length, a straight line for one
        without radius.
    """
    rx, ry = abs(rx), abs(ry)
    if start == end:
        return []
    if rx == 0 or ry == 0:
        return [(start, end, end)]
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    dx, dy = (start[0] - end[0]) / 2, (start[1] - end[1]) / 2
    x, y = cos * dx + sin * dy, -sin * dx + cos * dy
    scale = math.hypot(x / rx, y / ry)
    if scale > 1:
        rx, ry = rx * scale, ry * scale
    u, v = x / rx, y / ry
    square = u * u + v * v
    if square == 0:
        return [(start, end, end)]
    factor = math.sqrt(max(1 / square - 1, 0.0)) * (1 if large != sweep else -1)
    cx, cy = factor * v, -factor * u
    first, last = math.atan2(v - cy, u - cx), math.atan2(-v - cy, -u - cx)
    turn = last - first
    if sweep and turn < 0:
        turn += 2 * math.pi
    elif not sweep and turn > 0:
        turn -= 2 * math.pi
    pieces = max(1, math.ceil(abs(turn) / (math.pi / 2) - 1e-9))
    step = turn / pieces
    # control points of a unit arc lie 4/3 tan(angle / 4) along its tangents
    k = 4 / 3 * math.tan(step / 4)
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)

    def place(p: float, q: float) -> Point:
        p, q = rx * (p + cx), ry * (q + cy)
        return cos * p - sin * q + middle[0], sin * p + cos * q + middle[1]

    cubics = []
    for i in range(pieces):
        a, b = first + i * step, first + (i + 1) * step
        ca, sa, cb, sb = math.cos(a), math.sin(a), math.cos(b), math.sin(b)
        to = end if i == pieces - 1 else place(cb, sb)
        cubics.append((place(ca - k * sa, sa + k * ca), place(cb + k * sb, sb - k * cb), to))
    return cubics


def _arguments(text: str, position: int, command: str) -> tuple[list[float], int] | None:
    """Return the arguments of one command from a position on, and the position after them."""
    match = _ARGUMENTS[command].match(text, position)
    if match is None:
        return None
    values = [float(value) for value in match.groups()]
    if values and (max(values) > MAX_NUMBER or min(values) < -MAX_NUMBER):
        return None
    return values, match.end()


def parse_path(text: str) -> tuple[Outline, bool]:
    """Read path data.

    Returns:
        Absolute cubics up to the first error, and whether there was none.
    """
    builder = OutlineBuilder()
    position, letter = 0, ""
    control: Point | None = None
    kind = ""
    while True:
        match = _COMMAND.match(text, position)
        if match:
            letter, position = match[1], match.end()
        else:
            blank = _BLANK.match(text, position)
            if blank and blank.end() == len(text):
                return builder.finish(), True
            # a repeated move is a line, and nothing repeats a closing
            if letter in "zZ":
                return builder.finish(), False
            letter = {"M": "L", "m": "l"}.get(letter, letter)
        command = letter.upper()
        found = _arguments(text, position, command)
        if found is None or (builder._current < 0 and command != "M"):
            return builder.finish(), False
        values, position = found
        x, y = builder.position
        if letter.islower() and command != "Z":
            values = _absolute(command, values, x, y)
        control = control if kind and command in kind else None
        mirrored = (2 * x - control[0], 2 * y - control[1]) if control else (x, y)
        kind = ""
        if command == "M":
            builder.move((values[0], values[1]))
        elif command == "Z":
            builder.close()
        elif command in "LHV":
            builder.line({"L": (values[0], values[-1]), "H": (values[0], y), "V": (x, values[0])}[command])
        elif command in "CS":
            pairs = list(zip(values[::2], values[1::2], strict=True))
            first, second, end = pairs if command == "C" else (mirrored, *pairs)
            builder.curve(first, second, end)
            control, kind = second, "S"
        elif command in "QT":
            bend = (values[0], values[1]) if command == "Q" else mirrored
            end = (values[-2], values[-1])
            first = (x + 2 / 3 * (bend[0] - x), y + 2 / 3 * (bend[1] - y))
            second = (end[0] + 2 / 3 * (bend[0] - end[0]), end[1] + 2 / 3 * (bend[1] - end[1]))
            builder.curve(first, second, end)
            control, kind = bend, "T"
        else:
            rx, ry, rotation, large, sweep, *to = values
            end = (to[0], to[1])
            if not (rx and ry):
                builder.line(end)
                continue
            for first, second, to_point in arc_to_cubics((x, y), rx, ry, rotation, large == 1, sweep == 1, end):
                builder.curve(first, second, to_point)
                if to_point != end:
                    builder.outline.within.add(builder._current)


def _absolute(command: str, values: Sequence[float], x: float, y: float) -> list[float]:
    if command == "H":
        return [values[0] + x]
    if command == "V":
        return [values[0] + y]
    if command == "A":
        return [*values[:5], values[5] + x, values[6] + y]
    return [v + (y if i % 2 else x) for i, v in enumerate(values)]


def format_path(points: Sequence[Point], contours: Sequence[tuple[list[Segment], bool]], decimals: int) -> str:
    """Write absolute path data of moves, lines, cubics and closings."""

    def pair(index: int) -> str:
        x, y = points[index]
        return f"{format_number(x, decimals)} {format_number(y, decimals)}"

    parts = []
    for segments, closed in contours:
        parts.append("M" + pair(segments[0][0]))
        for i, (a, b, c, d) in enumerate(segments):
            straight = a == b and c == d
            if straight and closed and i == len(segments) - 1:
                continue
            parts.append("L" + pair(d) if straight else "C" + " ".join(pair(k) for k in (b, c, d)))
        if closed:
            parts.append("Z")
    return "".join(parts)
