"""How far two pictures look apart, and what of that counts when paths are chosen."""

import torch
from jaxtyping import Float
from torch import Tensor

NOTICED = 6.0
"""Colour difference in `color_distance`'s units that is half way between the same and another colour."""

_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def oklab(color: Float[Tensor, "3 *pixels"]) -> Float[Tensor, "3 *pixels"]:
    """Return sRGB colours in 0..1 in the space Oklab (Ottosson 2020), lightness 0..1 first."""
    color = color.clamp(0, 1)
    linear = torch.where(color > 0.04045, ((color + 0.055) / 1.055) ** 2.4, color / 12.92)
    cones = torch.einsum("ij,j...->i...", linear.new_tensor(_TO_CONES), linear).clamp(min=1e-9) ** (1 / 3)
    return torch.einsum("ij,j...->i...", linear.new_tensor(_TO_LAB), cones)


def color_distance(a: Float[Tensor, "3 *#pixels"], b: Float[Tensor, "3 *#pixels"]) -> Float[Tensor, "*pixels"]:
    """Return how differently two sRGB colours look: their distance in Oklab, where black to white is 100."""
    return 100 * (oklab(a) - oklab(b)).norm(dim=0)


def unlike(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    """Return for each pixel how certainly it shows another colour, 0..1 (Geman and McClure 1987).

    Unlike a square, it does not reward what is only less wrong: skin where a hat should be is as wrong as paper.
    """
    square = color_distance(a, b).square()
    return square / (square + NOTICED**2)


def decibels(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Return the peak signal-to-noise ratio of two pictures in 0..1, at most 100."""
    return float(-10 * (a - b).square().mean().clamp(min=1e-10).log10())
