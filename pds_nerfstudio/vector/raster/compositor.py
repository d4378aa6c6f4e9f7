"""Ordered alpha compositing of windows: simple alpha-over (Porter and Duff, 1984), forward and backward."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.vector.raster.coverage import Windows

Box = tuple[int, int, int, int]
"""x, y, width, height in canvas pixels."""


@dataclass(frozen=True)
class SolidItem:
    """A region in one colour."""

    region: int
    """Region that it covers."""
    row: int
    """Row of colours and alphas."""


@dataclass(frozen=True)
class TextureItem:
    """A region painted pixel by pixel."""

    region: int
    """Region that it covers."""
    texture: int
    """Number of its texture: [c + 1, h, w] over the region's window, plain colour and then alpha."""


@dataclass(frozen=True)
class LayerItem:
    """A picture of its own."""

    box: Box
    """Where it lies."""
    texture: int
    """Number of its texture: [4, h, w] over the box, premultiplied RGBA."""


Item = SolidItem | TextureItem | LayerItem


class _Over(torch.autograd.Function):
    """For one item after the other, v ← v + a (colour − v) within its window. The backward pass goes the other way."""

    @staticmethod
    def forward(
        ctx: Any,
        background: Tensor,
        cover: Tensor,
        colors: Tensor,
        alphas: Tensor,
        origin: tuple[int, int],
        windows: Windows,
        items: list[Item],
        *textures: Tensor,
    ) -> Tensor:
        out = background.clone(memory_format=torch.contiguous_format)
        channels = out.shape[0]
        kept: list[Tensor] = []
        columns, factors = colors[:, :, None, None], alphas.tolist()
        for item in items:
            if isinstance(item, LayerItem):
                view = _part(out, item.box, origin)
                picture = textures[item.texture]
                kept.append(view.clone())
                view.mul_(1 - picture[3]).add_(picture[:channels])
                continue
            view = _part(out, _box(windows, item.region), origin)
            a = windows.view(cover, item.region)
            if isinstance(item, SolidItem):
                difference = columns[item.row] - view
                if factors[item.row] != 1.0:
                    a = a * factors[item.row]
            else:
                texture = textures[item.texture]
                difference = texture[:channels] - view
                a = a * texture[channels]
            kept.append(difference)
            view.addcmul_(difference, a)
        ctx.save_for_backward(cover, colors, alphas, *textures)
        ctx.kept, ctx.origin, ctx.windows, ctx.items, ctx.factors = kept, origin, windows, items, factors
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cover, colors, alphas, *textures = ctx.saved_tensors
        windows = ctx.windows
        grad = grad.clone(memory_format=torch.contiguous_format)
        channels = grad.shape[0]
        grad_cover = torch.zeros_like(cover)
        grad_colors, grad_alphas = torch.zeros_like(colors), torch.zeros_like(alphas)
        grad_textures: list[Tensor | None] = [None] * len(textures)
        for item, kept in zip(reversed(ctx.items), reversed(ctx.kept), strict=True):
            if isinstance(item, LayerItem):
                view = _part(grad, item.box, ctx.origin)
                picture = textures[item.texture]
                grad_picture = torch.zeros_like(picture)
                grad_picture[:channels] = view
                grad_picture[3] -= (view * kept).sum(0)
                grad_textures[item.texture] = grad_picture
                view.mul_(1 - picture[3])
                continue
            view = _part(grad, _box(windows, item.region), ctx.origin)
            cells = windows.view(cover, item.region)
            grad_cells = windows.view(grad_cover, item.region)
            by_alpha = (view * kept).sum(0)
            if isinstance(item, SolidItem):
                factor = ctx.factors[item.row]
                grad_alphas[item.row] = (by_alpha * cells).sum()
                a = cells if factor == 1.0 else cells * factor
                change = view * a
                grad_colors[item.row] = change.sum((1, 2))
                grad_cells.add_(by_alpha, alpha=factor)
            else:
                texture = textures[item.texture]
                change = view * (cells * texture[channels])
                grad_textures[item.texture] = torch.cat([change, (by_alpha * cells)[None]])
                grad_cells.addcmul_(by_alpha, texture[channels])
            view.sub_(change)
        return grad, grad_cover, grad_colors, grad_alphas, None, None, None, *grad_textures


def _box(windows: Windows, region: int) -> Box:
    x, y, width, height, _ = windows.boxes[region]
    return x, y, width, height


def _part(image: Tensor, box: Box, origin: tuple[int, int]) -> Tensor:
    x, y, width, height = box
    left, top = x - origin[0], y - origin[1]
    return image[:, top : top + height, left : left + width]


def over(
    background: Float[Tensor, "c h w"],
    cover: Float[Tensor, " n"],
    colors: Float[Tensor, "d c"],
    alphas: Float[Tensor, " d"],
    origin: tuple[int, int],
    windows: Windows,
    items: list[Item],
    textures: list[Float[Tensor, "_ _ _"]],
) -> Float[Tensor, "c h w"]:
    """Lay items over a background, one after the other, differentiable in everything but the order.

    Args:
        background: Of 3 channels for an opaque picture, 4 for a premultiplied one with alpha, 1 for a mask.
        cover: Coverage of all regions, in the buffer that `windows` describes.
        colors: Colours of the solid items, not premultiplied. The fourth channel, and a mask's only one, is 1.
        alphas: Opacities of the solid items.
        origin: Canvas pixel of the background's upper left corner. Every item lies within the background.
        windows: Where each region's pixels are.
        items: What to lay, lowest first. A region appears once.
        textures: What the items that are not solid refer to, each used once.
    """
    if not items:
        return background
    return _Over.apply(background, cover, colors, alphas, origin, windows, items, *textures)  # type: ignore[no-untyped-call]
