"""Numbers and lengths as SVG writes them."""

import math
import re
from dataclasses import dataclass

MAX_NUMBER = 1e9
"""Larger numbers are taken for nonsense."""

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_LISTED = re.compile(rf"[\s,]*({NUMBER.pattern})(?![\w%])")
_LENGTH = re.compile(rf"({NUMBER.pattern})\s*([A-Za-z]+|%)?")
_PIXELS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0, "q": 96 / 101.6}
_EMS = {"em": 1.0, "ex": 0.5, "ch": 0.5}


def parse_number(text: str) -> float | None:
    """Return a plain number; None for anything else, or for one beyond MAX_NUMBER."""
    match = NUMBER.fullmatch(text.strip())
    value = float(match[0]) if match else math.inf
    return value if abs(value) <= MAX_NUMBER else None


def parse_numbers(text: str) -> list[float]:
    """Return all numbers of a list up to the first that is none. A sign, or a second point, also begins a number."""
    values = []
    match = _LISTED.match(text)
    while match is not None:
        value = float(match[1])
        if abs(value) > MAX_NUMBER:
            break
        values.append(value)
        match = _LISTED.match(text, match.end())
    return values


def is_list(text: str) -> bool:
    """Tell whether a text is nothing but numbers."""
    return not _LISTED.sub("", text).strip(" ,\t\r\n")


@dataclass(frozen=True)
class Viewport:
    """What percentages and em refer to."""

    width: float
    """100 % of horizontal lengths."""
    height: float
    """100 % of vertical lengths."""
    font_size: float = 16.0
    """1 em."""
    root_font_size: float = 16.0
    """1 rem."""

    @property
    def diagonal(self) -> float:
        """The reference for lengths that are neither horizontal nor vertical (SVG 2, section 8.9)."""
        return math.hypot(self.width, self.height) / math.sqrt(2)

    def length(self, text: str | None, reference: float) -> float | None:
        """Return a length in user units; see `parse_length`."""
        return parse_length(text, reference, self.font_size, self.root_font_size)


def parse_length(
    text: str | None, reference: float, font_size: float = 16.0, root_font_size: float | None = None
) -> float | None:
    """Return a length in user units.

    Args:
        text: Number with an optional unit.
        reference: What 100 % means.
        font_size: What 1 em means.
        root_font_size: What 1 rem means, if not the same.

    Returns:
        None for no text, or where it is no length.
    """
    match = _LENGTH.fullmatch(text.strip()) if text else None
    if match is None:
        return None
    unit = (match[2] or "").lower()
    if unit == "%":
        factor = reference / 100
    elif unit in _EMS:
        factor = font_size * _EMS[unit]
    elif unit == "rem":
        factor = font_size if root_font_size is None else root_font_size
    elif unit in _PIXELS:
        factor = _PIXELS[unit]
    else:
        return None
    value = float(match[1]) * factor
    return value if abs(value) <= MAX_NUMBER else None


def format_number(value: float, decimals: int) -> str:
    """Write a number with at most so many decimals and no superfluous zeros."""
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
