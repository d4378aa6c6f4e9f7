"""Gaussian-splat rasteriser in plain PyTorch, for machines where gsplat's CUDA kernels cannot run.

`rasterization` takes the arguments and gives the results of `gsplat.rasterization` (1.4.0, `packed=False`) for what
nerfstudio's splatfacto asks of it. It renders the same image: same projection, same thresholds, same tile footprint.
Three stages, each in a module that can be read alone:

1. `projection` turns 3D Gaussians into 2D ones (EWA splatting, Zwicker et al. 2001), and harmonics into colours.
2. `blocks` lists, for every block of 8 × 8 pixels, the Gaussians that reach it, nearest first.
3. `compositing` blends those lists front to back, by the operations in `blending`. Its shape is what makes it fast.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.splat_rasterizer.blocks import BLOCK, list_blocks
from pds_nerfstudio.splat_rasterizer.compositing import Composite
from pds_nerfstudio.splat_rasterizer.projection import Projection, project, spherical_harmonics

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]


def rasterization(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "*C N D"] | Float[Tensor, "*C N K 3"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    tile_size: int = 16,
    backgrounds: Float[Tensor, "C D"] | None = None,
    render_mode: RenderMode = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
) -> tuple[Float[Tensor, "C H W X"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Render 3D Gaussians from C cameras; a stand-in for `gsplat.rasterization` with `packed=False`.

    Gradients flow to means, quats, scales, opacities, colors, viewmats, Ks and backgrounds. On a CPU the same
    inputs give the same bits, image and gradients alike.

    Args:
        means: Centres in the world, scene units.
        quats: Rotations (w, x, y, z), of any non-zero length.
        scales: Standard deviations along the Gaussians' axes, positive, scene units.
        opacities: Peak opacities, 0 to 1.
        colors: Without `sh_degree`, any D channels for each Gaussian (and camera); with it, K harmonic
            coefficients of three channels, K ≥ (sh_degree + 1)², of which colour − ½ is made.
        viewmats: World to camera; x right, y down, z forward.
        Ks: Intrinsics in pixels; skew is ignored.
        width: Image width in pixels.
        height: Image height in pixels.
        near_plane: Nearest depth that is drawn, scene units.
        far_plane: Farthest depth that is drawn.
        radius_clip: Gaussians whose radius is at most this many pixels are not drawn.
        eps2d: Variance of the screen-space blur, square pixels.
        sh_degree: Degree of the harmonics, 0 to 4; None if `colors` are colours.
        packed: Must be False.
        tile_size: Side of gsplat's tiles, a multiple of 8. It decides where Gaussians are cut off: each is
            drawn on the tiles that its three-sigma square touches, as gsplat does.
        backgrounds: Colour behind the Gaussians; depth channels have 0 there.
        render_mode: What the channels are: RGB the colours, D accumulated depth Σ w z, ED expected depth
            Σ w z / Σ w, or both.
        sparse_grad: No effect, as in gsplat when not packed.
        absgrad: Whether to leave, at `info["means2d"].absgrad` after the backward pass, the sums of the
            absolute values of each pixel's gradient on the 2D means (AbsGS,
            https://arxiv.org/abs/2404.10484). Zeros before.
        rasterize_mode: "antialiased" multiplies opacities by what the blur leaves of the peak (Mip-Splatting,
            https://arxiv.org/abs/2311.16493).

    Returns:
        The rendered channels, the accumulated opacity (0 to 1), and what densification strategies read:
        `means2d` (call `retain_grad()` on it), `radii`, `depths`, `conics`, `opacities`, `width`, `height`,
        `tile_size`, `tile_width`, `tile_height`, `n_cameras`, and None for `camera_ids` and `gaussian_ids`.

    Raises:
        NotImplementedError: If `packed`.
        ValueError: If a mode is unknown, `tile_size` is not a multiple of 8, or the harmonics do not fit.
    """
    if packed:
        raise NotImplementedError("Packed rasterization needs gsplat's CUDA kernels; pass packed=False.")
    _check(render_mode, rasterize_mode, tile_size)
    cameras, count = viewmats.shape[0], means.shape[0]
    view = project(means, quats, scales, viewmats, Ks, width, height, near_plane, far_plane, radius_clip, eps2d)
    visible = opacities.expand(cameras, count)
    if rasterize_mode == "antialiased":
        visible = visible * view.compensations

    channels = []
    if render_mode not in ("D", "ED"):
        if sh_degree is not None:
            eyes = torch.linalg.inv(viewmats)[:, None, :3, 3]
            colors = (spherical_harmonics(sh_degree, means - eyes, colors) + 0.5).clamp(min=0.0)
        channels.append(colors.expand(cameras, count, -1))
    if render_mode != "RGB":
        channels.append(view.depths[..., None])
    features = torch.cat(channels, dim=-1)

    blocks = list_blocks(view.means, view.conics, visible, view.depths, view.radii, width, height, tile_size)
    absolute = torch.zeros_like(view.means) if absgrad else None
    image, alpha = Composite.apply(
        view.means.flatten(0, 1),
        view.conics.flatten(0, 1),
        visible.flatten(),
        features.flatten(0, 1),
        blocks,
        None if absolute is None else absolute.flatten(0, 1),
    )
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha.clamp(min=1e-10)], dim=-1)
    if backgrounds is not None and render_mode not in ("D", "ED"):
        shown = backgrounds[:, None, None, :] * (1.0 - alpha)
        image = image + (shown if render_mode == "RGB" else F.pad(shown, (0, 1)))
    if absolute is not None:
        view.means.absgrad = absolute  # type: ignore[attr-defined]
    return image, alpha, _info(view, visible, width, height, tile_size)


def _check(render_mode: str, rasterize_mode: str, tile_size: int) -> None:
    """Refuse unknown modes and impossible sizes."""
    if render_mode not in get_args(RenderMode):
        raise ValueError(f"Unknown render_mode {render_mode!r}: one of {', '.join(get_args(RenderMode))}.")
    if rasterize_mode not in ("classic", "antialiased"):
        raise ValueError(f"Unknown rasterize_mode {rasterize_mode!r}: classic or antialiased.")
    if tile_size <= 0 or tile_size % BLOCK != 0:
        raise ValueError(f"tile_size must be a positive multiple of {BLOCK}, got {tile_size}.")


def _info(view: Projection, opacities: Float[Tensor, "C N"], width: int, height: int, tile_size: int) -> dict[str, Any]:
    """Return what densification strategies read, by gsplat's names."""
    return {
        "camera_ids": None,
        "gaussian_ids": None,
        "means2d": view.means,
        "radii": view.radii,
        "depths": view.depths,
        "conics": view.conics,
        "opacities": opacities,
        "width": width,
        "height": height,
        "tile_size": tile_size,
        "tile_width": -(-width // tile_size),
        "tile_height": -(-height // tile_size),
        "n_cameras": view.depths.shape[0],
    }
