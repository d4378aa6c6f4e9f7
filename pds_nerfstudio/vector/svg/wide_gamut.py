"""Colours in spaces that reach beyond sRGB (CSS Color 4, sections 9 and 10), cut to what sRGB can show."""

import math
import re
from collections.abc import Sequence

_CALL = re.compile(r"(color|oklab|oklch)\(\s*([^()]*)\)")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%|deg)?")

_FROM_P3 = (
    (1.2249401763, -0.2249401763, 0.0),
    (-0.0420569547, 1.0420569547, 0.0),
    (-0.0196375546, -0.0786360456, 1.0982736001),
)
"""From linear Display P3 to linear sRGB."""
_FROM_OKLAB = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_FROM_CONES = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
"""Ottosson, "A perceptual color space for image processing", 2020: Oklab to cone responses, to linear sRGB."""


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix]


def _linear(value: float) -> float:
    size = abs(value)
    return math.copysign(size / 12.92 if size <= 0.04045 else ((size + 0.055) / 1.055) ** 2.4, value)


def _encoded(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _numbers(words: Sequence[str], wholes: Sequence[float]) -> list[float] | None:
    """Return numbers; a percentage is one of its whole."""
    values = []
    for word, whole in zip(words, wholes, strict=True):
        match = _NUMBER.fullmatch("0" if word == "none" else word)
        if match is None:
            return None
        values.append(float(match[1]) * (whole / 100 if match[2] == "%" else 1))
    return values


def is_wide(text: str) -> bool:
    """Tell whether a colour, in lower case, is written in a space that reaches beyond sRGB."""
    return text.startswith(("color(", "oklab(", "oklch("))


def parse_wide(text: str) -> tuple[float, float, float, float] | None:
    """Read color() in srgb, srgb-linear or display-p3, oklab() or oklch(), in lower case.

    Returns:
        sRGB and alpha in 0 … 1; None where the text is no such colour.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    body, _, last = match[2].partition("/")
    words, space = body.split(), match[1]
    if space == "color":
        space, *words = words or [""]
    alpha = _numbers([last.strip() or "1"], [1.0])
    wholes = {"oklab": (1.0, 0.4, 0.4), "oklch": (1.0, 0.4, 360.0)}.get(space, (1.0, 1.0, 1.0))
    numbers = _numbers(words, wholes) if len(words) == 3 else None
    if numbers is None or alpha is None:
        return None
    if space == "srgb":
        linear = [_linear(v) for v in numbers]
    elif space == "srgb-linear":
        linear = numbers
    elif space == "display-p3":
        linear = _times(_FROM_P3, [_linear(v) for v in numbers])
    elif space in ("oklab", "oklch"):
        if space == "oklch":
            lightness, chroma, hue = numbers
            turn = math.radians(hue)
            numbers = [lightness, chroma * math.cos(turn), chroma * math.sin(turn)]
        linear = _times(_FROM_CONES, [v**3 for v in _times(_FROM_OKLAB, numbers)])
    else:
        return None
    red, green, blue = (_encoded(v) for v in linear)
    return red, green, blue, min(max(alpha[0], 0.0), 1.0)
