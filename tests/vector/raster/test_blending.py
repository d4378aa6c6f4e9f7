"""Blend modes against the formulas of Compositing and Blending 1, one pixel after the other."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.blending import MODES, blended
from pds_nerfstudio.vector.raster.filter_graph import BLEND_MODES
from tests.vector.conftest import Check

Rgb = list[float]


def _soft_light(b: float, s: float) -> float:
    if s <= 0.5:
        return b - (1 - 2 * s) * b * (1 - b)
    d = ((16 * b - 12) * b + 4) * b if b <= 0.25 else math.sqrt(b)
    return b + (2 * s - 1) * (d - b)


def _hard_light(b: float, s: float) -> float:
    return 2 * b * s if s <= 0.5 else b + (2 * s - 1) - b * (2 * s - 1)


BY_CHANNEL: dict[str, Callable[[float, float], float]] = {
    "normal": lambda b, s: s,
    "multiply": lambda b, s: b * s,
    "screen": lambda b, s: b + s - b * s,
    "overlay": lambda b, s: _hard_light(s, b),
    "darken": min,
    "lighten": max,
    "color-dodge": lambda b, s: 0 if b == 0 else 1 if s == 1 else min(1, b / (1 - s)),
    "color-burn": lambda b, s: 1 if b == 1 else 0 if s == 0 else 1 - min(1, (1 - b) / s),
    "hard-light": _hard_light,
    "soft-light": _soft_light,
    "difference": lambda b, s: abs(b - s),
    "exclusion": lambda b, s: b + s - 2 * b * s,
}


def _lum(c: Rgb) -> float:
    return 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]


def _sat(c: Rgb) -> float:
    return max(c) - min(c)


def _set_lum(c: Rgb, light: float) -> Rgb:
    c = [x + light - _lum(c) for x in c]
    low, high = min(c), max(c)
    if low < 0:
        c = [light + (x - light) * light / (light - low) for x in c]
    if high > 1:
        c = [light + (x - light) * (1 - light) / (high - light) for x in c]
    return c


def _set_sat(c: Rgb, s: float) -> Rgb:
    low, high = min(c), max(c)
    return [(x - low) * s / (high - low) if high > low else 0.0 for x in c]


BY_COLOR: dict[str, Callable[[Rgb, Rgb], Rgb]] = {
    "hue": lambda b, s: _set_lum(_set_sat(s, _sat(b)), _lum(b)),
    "saturation": lambda b, s: _set_lum(_set_sat(b, _sat(s)), _lum(b)),
    "color": lambda b, s: _set_lum(s, _lum(b)),
    "luminosity": lambda b, s: _set_lum(b, _lum(s)),
}


def _mixed(mode: str, b: Rgb, s: Rgb) -> Rgb:
    if mode in BY_COLOR:
        return BY_COLOR[mode](b, s)
    return [BY_CHANNEL[mode](x, y) for x, y in zip(b, s, strict=True)]


def _slow(mode: str, below: Tensor, above: Tensor) -> Tensor:
    result = torch.empty_like(below)
    for y in range(below.shape[1]):
        for x in range(below.shape[2]):
            (*pb, ab), (*ps, as_) = below[:, y, x].tolist(), above[:, y, x].tolist()
            b = [v / ab if ab else 0.0 for v in pb]
            s = [v / as_ if as_ else 0.0 for v in ps]
            mixed = _mixed(mode, b, s)
            colors = [as_ * (1 - ab) * s[k] + as_ * ab * mixed[k] + (1 - as_) * ab * b[k] for k in range(3)]
            result[:, y, x] = torch.tensor([*colors, as_ + ab - as_ * ab])
    return result


def _picture(seed: int) -> Tensor:
    """A random picture, with some pixels clear, opaque, black and white."""
    picture = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    picture[3, 0], picture[3, 1] = 0, 1
    picture[:3, 2, :2], picture[:3, 3, seed : seed + 2] = 0, 1
    picture[:3] *= picture[3]
    return picture


def test_all_sixteen_are_known() -> None:
    assert set(BLEND_MODES) == {"normal", *MODES} == {*BY_CHANNEL, *BY_COLOR}


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_it_agrees_with_the_formula_pixel_by_pixel(mode: str) -> None:
    below, above = _picture(0), _picture(1)
    assert torch.allclose(blended(mode, below, above), _slow(mode, below, above), atol=1e-9)


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_its_gradient_is_right(mode: str, gradient_error: Check) -> None:
    generator = torch.Generator().manual_seed(3)
    below, above = (torch.rand(4, 3, 4, generator=generator, dtype=torch.float64) * 0.4 + 0.3 for _ in range(2))
    below, above = (torch.cat([p[:3] * p[3:], p[3:]]) for p in (below, above))
    weight = torch.randn(4, 3, 4, generator=generator, dtype=torch.float64)
    both = torch.stack([below, above])
    assert gradient_error(lambda x: (blended(mode, x[0], x[1]) * weight).sum(), both) < 1e-6


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_gradients_are_finite_at_the_ends(mode: str) -> None:
    ends = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).T.reshape(4, 4, 4)
    pictures = torch.stack([ends * ends[3], (ends * ends[3]).flip(2)]).requires_grad_()
    blended(mode, pictures[0], pictures[1]).sum().backward()
    assert pictures.grad is not None and bool(pictures.grad.isfinite().all())
