"""Filter functions of CSS, `blur(2px) brightness(1.5)`, as steps of filters (Filter Effects 1, section 6)."""

import math
import re
from collections.abc import Callable, Iterator

from pds_nerfstudio.vector.raster.filter_graph import ColorMatrix
from pds_nerfstudio.vector.svg.numbers import parse_length, parse_number

_CALL = re.compile(r"\s*([a-z-]+)\(((?:[^()\"']|\"[^\"]*\"|'[^']*'|\([^()]*\))*)\)", re.IGNORECASE)
_DEGREES = {"deg": 1.0, "grad": 0.9, "rad": 180 / math.pi, "turn": 360.0}
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def split_functions(value: str) -> list[tuple[str, str]] | None:
    """Return the names, in lower case, and the arguments of a list of functions; None if it is no such list."""
    position, found = 0, list[tuple[str, str]]()
    while position < len(value.rstrip()):
        match = _CALL.match(value, position)
        if match is None:
            return None
        found.append((match[1].lower(), match[2].strip()))
        position = match.end()
    return found or None


def _matrix(rows: Iterator[float] | list[float]) -> ColorMatrix:
    """Return a matrix of colours, nine numbers, that leaves alpha as it is."""
    n = list(rows)
    return ColorMatrix((*n[:3], 0.0, 0.0, *n[3:6], 0.0, 0.0, *n[6:], 0.0, 0.0, *_IDENTITY[15:]))


def _scaled(slope: float, intercept: float = 0.0) -> ColorMatrix:
    rows = [(*(slope if k == j else 0.0 for k in range(3)), 0.0, intercept) for j in range(3)]
    return ColorMatrix((*rows[0], *rows[1], *rows[2], *_IDENTITY[15:]))


def saturated(s: float) -> ColorMatrix:
    """Return what makes colours more or less vivid: 1 changes nothing, 0 leaves greys."""
    light = (0.213, 0.715, 0.072)
    return _matrix([light[k] + s * ((j == k) - light[k]) for j in range(3) for k in range(3)])


def hue_rotated(degrees: float) -> ColorMatrix:
    """Return what turns hues."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    light = (0.213, 0.715, 0.072)
    turn = (-0.213, -0.715, 0.928, 0.143, 0.140, -0.283, -0.787, 0.715, 0.072)
    grey = [light[k] for _ in range(3) for k in range(3)]
    own = [(j == k) - light[k] for j in range(3) for k in range(3)]
    return _matrix([g + cos * o + sin * t for g, o, t in zip(grey, own, turn, strict=True)])


def luminance_to_alpha() -> ColorMatrix:
    """Return what puts how light a colour is into its alpha."""
    return ColorMatrix((*(0.0,) * 15, 0.2125, 0.7154, 0.0721, 0.0, 0.0))


def _sepia(amount: float) -> ColorMatrix:
    rows = (0.393, 0.769, 0.189, 0.349, 0.686, 0.168, 0.272, 0.534, 0.131)
    return _matrix([r + (1 - amount) * ((k % 4 == 0) - r) for k, r in enumerate(rows)])


_OF_AMOUNT: dict[str, Callable[[float], ColorMatrix]] = {
    "brightness": _scaled,
    "contrast": lambda a: _scaled(a, 0.5 - 0.5 * a),
    "grayscale": lambda a: saturated(1 - min(a, 1.0)),
    "invert": lambda a: _scaled(1 - 2 * min(a, 1.0), min(a, 1.0)),
    "opacity": lambda a: ColorMatrix((*_IDENTITY[:18], min(a, 1.0), 0.0)),
    "saturate": saturated,
    "sepia": lambda a: _sepia(min(a, 1.0)),
}


def color_function(name: str, argument: str) -> ColorMatrix | None:
    """Return what a function of CSS does to colours; None if it is no such function, or its argument none."""
    if name == "hue-rotate":
        degrees = parse_angle(argument or "0")
        return None if degrees is None else hue_rotated(degrees)
    # an amount has no other unit than percent
    plain = argument if argument.endswith("%") or parse_number(argument or "1") is not None else None
    amount = None if plain is None else parse_length(plain or "1", 1.0)
    if name not in _OF_AMOUNT or amount is None or amount < 0:
        return None
    return _OF_AMOUNT[name](amount)


def parse_angle(text: str) -> float | None:
    """Return an angle in degrees; None where it is none. Only 0 needs no unit."""
    for unit, degrees in _DEGREES.items():
        if text.lower().endswith(unit):
            value = parse_number(text[: -len(unit)])
            if value is not None:
                return value * degrees
    return 0.0 if parse_number(text) == 0 else None
