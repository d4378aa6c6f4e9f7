"""Gaussian blurs with any covariance, exact but for their reach of four standard deviations."""

import math

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

REACH = 4.0
"""How far a blur reaches, in standard deviations: all but 6e-5 of its weight lies within."""
_SMALLEST = 0.05
"""Standard deviation in pixels that leaves a picture as it is."""
_MAX_RADIUS = 100_000
_STRAIGHT = 1e-6

Covariance = tuple[float, float, float]
"""Variance along x, covariance, and variance along y, in square pixels."""


def covariance(x: float, y: float, to_canvas: tuple[float, float, float, float]) -> Covariance:
    """Return the covariance on the canvas of a blur.

    Args:
        x: Its standard deviation along x, in its own units.
        y: The same along y.
        to_canvas: a, b, c and d of the map from its units to pixels.
    """
    a, b, c, d = to_canvas
    return (a * x) ** 2 + (c * y) ** 2, a * b * x * x + c * d * y * y, (b * x) ** 2 + (d * y) ** 2


def _axis(variance: float, most: int, like: Tensor) -> Float[Tensor, " n"]:
    """Return the weights at whole pixels from −n to n, as far as they count."""
    deviation = max(math.sqrt(variance), _SMALLEST)
    radius = min(math.ceil(REACH * deviation), _MAX_RADIUS)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (x / deviation) ** 2)
    kept = min(radius, most)
    return (weights / weights.sum())[radius - kept : radius + kept + 1].to(like)


def _kernel(blur: Covariance, width: int, height: int, like: Tensor) -> Float[Tensor, "j i"]:
    """Return the weights of a blur around the middle pixel, as far as a picture of some size has use for them."""
    xx, xy, yy = blur
    if xy * xy <= _STRAIGHT * max(xx * yy, _STRAIGHT**2):
        return torch.outer(_axis(yy, height - 1, like), _axis(xx, width - 1, like))
    # one that is turned must not be thinner than pixels can show
    xx, yy = xx + _SMALLEST, yy + _SMALLEST
    rows, columns = (min(math.ceil(REACH * math.sqrt(v)), side - 1) for v, side in ((yy, height), (xx, width)))
    y = torch.arange(-rows, rows + 1, dtype=torch.float64)[:, None]
    x = torch.arange(-columns, columns + 1, dtype=torch.float64)
    area = xx * yy - xy * xy
    weights = torch.exp(-0.5 * (yy * x * x - 2 * xy * x * y + xx * y * y) / area)
    return (weights / (2 * math.pi * math.sqrt(area))).to(like)


def gaussian_blur(picture: Float[Tensor, "c h w"], blur: Covariance) -> Float[Tensor, "c h w"]:
    """Return a picture blurred, with nothing around it, in the Fourier domain.

    Args:
        picture: The picture.
        blur: The covariance of the Gaussian; see `covariance`.
    """
    height, width = picture.shape[1:]
    kernel = _kernel(blur, width, height, picture)
    rows, columns = (side // 2 for side in kernel.shape)
    size = (next_fast_len(height + rows, real=True), next_fast_len(width + columns, real=True))
    centred = torch.nn.functional.pad(kernel, (0, size[1] - kernel.shape[1], 0, size[0] - kernel.shape[0]))
    centred = centred.roll((-rows, -columns), (0, 1))
    spectrum = torch.fft.rfft2(picture, s=size) * torch.fft.rfft2(centred)
    return torch.fft.irfft2(spectrum, s=size)[:, :height, :width]
