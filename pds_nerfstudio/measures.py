"""How far one picture is from another: the PSNR, which all parts of this package share."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def psnr(
    image: Float[Tensor, "*batch a b c"], reference: Float[Tensor, "*batch a b c"], most: float = math.inf
) -> Float[Tensor, "*batch"]:
    """Return the peak signal-to-noise ratio of each picture in dB: −10·log₁₀ of the mean square error.

    The last three dimensions are a picture's, with its channels first or last; those before them, if any, are a batch.

    Args:
        image: To judge, in 0..1.
        reference: What it is compared with, in 0..1.
        most: As in `decibels`.
    """
    return decibels((image - reference).square().mean((-3, -2, -1)), most)


def decibels(error: Float[Tensor, "*batch"], most: float = math.inf) -> Float[Tensor, "*batch"]:
    """Return mean square errors of pictures in 0..1 as dB. An error of 0 gives infinity, NaN gives NaN.

    Args:
        error: Averaged over pixels and channels, or over as many of them as count.
        most: No result is larger. Give a number where the result is written to a file, which may not hold infinity.
    """
    return -10 * error.clamp(min=10 ** (-most / 10)).log10()
