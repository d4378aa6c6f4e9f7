"""CSS colours (CSS Color 4), as sRGB."""

import colorsys
import re

from pds_nerfstudio.vector.svg.wide_gamut import parse_wide

_NAMES = """
aliceblue f0f8ff antiquewhite faebd7 aqua 00ffff aquamarine 7fffd4 azure f0ffff beige f5f5dc bisque ffe4c4
black 000000 blanchedalmond ffebcd blue 0000ff blueviolet 8a2be2 brown a52a2a burlywood deb887 cadetblue
5f9ea0 chartreuse 7fff00 chocolate d2691e coral ff7f50 cornflowerblue 6495ed cornsilk fff8dc crimson dc143c
cyan 00ffff darkblue 00008b darkcyan 008b8b darkgoldenrod b8860b darkgray a9a9a9 darkgreen 006400 darkgrey
a9a9a9 darkkhaki bdb76b darkmagenta 8b008b darkolivegreen 556b2f darkorange ff8c00 darkorchid 9932cc darkred
8b0000 darksalmon e9967a darkseagreen 8fbc8f darkslateblue 483d8b darkslategray 2f4f4f darkslategrey 2f4f4f
darkturquoise 00ced1 darkviolet 9400d3 deeppink ff1493 deepskyblue 00bfff dimgray 696969 dimgrey 696969
dodgerblue 1e90ff firebrick b22222 floralwhite fffaf0 forestgreen 228b22 fuchsia ff00ff gainsboro dcdcdc
ghostwhite f8f8ff gold ffd700 goldenrod daa520 gray 808080 green 008000 greenyellow adff2f grey 808080
honeydew f0fff0 hotpink ff69b4 indianred cd5c5c indigo 4b0082 ivory fffff0 khaki f0e68c lavender e6e6fa
lavenderblush fff0f5 lawngreen 7cfc00 lemonchiffon fffacd lightblue add8e6 lightcoral f08080 lightcyan e0ffff
lightgoldenrodyellow fafad2 lightgray d3d3d3 lightgreen 90ee90 lightgrey d3d3d3 lightpink ffb6c1 lightsalmon
ffa07a lightseagreen 20b2aa lightskyblue 87cefa lightslategray 778899 lightslategrey 778899 lightsteelblue
b0c4de lightyellow ffffe0 lime 00ff00 limegreen 32cd32 linen faf0e6 magenta ff00ff maroon 800000
mediumaquamarine 66cdaa mediumblue 0000cd mediumorchid ba55d3 mediumpurple 9370db mediumseagreen 3cb371
mediumslateblue 7b68ee mediumspringgreen 00fa9a mediumturquoise 48d1cc mediumvioletred c71585 midnightblue
191970 mintcream f5fffa mistyrose ffe4e1 moccasin ffe4b5 navajowhite ffdead navy 000080 oldlace fdf5e6 olive
808000 olivedrab 6b8e23 orange ffa500 orangered ff4500 orchid da70d6 palegoldenrod eee8aa palegreen 98fb98
paleturquoise afeeee palevioletred db7093 papayawhip ffefd5 peachpuff ffdab9 peru cd853f pink ffc0cb plum
dda0dd powderblue b0e0e6 purple 800080 rebeccapurple 663399 red ff0000 rosybrown bc8f8f royalblue 4169e1
saddlebrown 8b4513 salmon fa8072 sandybrown f4a460 seagreen 2e8b57 seashell fff5ee sienna a0522d silver c0c0c0
skyblue 87ceeb slateblue 6a5acd slategray 708090 slategrey 708090 snow fffafa springgreen 00ff7f steelblue
4682b4 tan d2b48c teal 008080 thistle d8bfd8 tomato ff6347 turquoise 40e0d0 violet ee82ee wheat f5deb3 white
ffffff whitesmoke f5f5f5 yellow ffff00 yellowgreen 9acd32
""".split()
NAMED: dict[str, str] = dict(zip(_NAMES[::2], _NAMES[1::2], strict=True))
"""Hexadecimal digits of the named colours."""

Rgba = tuple[float, float, float, float]
"""sRGB and alpha in 0 … 1."""

_FUNCTION = re.compile(r"(rgba?|hsla?|hwb)\(([^()]*)\)")
_ANGLE = {"deg": 1.0, "grad": 0.9, "rad": 57.29577951308232, "turn": 360.0, "": 1.0}
_COMPONENT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%|deg|grad|rad|turn)?")


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _hex(digits: str) -> Rgba | None:
    if len(digits) in (3, 4):
        digits = "".join(2 * d for d in digits)
    if len(digits) not in (6, 8) or not re.fullmatch("[0-9a-f]+", digits):
        return None
    values = [int(digits[i : i + 2], 16) / 255 for i in range(0, len(digits), 2)]
    red, green, blue, alpha = (*values, 1.0)[:4]
    return red, green, blue, alpha


def _fraction(component: tuple[float, str], whole: float) -> float:
    number, unit = component
    return _unit(number / 100 if unit == "%" else number / whole)


def _function(name: str, arguments: str) -> Rgba | None:
    parts = re.split(r"[\s,/]+", arguments.strip())
    matches = [_COMPONENT.fullmatch("0" if part == "none" else part) for part in parts]
    if len(parts) not in (3, 4):
        return None
    values = []
    for match in matches:
        if match is None:
            return None
        values.append((float(match[1]), match[2] or ""))
    alpha = _fraction(values[3], 1) if len(values) == 4 else 1.0
    if name.startswith("rgb"):
        red, green, blue = (_fraction(v, 255) for v in values[:3])
        return red, green, blue, alpha
    number, unit = values[0]
    if unit == "%":
        return None
    hue = (number * _ANGLE[unit] / 360) % 1
    second, third = _fraction(values[1], 100), _fraction(values[2], 100)
    if name.startswith("hsl"):
        return *colorsys.hls_to_rgb(hue, third, second), alpha
    white, black = (second, third) if second + third <= 1 else (second / (second + third), third / (second + third))
    red, green, blue = (c * (1 - white - black) + white for c in colorsys.hls_to_rgb(hue, 0.5, 1))
    return red, green, blue, alpha


def parse_color(text: str) -> Rgba | None:
    """Read a colour.

    Args:
        text: A name, "transparent", #rgb, #rgba, #rrggbb, #rrggbbaa, rgb(), rgba(), hsl(), hsla(), hwb(), color() in
            srgb, srgb-linear or display-p3, oklab() or oklch().

    Returns:
        None where the text is no such colour; `currentColor` is for the caller to resolve.
    """
    text = text.strip().lower()
    if text.startswith("#"):
        return _hex(text[1:])
    if text in NAMED:
        return _hex(NAMED[text])
    if text == "transparent":
        return 0.0, 0.0, 0.0, 0.0
    match = _FUNCTION.fullmatch(text)
    return _function(match[1], match[2]) if match else parse_wide(text)


def format_color(red: float, green: float, blue: float, alpha: float = 1.0) -> str:
    """Write a colour as #rrggbb, or as rgba() where alpha is below 1."""
    levels = [round(_unit(c) * 255) for c in (red, green, blue)]
    if alpha >= 1:
        return "#" + "".join(f"{level:02x}" for level in levels)
    return f"rgba({levels[0]}, {levels[1]}, {levels[2]}, {_unit(alpha):.4g})"
