"""How colours mix: blend modes (Compositing and Blending 1, section 9), and colours without their alpha."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Color = Float[Tensor, "3 h w"]
Rgba = Float[Tensor, "4 h w"]
"""Premultiplied colour and alpha in 0 … 1."""
_Mode = Callable[[Tensor, Tensor], Tensor]

_TINY = 1e-6
"""Alpha below which there is no colour."""
_SLACK = 1e-4
"""How far beyond 0 and 1 rounding may take a value, which must not cost it its gradient."""


def held(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return values held in 0 … 1, but for what rounding takes beyond that."""
    return values.clamp(-_SLACK, 1 + _SLACK)


def plain_colors(picture: Rgba) -> Color:
    """Return the colours of a premultiplied picture, in 0 … 1; black where nothing is."""
    alpha = picture[3:]
    seen = alpha > _TINY
    return held(torch.where(seen, picture[:3] / torch.where(seen, alpha, 1), 0))


def premultiplied(colors: Color, alpha: Float[Tensor, "1 h w"]) -> Rgba:
    """Return a picture of colours and their alpha."""
    return torch.cat([colors * alpha, alpha])


def over(below: Rgba, above: Rgba) -> Rgba:
    """Return one picture over another."""
    return above + below * (1 - above[3:])


def _quotient(over: Tensor, under: Tensor) -> Tensor:
    """Return min(1, over / under), and 1 for division by 0, with a gradient that is finite."""
    whole = over >= under
    return torch.where(whole, 1, over / torch.where(whole, 1, under))


def _hard_light(below: Tensor, above: Tensor) -> Tensor:
    return torch.where(above <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above))


def _color_dodge(below: Tensor, above: Tensor) -> Tensor:
    return torch.where(below <= 0, 0, _quotient(below, 1 - above))


def _color_burn(below: Tensor, above: Tensor) -> Tensor:
    return torch.where(below >= 1, 1, 1 - _quotient(1 - below, above))


def _soft_light(below: Tensor, above: Tensor) -> Tensor:
    dark = ((16 * below - 12) * below + 4) * below
    light = torch.where(below <= 0.25, dark, below.clamp(min=0.25).sqrt())
    darker = below - (1 - 2 * above) * below * (1 - below)
    return torch.where(above <= 0.5, darker, below + (2 * above - 1) * (light - below))


def _luminosity(color: Tensor) -> Tensor:
    red, green, blue = color
    return 0.3 * red + 0.59 * green + 0.11 * blue


def _saturation(color: Tensor) -> Tensor:
    return color.amax(0) - color.amin(0)


def _with_luminosity(color: Tensor, light: Tensor) -> Tensor:
    """Return a colour made as light as given, and then drawn towards grey until it is in 0 … 1."""
    color = color + (light - _luminosity(color))
    lowest, highest = color.amin(0), color.amax(0)
    down = torch.where(lowest < 0, light / (light - lowest).clamp(min=1e-9), 1)
    color = light + (color - light) * down
    up = torch.where(highest > 1, (1 - light) / (highest - light).clamp(min=1e-9), 1)
    return light + (color - light) * up


def _with_saturation(color: Tensor, saturation: Tensor) -> Tensor:
    lowest, span = color.amin(0), _saturation(color)
    return torch.where(span > 0, (color - lowest) * saturation / torch.where(span > 0, span, 1), 0)


MODES: dict[str, _Mode] = {
    "multiply": lambda below, above: below * above,
    "screen": lambda below, above: below + above - below * above,
    "overlay": lambda below, above: _hard_light(above, below),
    "darken": torch.minimum,
    "lighten": torch.maximum,
    "color-dodge": _color_dodge,
    "color-burn": _color_burn,
    "hard-light": _hard_light,
    "soft-light": _soft_light,
    "difference": lambda below, above: (below - above).abs(),
    "exclusion": lambda below, above: below + above - 2 * below * above,
    "hue": lambda below, above: _with_luminosity(_with_saturation(above, _saturation(below)), _luminosity(below)),
    "saturation": lambda below, above: _with_luminosity(
        _with_saturation(below, _saturation(above)), _luminosity(below)
    ),
    "color": lambda below, above: _with_luminosity(above, _luminosity(below)),
    "luminosity": lambda below, above: _with_luminosity(below, _luminosity(above)),
}
"""From the colours below and above to the mixed one, by name. "normal" is not among them: it is `over`."""


def blended(mode: str, below: Rgba, above: Rgba) -> Rgba:
    """Return one picture over another, mixed by a blend mode.

    Args:
        mode: "normal", or a name in `MODES`.
        below: The backdrop.
        above: The source.
    """
    if mode == "normal":
        return over(below, above)
    mixed = MODES[mode](plain_colors(below), plain_colors(above))
    both = below[3:] * above[3:]
    color = above[:3] * (1 - below[3:]) + below[:3] * (1 - above[3:]) + both * mixed
    return torch.cat([color, above[3:] + below[3:] - both])
