"""Transform lists and their origin, in the grammar of SVG and in that of CSS (CSS Transforms 1)."""

import math
import re

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.svg.numbers import MAX_NUMBER, NUMBER, Viewport

_FUNCTION = re.compile(r"[\s,]*([A-Za-z]\w*)\s*\(([^()]*)\)")
_ARGUMENT = re.compile(rf"[\s,]*({NUMBER.pattern})(%|[A-Za-z]+)?")
_DEGREES = {"": 1.0, "deg": 1.0, "grad": 0.9, "rad": 180 / math.pi, "turn": 360.0}
_COUNTS = {
    "matrix": (6,), "translate": (1, 2), "translatex": (1,), "translatey": (1,), "scale": (1, 2), "scalex": (1,),
    "scaley": (1,), "rotate": (1, 3), "skew": (1, 2), "skewx": (1,), "skewy": (1,),
}  # fmt: skip
"""How many arguments each function takes."""
_SIDES = {"left": 0.0, "top": 0.0, "center": 0.5, "right": 1.0, "bottom": 1.0}

_UNIT_BOX = Viewport(1.0, 1.0)


def _rotation(degrees: float) -> Affine:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos, sin, -sin, cos, 0.0, 0.0


def _slope(degrees: float) -> float:
    """Return a tangent; that of a right angle is as large as numbers may be."""
    return min(max(math.tan(math.radians(degrees)), -MAX_NUMBER), MAX_NUMBER)


def _values(name: str, text: str, view: Viewport) -> list[float] | None:
    """Return the arguments of a function, lengths in user units and angles in degrees; None if one is no such thing."""
    values: list[float] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _ARGUMENT.match(text, position)
        if match is None:
            return None
        number, unit, index = float(match[1]), (match[2] or "").lower(), len(values)
        vertical = name == "translatey" or (name == "translate" and index == 1)
        if name.startswith("translate") or (name == "rotate" and index > 0):
            length = view.length(match[1] + unit, view.height if vertical else view.width)
            if length is None:
                return None
            number = length
        elif name.startswith(("rotate", "skew")):
            if unit not in _DEGREES:
                return None
            number *= _DEGREES[unit]
        elif name.startswith("scale") and unit == "%":
            number /= 100
        elif unit:
            return None
        values.append(number)
        position = match.end()
    return values if len(values) in _COUNTS[name] and all(abs(v) <= MAX_NUMBER for v in values) else None


def _single(name: str, n: list[float]) -> Affine:
    if name == "matrix":
        a, b, c, d, e, f = n
        return a, b, c, d, e, f
    if name.startswith("translate"):
        return affine.translation(0.0, n[0]) if name == "translatey" else affine.translation(n[0], (*n, 0.0)[1])
    if name.startswith("scale"):
        return affine.scaling(1.0 if name == "scaley" else n[0], 1.0 if name == "scalex" else n[-1])
    if name == "rotate":
        turn = _rotation(n[0])
        return turn if len(n) == 1 else about(turn, n[1], n[2])
    x, y = (0.0, n[0]) if name == "skewy" else (n[0], (*n, 0.0)[1])
    return (1.0, _slope(y), _slope(x), 1.0, 0.0, 0.0)


def about(transform: Affine, x: float, y: float) -> Affine:
    """Return a map as it is with its origin at (x, y)."""
    return affine.compose(affine.compose(affine.translation(x, y), transform), affine.translation(-x, -y))


def read_transform(text: str | None, view: Viewport = _UNIT_BOX) -> Affine | None:
    """Read a transform list.

    Args:
        text: The list. Lengths and angles may have units or none.
        view: What percentages and em refer to.

    Returns:
        None where it is no such list.
    """
    result = IDENTITY
    if not text or text == "none":
        return result
    position, end = 0, len(text.rstrip(" ,\t\r\n"))
    while position < end:
        match = _FUNCTION.match(text, position)
        if match is None:
            return None
        name = match[1].lower()
        values = _values(name, match[2], view) if name in _COUNTS else None
        if values is None:
            return None
        result = affine.compose(result, _single(name, values))
        position = match.end()
    return result if all(abs(v) <= MAX_NUMBER for v in result) else None


def parse_transform(text: str | None, view: Viewport = _UNIT_BOX) -> Affine:
    """Read a transform list; an invalid one counts as none, as SVG asks for."""
    return read_transform(text, view) or IDENTITY


def parse_origin(text: str | None, view: Viewport) -> tuple[float, float] | None:
    """Read a transform-origin within the reference box whose corner is at (0, 0).

    Args:
        text: One to three of lengths, percentages and keywords; the third, a depth, has no effect on a plane.
        view: Has the size of the box.

    Returns:
        None where it is no such thing.
    """
    words = (text or "0 0").lower().split()
    if not 1 <= len(words) <= 3:
        return None
    if len(words) == 1:
        words = ["center", *words] if words[0] in ("top", "bottom") else [*words, "center"]
    if words[0] in ("top", "bottom") or words[1] in ("left", "right"):
        words = [words[1], words[0], *words[2:]]
    x, y = (
        _SIDES[word] * side if word in _SIDES else view.length(word, side)
        for word, side in zip(words, (view.width, view.height), strict=False)
    )
    misplaced = words[0] in ("top", "bottom") or words[1] in ("left", "right")
    return None if x is None or y is None or misplaced else (x, y)
