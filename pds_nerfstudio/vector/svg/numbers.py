"""Numbers, lengths and transform lists as SVG writes them."""

import math
import re
from dataclasses import dataclass

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine

MAX_NUMBER = 1e9
"""Larger numbers are taken for nonsense."""

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_LENGTH = re.compile(rf"({NUMBER.pattern})\s*(px|pt|pc|mm|cm|in|em|rem|ex|%)?")
_PIXELS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
_TRANSFORM = re.compile(r"(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^()]*)\)")


def parse_number(text: str) -> float | None:
    """Return a plain number; None for anything else, or for one beyond MAX_NUMBER."""
    match = NUMBER.fullmatch(text.strip())
    value = float(match[0]) if match else math.inf
    return value if abs(value) <= MAX_NUMBER else None


def parse_numbers(text: str) -> list[float]:
    """Return all numbers of a list up to the first that is none."""
    values = []
    for part in re.split(r"[\s,]+", text.strip()):
        value = parse_number(part)
        if value is None:
            break
        values.append(value)
    return values


@dataclass(frozen=True)
class Viewport:
    """What percentages and em refer to."""

    width: float
    """100 % of horizontal lengths."""
    height: float
    """100 % of vertical lengths."""
    font_size: float = 16.0
    """1 em."""

    @property
    def diagonal(self) -> float:
        """The reference for lengths that are neither horizontal nor vertical (SVG 2, section 8.9)."""
        return math.hypot(self.width, self.height) / math.sqrt(2)


def parse_length(text: str | None, reference: float, font_size: float = 16.0) -> float | None:
    """Return a length in user units.

    Args:
        text: Number with an optional unit.
        reference: What 100 % means.
        font_size: What 1 em means.

    Returns:
        None for no text, or where it is no length.
    """
    match = _LENGTH.fullmatch(text.strip()) if text else None
    if match is None:
        return None
    unit = match[2] or ""
    if unit == "%":
        factor = reference / 100
    elif unit in ("em", "rem", "ex"):
        factor = font_size * (0.5 if unit == "ex" else 1)
    else:
        factor = _PIXELS[unit]
    value = float(match[1]) * factor
    return value if abs(value) <= MAX_NUMBER else None


def _single_transform(name: str, numbers: list[float]) -> Affine | None:
    count = len(numbers)
    if name == "matrix" and count == 6:
        a, b, c, d, e, f = numbers
        return a, b, c, d, e, f
    if name == "translate" and count in (1, 2):
        return affine.translation(numbers[0], numbers[1] if count == 2 else 0.0)
    if name == "scale" and count in (1, 2):
        return affine.scaling(numbers[0], numbers[-1])
    if name == "rotate" and count in (1, 3):
        angle = math.radians(numbers[0])
        turn: Affine = (math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle), 0.0, 0.0)
        if count == 1:
            return turn
        there, back = affine.translation(numbers[1], numbers[2]), affine.translation(-numbers[1], -numbers[2])
        return affine.compose(affine.compose(there, turn), back)
    if name in ("skewX", "skewY") and count == 1:
        slope = math.tan(math.radians(numbers[0]))
        return (1.0, 0.0, slope, 1.0, 0.0, 0.0) if name == "skewX" else (1.0, slope, 0.0, 1.0, 0.0, 0.0)
    return None


def parse_transform(text: str | None) -> Affine:
    """Read a transform list; an invalid one counts as none, as SVG asks for."""
    result = IDENTITY
    if not text:
        return result
    rest = _TRANSFORM.sub("", text)
    if rest.strip(" ,\t\r\n"):
        return IDENTITY
    for match in _TRANSFORM.finditer(text):
        single = _single_transform(match[1], parse_numbers(match[2]))
        if single is None:
            return IDENTITY
        result = affine.compose(result, single)
    return result if all(abs(v) <= MAX_NUMBER for v in result) else IDENTITY


def format_number(value: float, decimals: int) -> str:
    """Write a number with at most so many decimals and no superfluous zeros."""
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
