"""Alpha compositing of listed Gaussians, front to back, with a backward pass written out by hand.

Blocks whose pixels are all opaque drop out before their next segment, and the sums over pixels that the gradients need
are matrix products with the monomials of the pixel position.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.splat_rasterizer.blending import (
    ALPHA_MAX,
    SEGMENT,
    SUMS,
    TRANSMITTANCE_MIN,
    Blend,
    Segment,
    Splats,
    blend_segment,
    colors_of,
    segments_of,
    sums_over_pixels,
)
from pds_nerfstudio.splat_rasterizer.blocks import NEEDLE, Blocks

_SAVED_ELEMENTS = 1 << 26
"""Pairs kept for the backward pass (two numbers each, 512 MiB in all); later ones are blended again there."""


class Composite(torch.autograd.Function):
    """Alpha compositing of listed 2D Gaussians.

    With g the gradient on a pixel, c a Gaussian's colour, w = α·T its weight, the loss changes with α as

        ∂L/∂α_i = (g·c_i) T_i − (Σ_{j behind i} (g·c_j) w_j) / (1 − α_i)

    and ∂α/∂ log opacity = α, ∂α/∂σ = −α. So one number per pixel and Gaussian, h = α ∂L/∂α, gives every
    gradient: sums of h times 1, x, y, x², xy, y² over a block's pixels, which one matrix product takes.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means: Float[Tensor, "M 2"],
        conics: Float[Tensor, "M 3"],
        opacities: Float[Tensor, " M"],
        colors: Float[Tensor, "M D"],
        blocks: Blocks,
        absgrad: Float[Tensor, "M 2"] | None,
    ) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"]]:
        """Return colours and opacities of pixels.

        The arguments are projected Gaussians, their inverse covariances (a, b, c), opacities and colours, listed in
        `blocks`; `absgrad` gets the sums of absolute gradients on the means.
        """
        nobody = means.shape[0]
        shape = torch.cat([means, conics, opacities.log()[:, None]], dim=1)
        shape = torch.cat([shape.t(), shape.new_tensor([0.0, 0.0, 0.0, 0.0, 0.0, -math.inf])[:, None]], dim=1)
        table = F.pad(F.pad(colors, (0, 1), value=1.0), (0, 0, 0, 1))
        a, b, c = conics.unbind(-1)
        needle = a * c - b * b < NEEDLE * torch.finfo(a.dtype).eps * a * c
        guarded = (opacities > ALPHA_MAX - 1e-3) | needle
        splats = Splats(shape, table, guarded=bool(guarded[blocks.members].any()))

        inside = means.new_ones(blocks.cameras, blocks.height, blocks.width, 1)
        transmittance = blocks.from_image(inside)[..., 0]
        picture = means.new_zeros(*transmittance.shape, table.shape[1])
        kept: list[tuple[Segment, Blend | None]] = []
        saved, differentiated = 0, any(ctx.needs_input_grad)
        active, start = (blocks.lengths > 0).nonzero()[:, 0], 0
        while active.shape[0] > 0:
            for segment in segments_of(blocks, active, start, transmittance, nobody):
                blend = blend_segment(splats, blocks, segment)
                picture.index_add_(0, segment.blocks, torch.bmm(blend.weights, colors_of(splats, segment)))
                transmittance[segment.blocks] = blend.after
                saved += blend.weights.numel()
                if differentiated:
                    kept.append((segment, blend if saved <= _SAVED_ELEMENTS else None))
            start += SEGMENT
            unfinished = (transmittance[active] > TRANSMITTANCE_MIN).any(-1)
            active = active[unfinished & (blocks.lengths[active] > start)]
        ctx.splats, ctx.blocks, ctx.kept, ctx.absgrad = splats, blocks, kept, absgrad
        image = blocks.to_image(picture)
        return image[..., :-1].contiguous(), image[..., -1:].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients on the arguments of `forward`."""
        splats, blocks = ctx.splats, ctx.blocks
        wanted = blocks.from_image(torch.cat(grads, dim=-1))
        behind = wanted.new_zeros(wanted.shape[:2])
        total = wanted.new_zeros(SUMS + wanted.shape[-1], splats.shape.shape[1])
        for segment, blend in reversed(ctx.kept):
            blend = blend or blend_segment(splats, blocks, segment)
            sums = sums_over_pixels(splats, blocks, segment, blend, wanted, behind, ctx.absgrad is not None)
            total.index_add_(1, segment.members.flatten(), sums.transpose(0, 1).flatten(1))
        total = total[:, :-1]  # less the invisible one
        opacity, x, y, xx, xy, yy, abs_x, abs_y = total[:SUMS]
        _, _, a, b, c, log_opacity = splats.shape[:, :-1]
        if ctx.absgrad is not None:
            ctx.absgrad.copy_(torch.stack([abs_x, abs_y], dim=1))
        grad_means = torch.stack([-(a * x + b * y), -(b * x + c * y)], dim=1)
        grad_conics = torch.stack([-0.5 * xx, -xy, -0.5 * yy], dim=1)
        grad_opacities = torch.where(opacity == 0, 0.0, opacity * (-log_opacity).exp())
        return grad_means, grad_conics, grad_opacities, total[SUMS:-1].t(), None, None
