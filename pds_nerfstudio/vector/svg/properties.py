"""The properties that are read: which of them inherit, and which values they can have (CSS Syntax 3, SVG 2).

A value that a property cannot have is dropped, as CSS asks for, so that the one before it counts.
"""

from collections.abc import Callable
from functools import lru_cache

from pds_nerfstudio.vector.raster.filter_graph import BLEND_MODES
from pds_nerfstudio.vector.svg.color import parse_color
from pds_nerfstudio.vector.svg.numbers import Viewport, parse_length, parse_number
from pds_nerfstudio.vector.svg.transforms import parse_origin, read_transform
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.wide_gamut import is_wide

WIDE_KEYWORDS = frozenset(("inherit", "initial", "unset", "revert", "revert-layer"))
"""Values that every property can have."""

_Reader = Callable[[str, str], str | None]
"""From a value and the same in lower case to the value in its plain form, or None."""


def _one_of(words: str) -> _Reader:
    known = frozenset(words.split())
    return lambda value, lowered: lowered if lowered in known else None


def _any(value: str, lowered: str) -> str | None:
    return lowered if lowered == "none" else value


def _color(value: str, lowered: str) -> str | None:
    # a colour profile may follow the colour
    plain = lowered.split("icc-color")[0].strip()
    return plain if plain == "currentcolor" or parse_color(plain) is not None else None


def _paint(value: str, lowered: str) -> str | None:
    if lowered in ("none", "context-fill", "context-stroke"):
        return lowered
    url = parse_url(value)
    if url is None:
        return _color(value, lowered)
    return value if not url[1] or _paint(url[1], url[1].lower()) is not None else None


def _reference(value: str, lowered: str) -> str | None:
    if lowered == "none":
        return lowered
    return value if (url := parse_url(value)) is not None and not url[1] else None


def _length(value: str, lowered: str) -> str | None:
    return lowered if parse_length(lowered, 1.0) is not None else None


def _length_or_auto(value: str, lowered: str) -> str | None:
    return lowered if lowered == "auto" else _length(value, lowered)


def _number(value: str, lowered: str) -> str | None:
    return lowered if parse_number(lowered) is not None else None


def _dashes(value: str, lowered: str) -> str | None:
    lengths = lowered.replace(",", " ").split()
    readable = lowered == "none" or all(parse_length(part, 1.0) is not None for part in lengths)
    return lowered if readable else None


_FONT_SIZES = {
    "xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0, "xx-large": 32.0,
    "xxx-large": 48.0,
}  # fmt: skip


def font_size(value: str, parent: float, root: float) -> float | None:
    """Return a font size in user units.

    Args:
        value: In lower case.
        parent: The parent's.
        root: The outermost element's.
    """
    if value in ("larger", "smaller"):
        return parent * (1.2 if value == "larger" else 1 / 1.2)
    size = _FONT_SIZES.get(value, parse_length(value, parent, parent, root))
    return size if size is not None and size >= 0 else None


def _font_size(value: str, lowered: str) -> str | None:
    return lowered if font_size(lowered, 1.0, 1.0) is not None else None


def _transform(value: str, lowered: str) -> str | None:
    return lowered if read_transform(lowered) is not None else None


def _origin(value: str, lowered: str) -> str | None:
    return lowered if parse_origin(lowered, Viewport(1.0, 1.0)) is not None else None


def _path(value: str, lowered: str) -> str | None:
    if lowered == "none":
        return lowered
    inside = value[5:-1].strip() if lowered.startswith("path(") and value.endswith(")") else ""
    return inside[1:-1] if len(inside) > 1 and inside[0] in "\"'" and inside[-1] == inside[0] else None


