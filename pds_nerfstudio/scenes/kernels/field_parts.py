"""What the fused kernels of nerfacto's fields share.

Importing this needs Triton (see `hash_grid_triton`).
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.spatial_distortions import SceneContraction
from torch import nn


@triton.jit
def contract(x, y, z):
    """Map all of space into the unit cube; return also whether a point lies inside, and 0 for a point that does not.

    First into the cube from -2 to 2 (mip-NeRF 360, equation 10, with the largest coordinate as the norm).
    """
    size = tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.abs(z))
    shrink = tl.where(size < 1, 1.0, (2 - 1 / size) / size)
    x, y, z = (x * shrink + 2) / 4, (y * shrink + 2) / 4, (z * shrink + 2) / 4
    known = (x > 0) & (x < 1) & (y > 0) & (y < 1) & (z > 0) & (z < 1)
    return tl.where(known, x, 0.0), tl.where(known, y, 0.0), tl.where(known, z, 0.0), known


def is_contracted(field: Any) -> bool:
    """Return whether a field sees space through that contraction."""
    distortion = getattr(field, "spatial_distortion", None)
    return isinstance(distortion, SceneContraction) and distortion.order == math.inf


def has_pairs(encoding: HashEncoding) -> bool:
    """Return whether `hash_grid_triton.pair_of_features` reads an encoding's table."""
    return encoding.tcnn_encoding is None and encoding.features_per_level == 2


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers in a module, in the order in which they are applied."""
    return [part for part in module.modules() if isinstance(part, nn.Linear)]
