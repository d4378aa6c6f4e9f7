"""The seam between the edit and whatever draws it."""

import importlib.util
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters


class Renderer(Protocol):
    """Draws one scene again and again, differentiably; `rasterizer.Rasterizer` is one."""

    def render(
        self,
        parameters: SceneParameters,
        width: int,
        height: int,
        view: Affine,
        background: Float[Tensor, "3 h w"],
    ) -> Float[Tensor, "3 h w"]:
        """The scene over an opaque background, sRGB in 0 … 1; for the arguments see `Rasterizer.render`."""


Backend = Callable[[Scene], Renderer]
"""Makes a renderer for a scene. One that lacks a feature of the scene raises a UserError that names it."""


def exact(scene: Scene) -> Renderer:
    """This package's own rasteriser, in the form that is fastest here.

    That is `tiled.TiledRasterizer` where there are an NVIDIA GPU and Triton, which still leaves numbers on the CPU to
    PyTorch, and `rasterizer.Rasterizer` elsewhere. Both draw the same.
    """
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
        from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

        return TiledRasterizer(scene)
    return Rasterizer(scene)
