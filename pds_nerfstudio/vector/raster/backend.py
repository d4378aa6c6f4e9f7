"""The interface between the edit and whatever draws it."""

import importlib.util
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters


@runtime_checkable
class Renderer(Protocol):
    """What draws one scene again and again, differentiably; for example `rasterizer.Rasterizer`."""

    def render(
        self,
        parameters: SceneParameters,
        width: int,
        height: int,
        view: Affine,
        background: Float[Tensor, "3 h w"],
    ) -> Float[Tensor, "3 h w"]:
        """Return the scene over an opaque background, sRGB in 0 … 1; see `Rasterizer.render` for the arguments."""


Backend = Callable[[Scene], Renderer]
"""Makes a renderer for a scene. One that lacks a feature of the scene raises a UserError that names it."""


def exact(scene: Scene) -> Renderer:
    """Return this package's own rasteriser, in the form that is fastest here.

    That is `triton.rasterizer.TiledRasterizer` with an NVIDIA GPU and Triton, and `rasterizer.Rasterizer` elsewhere.
    Both draw the same. The first one leaves numbers that are on the CPU to the second.
    """
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
        from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

        return TiledRasterizer(scene)
    return Rasterizer(scene)
