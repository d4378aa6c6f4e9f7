"""A splat seen in other colours than its own."""

from __future__ import annotations

from typing import cast

from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models import splatfacto
from torch import Tensor


def paint(
    gaussians: splatfacto.SplatfactoModel,
    colors: Float[Tensor, "gaussians channels"],
    camera: Cameras,
    height: int,
    width: int,
) -> Float[Tensor, "{height} {width} channels"]:
    """Return a picture of Gaussians in these colours, before black, with gradients on the colours alone.

    It is for where splatfacto can rasterise (see `compat.cpu_splatfacto`).

    Args:
        gaussians: Of the scene.
        colors: Theirs.
        camera: One camera.
        height: Of its picture, in pixels.
        width: Of its picture, in pixels.
    """
    picture, _, _ = splatfacto.rasterization(
        means=gaussians.means.detach(),
        quats=gaussians.quats.detach(),
        scales=gaussians.scales.detach().exp(),
        opacities=gaussians.opacities.detach().sigmoid().squeeze(-1),
        colors=colors,
        viewmats=splatfacto.get_viewmat(camera.camera_to_worlds.to(gaussians.device)),
        Ks=camera.get_intrinsics_matrices().to(gaussians.device),
        width=width,
        height=height,
        packed=False,
        rasterize_mode=gaussians.config.rasterize_mode,
    )
    return cast(Tensor, picture[0])
