"""A few Gaussians over a few blocks: how they cover the pixels, and what a gradient on the pixels says of them.

Every block takes its list of Gaussians in segments of equal length, so one tensor operation serves many blocks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.splat_rasterizer.blocks import ALPHA_MIN, BLOCK, Blocks

ALPHA_MAX = 0.999
"""No Gaussian covers more than this, so that transmittance stays positive."""
TRANSMITTANCE_MIN = 1e-4
"""The Gaussian that would bring a pixel's transmittance down to this ends the pixel, undrawn itself."""

SEGMENT = 64
"""Gaussians of a block's list that are blended at a time."""
_CHUNK_ELEMENTS = (1 << 18, 1 << 24)
"""Pairs of pixel and Gaussian per tensor operation: what a CPU's caches hold, and what keeps a GPU busy."""


class Splats(NamedTuple):
    """Flat tables of all cameras' Gaussians, with an invisible one at the end to fill up short segments."""

    shape: Float[Tensor, "6 M1"]
    """Rows x, y, conic xx, xy, yy, log opacity: a CPU gathers fastest along rows."""
    colors: Float[Tensor, "M1 D1"]
    """Colours, and a last channel of ones whose picture is the accumulated opacity."""
    guarded: bool
    """Whether alpha may reach ALPHA_MAX, for a high opacity or a needle among the Gaussians."""


class Segment(NamedTuple):
    """The next few Gaussians on the lists of some blocks."""

    blocks: Int[Tensor, " b"]
    """The blocks."""
    members: Int[Tensor, "b K"]
    """The Gaussians, and the invisible one where a list has ended."""
    before: Float[Tensor, "b 64"]
    """Transmittance in front of them."""


class Blend(NamedTuple):
    """How a segment's Gaussians cover the pixels of its blocks."""

    ratios: Float[Tensor, "b 64 K"]
    """α / (1 − α); 0 where a Gaussian is skipped."""
    weights: Float[Tensor, "b 64 K"]
    """α · T, T the transmittance in front of the Gaussian; 0 where it is skipped or the pixel has ended."""
    after: Float[Tensor, "b 64"]
    """Transmittance behind the segment, the Gaussian that ended the pixel included."""


