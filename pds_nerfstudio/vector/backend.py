"""The seam between the edit and whatever draws it."""

from collections.abc import Callable
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.affine import Affine
from pds_nerfstudio.vector.scene import Scene, SceneParameters


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