_PAINT_ORDER = frozenset(("normal", "fill", "stroke", "markers"))
_TEXT = (
    "direction", "dominant-baseline", "font-family", "font-stretch", "font-style", "font-variant", "font-weight",
    "image-rendering", "letter-spacing", "text-anchor", "text-rendering", "word-spacing", "writing-mode",
)  # fmt: skip
"""Properties of text and pictures, which are handed on as they are."""
_INHERITED: dict[str, _Reader] = {
    "clip-rule": _one_of("nonzero evenodd"),
    "color": _color,
    "color-interpolation": _one_of("auto srgb linearrgb"),
    "color-interpolation-filters": _one_of("auto srgb linearrgb"),
    "fill": _paint,
    "fill-opacity": _length,
    "fill-rule": _one_of("nonzero evenodd"),
    "font-size": _font_size,
    "marker": _reference,
    "marker-end": _reference,
    "marker-mid": _reference,
    "marker-start": _reference,
    "paint-order": lambda value, lowered: lowered if set(lowered.split()) <= _PAINT_ORDER else None,
    **dict.fromkeys(_TEXT, _any),
    "stroke": _paint,
    "stroke-dasharray": _dashes,
    "stroke-dashoffset": _length,
    "stroke-linecap": _one_of("butt round square"),
    "stroke-linejoin": _one_of("miter miter-clip round bevel arcs"),
    "stroke-miterlimit": _number,
    "stroke-opacity": _length,
    "stroke-width": _length,
    "visibility": _one_of("visible hidden collapse"),
}
_OWN: dict[str, _Reader] = {
    "clip-path": _reference,
    "display": lambda value, lowered: lowered,
    "filter": _any,
    "flood-color": _color,
    "flood-opacity": _length,
    "mask": _any,
    "mask-type": _one_of("luminance alpha"),
    "opacity": _length,
    "overflow": lambda value, lowered: lowered,
    "stop-color": _color,
    "stop-opacity": _length,
    "transform": _transform,
    "transform-box": _one_of("content-box border-box fill-box stroke-box view-box"),
    "transform-origin": _origin,
    "vector-effect": lambda value, lowered: lowered,
}
_STYLE_ONLY: dict[str, _Reader] = {
    "background-color": _color,
    "isolation": _one_of("auto isolate"),
    "mix-blend-mode": _one_of(" ".join(BLEND_MODES)),
    "rotate": _any,
    "scale": _any,
    "translate": _any,
}
_GEOMETRY: dict[str, _Reader] = {
    **dict.fromkeys(("cx", "cy", "r", "x", "y"), _length),
    **dict.fromkeys(("width", "height", "rx", "ry"), _length_or_auto),
    "d": _path,
}
_READERS = {**_INHERITED, **_OWN, **_STYLE_ONLY, **_GEOMETRY}

INHERITED = frozenset(_INHERITED)
"""Properties that an element has from its parent."""
ATTRIBUTES = frozenset((*_INHERITED, *_OWN)) - {"marker"}
"""Properties that an attribute of the same name gives as well."""
GEOMETRY_PROPERTIES = frozenset(_GEOMETRY)
"""Attributes of shapes that style sheets override."""


def is_property(name: str) -> bool:
    """Tell whether a property is read, or holds a value for var()."""
    return name in _READERS or name.startswith("--")


@lru_cache(maxsize=4096)
def read_value(name: str, value: str) -> str | None:
    """Return a property's value in its plain form, keywords in lower case; None where it cannot have that value."""
    if name.startswith("--"):
        return value
    lowered = value.lower()
    return lowered if lowered in WIDE_KEYWORDS else _READERS[name](value, lowered)


def stands_back(name: str, value: str) -> bool:
    """Tell whether a value counts only where the element has no other.

    Drawings are in sRGB. Authors give a colour of a wider gamut beside one in sRGB for whatever draws in that.
    """
    return name in ("fill", "stroke", "color", "stop-color", "background-color") and is_wide(value)


def expand_shorthand(name: str, value: str) -> list[tuple[str, str]]:
    """Return what of a shorthand is read: of `font` and of the colour of `background`; anything else as it is."""
    words = value.replace("/", " / ").split()
    if name == "font":
        return _font(words) or [(name, value)]
    if name == "background":
        plain = [value, *words] if "(" not in value or read_value("background-color", value) else [value]
        color = next((word for word in plain if read_value("background-color", word)), None)
        if color is None and value.lower() == "none":
            color = "transparent"
        return [("background-color", color or value)]
    return [(name, value)]


def _font(words: list[str]) -> list[tuple[str, str]]:
    """Return size, family, style and weight of a font; nothing where it has no size."""
    # a plain number is a weight or a height of lines
    lengths = [parse_number(word) is None and font_size(word.lower(), 1.0, 1.0) is not None for word in words]
    if True not in lengths:
        return []
    at = lengths.index(True)
    family = " ".join(words[at + 1 :] if words[at + 1 : at + 2] != ["/"] else words[at + 3 :])
    found = {"font-style": "normal", "font-weight": "normal"}
    for word in (word.lower() for word in words[:at]):
        if word in ("italic", "oblique"):
            found["font-style"] = word
        elif word in ("bold", "bolder", "lighter") or word.isdigit():
            found["font-weight"] = word
    return [("font-size", words[at]), *([("font-family", family)] if family else []), *found.items()]