def segments_of(
    blocks: Blocks,
    active: Int[Tensor, " a"],
    start: int,
    transmittance: Float[Tensor, "blocks 64"],
    nobody: int,
) -> list[Segment]:
    """Return segments from place `start` on of the lists of the blocks `active`, some blocks at a time."""
    place = start + torch.arange(SEGMENT, device=active.device)
    slots = (blocks.starts[active, None] + place).clamp(max=blocks.members.shape[0] - 1)
    members = torch.where(place < blocks.lengths[active, None], blocks.members[slots], nobody)
    size = max(1, _CHUNK_ELEMENTS[active.device.type == "cuda"] // (SEGMENT * BLOCK * BLOCK))
    return [
        Segment(chosen, ids, transmittance[chosen])
        for chosen, ids in zip(active.split(size), members.split(size), strict=True)
    ]


def _offsets(
    splats: Splats, blocks: Blocks, segment: Segment
) -> tuple[Float[Tensor, "4 b K"], Float[Tensor, "b 8 K"], Float[Tensor, "b 8 K"]]:
    """Return conics and log opacities of a segment, and its Gaussians' distances from a block's columns and rows."""
    shape = splats.shape.index_select(1, segment.members.flatten()).view(6, *segment.members.shape)
    x, y = blocks.centres(segment.blocks, shape)
    steps = torch.arange(BLOCK, dtype=shape.dtype, device=shape.device) - (BLOCK - 1) / 2
    dx = (shape[0] - x[:, None])[:, None, :] - steps[:, None]
    dy = (shape[1] - y[:, None])[:, None, :] - steps[:, None]
    return shape[2:], dx, dy


def colors_of(splats: Splats, segment: Segment) -> Float[Tensor, "b K D1"]:
    """Return the colours of a segment's Gaussians."""
    return splats.colors.index_select(0, segment.members.flatten()).view(*segment.members.shape, -1)


def blend_segment(splats: Splats, blocks: Blocks, segment: Segment) -> Blend:
    """Blend a segment front to back.

    With σ = ½ (a·dx² + c·dy²) + b·dx·dy, α = min(ALPHA_MAX, opacity · exp(−σ)), or 0 below ALPHA_MIN; each
    Gaussian's weight is α times the product of 1 − α of those before it (Kerbl et al. 2023, eq. 3,
    https://arxiv.org/abs/2308.04079). Every line is one pass over all pairs of pixel and Gaussian, in place
    where it can be.
    """
    (a, b, c, log_opacity), dx, dy = _offsets(splats, blocks, segment)
    along_x, along_y = -0.5 * a[:, None] * dx * dx, log_opacity[:, None] - 0.5 * c[:, None] * dy * dy
    alpha = along_x[:, None, :, :] + along_y[:, :, None, :]
    alpha.addcmul_((b[:, None] * dx)[:, None, :, :], dy[:, :, None, :], value=-1.0)
    alpha = alpha.flatten(1, 2)
    if splats.guarded:
        alpha.masked_fill_(alpha > log_opacity[:, None], -math.inf)  # σ < 0: gsplat skips it too
    alpha = torch.threshold_(alpha.exp_(), _below(ALPHA_MIN, alpha.dtype), 0.0)
    if splats.guarded:
        alpha.clamp_(max=ALPHA_MAX)
    passed = 1.0 - alpha
    ratios = alpha.div_(passed)
    passed[:, :, 0] *= segment.before
    transmittance = passed.cumprod_(-1)
    after = transmittance[:, :, -1].clone()
    # T·(1 − α) is at hand and T is not: α·T = (α / (1 − α)) · T·(1 − α).
    weights = torch.threshold_(transmittance, TRANSMITTANCE_MIN, 0.0).mul_(ratios)
    return Blend(ratios, weights, after)


def _below(value: float, dtype: torch.dtype) -> float:
    """Return the number just below `value` as `dtype` rounds it, so that `> result` means `>= value`."""
    return torch.nextafter(torch.tensor(value, dtype=dtype), torch.zeros((), dtype=dtype)).item()


SUMS = 8
"""Rows of what `sums_over_pixels` returns before the gradients on the colours."""


def sums_over_pixels(
    splats: Splats,
    blocks: Blocks,
    segment: Segment,
    blend: Blend,
    wanted: Float[Tensor, "blocks 64 D1"],
    behind: Float[Tensor, "blocks 64"],
    absolute: bool,
) -> Float[Tensor, "b R K"]:
    """Sum h = α ∂L/∂α over the pixels of each block, for each Gaussian of a segment.

    Args:
        splats: The Gaussians.
        blocks: The blocks.
        segment: The segment.
        blend: What `blend_segment` made of it.
        wanted: Gradient on colours and accumulated opacity, for all blocks.
        behind: Σ (g·c) w over what lies behind the segment, for all blocks; brought to the segment's front.
        absolute: Whether to sum |h (a·dx + b·dy)| and |h (b·dx + c·dy)| too, at twice the cost.

    Returns:
        Rows: the sums of h, and of h times dx, dy, dx², dx·dy, dy² (Gaussian's centre less pixel's); the two
        absolute sums, or zeros; and the gradient on each colour channel.
    """
    gradient = wanted[segment.blocks]
    on_colors = torch.bmm(gradient.transpose(1, 2), blend.weights)
    pulls = torch.bmm(gradient, colors_of(splats, segment).transpose(1, 2)).mul_(blend.weights)
    upto = pulls.cumsum(-1)
    beyond = behind[segment.blocks] + upto[:, :, -1]
    behind[segment.blocks] = beyond
    h = pulls.addcmul_(blend.ratios, upto.sub_(beyond[:, :, None]))
    if splats.guarded:  # a clamped alpha does not move
        alpha_max = torch.tensor(ALPHA_MAX, dtype=h.dtype)
        h.masked_fill_(blend.ratios >= (alpha_max / (1 - alpha_max)).item(), 0.0)

    (a, b, c, _), dx, dy = _offsets(splats, blocks, segment)
    steps = torch.arange(BLOCK, dtype=h.dtype, device=h.device) - (BLOCK - 1) / 2
    py, px = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    monomials = torch.stack([torch.ones_like(px), px, py, px * px, px * py, py * py])
    one, x, y, xx, xy, yy = torch.matmul(monomials, h).unbind(1)
    # From the block's middle to the Gaussian's: dx = mx − px.
    mx, my = dx[:, 0] + steps[0], dy[:, 0] + steps[0]
    rows = [
        one,
        mx * one - x,
        my * one - y,
        mx * (mx * one - 2 * x) + xx,
        mx * (my * one - y) - my * x + xy,
        my * (my * one - 2 * y) + yy,
    ]
    if absolute:
        h = h.view(-1, BLOCK, BLOCK, h.shape[-1])
        for along_x, along_y in ((a, b), (b, c)):
            slope = (along_x[:, None] * dx)[:, None, :, :] + (along_y[:, None] * dy)[:, :, None, :]
            per_pixel = slope.mul_(h).abs_().flatten(1, 2)
            rows.append(torch.matmul(monomials[:1], per_pixel)[:, 0])  # faster than sum
    else:
        rows += [torch.zeros_like(one)] * 2
    return torch.cat([torch.stack(rows, dim=1), on_colors], dim=1)
