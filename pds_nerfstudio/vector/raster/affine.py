"""Affine maps as SVG writes them: (a, b, c, d, e, f) sends (x, y) to (ax + cy + e, bx + dy + f)."""

import math
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Affine = tuple[float, float, float, float, float, float]
Number = TypeVar("Number", float, np.ndarray)
"""One number of a map, or that of each of many."""

IDENTITY: Affine = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
MAX_COORDINATE = 1e6
"""Canvas coordinates are held within this, far outside of any picture, so that arithmetic stays finite."""
MAX_SCALE = 1e15
"""The same for the numbers of maps."""


def compose(
    outer: Affine, inner: tuple[Number, Number, Number, Number, Number, Number]
) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Return the map that applies `inner` first and then `outer`; for many maps at once, in columns."""
    a, b, c, d, e, f = outer
    p, q, r, s, t, u = inner
    return (
        a * p + c * q,
        b * p + d * q,
        a * r + c * s,
        b * r + d * s,
        a * t + c * u + e,
        b * t + d * u + f,
    )


def translation(x: float, y: float) -> Affine:
    """Return the map that moves by (x, y)."""
    return (1.0, 0.0, 0.0, 1.0, x, y)


def scaling(x: float, y: float) -> Affine:
    """Return the map that stretches by x and y about the origin."""
    return (x, 0.0, 0.0, y, 0.0, 0.0)


def determinant(matrix: Affine) -> float:
    """Return the signed factor by which areas grow."""
    a, b, c, d, _, _ = matrix
    return a * d - b * c


def mean_scale(matrix: Affine) -> float:
    """Return the factor by which lengths grow on average: the square root of the factor for areas."""
    return math.sqrt(abs(determinant(matrix)))


def largest_scale(matrix: Affine) -> float:
    """Return the factor by which lengths grow at most: the larger singular value."""
    a, b, c, d, _, _ = matrix
    return 0.5 * (math.hypot(a + d, b - c) + math.hypot(a - d, b + c))


def apply(matrix: Affine, x: float, y: float) -> tuple[float, float]:
    """Return the image of one point."""
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def inverse(maps: Float[Tensor, "*maps 6"]) -> Float[Tensor, "*maps 6"]:
    """Return the inverse of maps, in their precision; a singular one is treated as if it were tiny."""
    a, b, c, d, e, f = maps.unbind(-1)
    area = a * d - b * c
    area = torch.where(area.abs() > 1e-30, area, 1e-30)
    a, b, c, d = d / area, -b / area, -c / area, a / area
    return torch.stack([a, b, c, d, -(a * e + c * f), -(b * e + d * f)], -1)
