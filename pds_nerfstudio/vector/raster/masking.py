"""What of a picture a mask lets through (CSS Masking 1, section 6.2)."""

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster.blending import Rgba, plain_colors
from pds_nerfstudio.vector.raster.linear_light import to_linear

LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Shares of red, green and blue in how light a colour is."""


def mask_values(picture: Rgba, alpha: bool, linear: bool) -> Float[Tensor, "h w"]:
    """Return for each pixel how much shows, in 0 … 1.

    Args:
        picture: What the mask draws.
        alpha: Whether its opacity counts alone, and not how light it is.
        linear: Whether its light is measured in linear RGB, and not in sRGB.
    """
    if alpha:
        return picture[3]
    colors = to_linear(plain_colors(picture)) * picture[3] if linear else picture[:3]
    return torch.einsum("c,chw->hw", colors.new_tensor(LUMINANCE), colors)
