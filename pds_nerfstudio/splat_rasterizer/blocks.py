"""The image plane in blocks of pixels, and for each block the Gaussians that reach it, nearest first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

ALPHA_MIN = 1.0 / 255.0
"""A Gaussian fainter than this at a pixel is skipped there."""
BLOCK = 8
"""Side of a block in pixels. 8 takes little more than half the time of 16: fewer pixels are out of reach."""
NEEDLE = 16
"""A Gaussian is a needle if its conic's determinant is under this many rounding errors of its products: the exponent
may then come out positive."""
_REACH_MARGIN = 1e-2
"""Slack, in the exponent, when a Gaussian is said to miss a block: rounding must not drop a visible one."""


@dataclass(frozen=True)
class Blocks:
    """The image plane of all cameras cut into blocks, and who reaches each block.

    Blocks are numbered camera by camera, row by row; Gaussians 0 … C·N − 1 camera by camera.
    """

    cameras: int
    """How many there are."""
    rows: int
    """Of blocks, in a camera's image."""
    columns: int
    """Of blocks, in a camera's image."""
    width: int
    """Of an image, in pixels."""
    height: int
    """Of an image, in pixels."""
    members: Int[Tensor, " pairs"]
    """Gaussians of the first block, nearest first, then of the second, …"""
    starts: Int[Tensor, " blocks"]
    """Where each block's list begins in `members`."""
    lengths: Int[Tensor, " blocks"]
    """How many Gaussians each block's list has."""

    def to_image(self, pixels: Float[Tensor, "blocks 64 D"]) -> Float[Tensor, "C H W D"]:
        """Put the blocks' pixels in place; what sticks out of the image is cut off."""
        grid = pixels.view(self.cameras, self.rows, self.columns, BLOCK, BLOCK, -1).transpose(2, 3)
        image = grid.reshape(self.cameras, self.rows * BLOCK, self.columns * BLOCK, -1)
        return image[:, : self.height, : self.width]

    def from_image(self, image: Float[Tensor, "C H W D"]) -> Float[Tensor, "blocks 64 D"]:
        """Invert `to_image`, with zeros for pixels outside the image."""
        beyond = (0, 0, 0, self.columns * BLOCK - self.width, 0, self.rows * BLOCK - self.height)
        grid = F.pad(image, beyond).view(self.cameras, self.rows, BLOCK, self.columns, BLOCK, -1)
        return grid.transpose(2, 3).reshape(-1, BLOCK * BLOCK, image.shape[-1])

    def centres(self, blocks: Int[Tensor, " b"], like: Tensor) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return x and y of the middle of each block, in pixels."""
        x = (blocks % self.columns).to(like.dtype) * BLOCK + BLOCK / 2
        y = (blocks // self.columns % self.rows).to(like.dtype) * BLOCK + BLOCK / 2
        return x, y


@torch.no_grad()
def list_blocks(
    means: Float[Tensor, "C N 2"],
    conics: Float[Tensor, "C N 3"],
    opacities: Float[Tensor, "C N"],
    depths: Float[Tensor, "C N"],
    radii: Int[Tensor, "C N"],
    width: int,
    height: int,
    tile_size: int,
) -> Blocks:
    """List the Gaussians that reach each block of pixels, nearest first.

    gsplat draws a Gaussian on the tiles that its square of side 2·radius touches. This is that footprint,
    less the blocks on all of whose pixels the Gaussian is fainter than ALPHA_MIN, where drawing it changes
    nothing.
    """
    cameras, count = depths.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    reach = torch.log(opacities.flatten() / ALPHA_MIN)  # in the exponent: beyond it, alpha < ALPHA_MIN
    seen = ((radii.flatten() > 0) & (reach >= 0)).nonzero()[:, 0]
    # Stable, so that Gaussians of equal depth keep their order.
    seen = seen[torch.argsort(depths.flatten()[seen], stable=True)]
    x, y = means.flatten(0, 1)[seen].unbind(-1)
    a, b, c = conics.flatten(0, 1)[seen].unbind(-1)
    radius, reach = radii.flatten()[seen].to(x.dtype), reach[seen] + _REACH_MARGIN

    # Least value that rounding allows the determinant. A needle may have none left, and so no bound of its
    # own: that is NaN or infinity below.
    det = a * c - b * b - NEEDLE * torch.finfo(a.dtype).eps * a * c
    first, last = [], []
    for centre, variance, size in ((x, c / det, width), (y, a / det, height)):
        half = (2 * reach * variance).sqrt().nan_to_num(nan=math.inf, posinf=math.inf)
        footprint_start = torch.floor(centre / tile_size - radius / tile_size) * tile_size
        footprint_end = torch.ceil(centre / tile_size + radius / tile_size) * tile_size
        low = torch.maximum((centre - half - 0.5).ceil(), footprint_start).clamp(min=0)
        high = torch.minimum((centre + half - 0.5).floor(), footprint_end - 1).clamp(max=size - 1)
        empty = low > high
        first.append(torch.where(empty, 0, low).long() // BLOCK)
        last.append(torch.where(empty, -1, high).long().div(BLOCK, rounding_mode="floor"))
    across, down = (end - start + 1 for start, end in zip(first, last, strict=True))

    # One entry for every block of each Gaussian's bounding rectangle…
    areas = across * down
    owner = torch.repeat_interleave(areas)
    place = torch.arange(owner.shape[0], device=owner.device) - (areas.cumsum(0) - areas)[owner]
    row, column = torch.div(place, across[owner], rounding_mode="floor"), place % across[owner]
    column, row = column + first[0][owner], row + first[1][owner]
    # …of which those remain whose pixel centres the ellipse reaches.
    table = torch.stack([x, y, a, b, c, reach])
    px, py, a, b, c, limit = table.index_select(1, owner)
    low_x, low_y = column * BLOCK + 0.5 - px, row * BLOCK + 0.5 - py
    reached = _least_exponent(a, b, c, low_x, low_x + (BLOCK - 1), low_y, low_y + (BLOCK - 1)) <= limit
    owner, row, column = owner[reached], row[reached], column[reached]

    members = seen[owner]
    block = ((members // count if cameras > 1 else 0) * rows + row) * columns + column
    block, order = torch.sort(block.int(), stable=True)
    lengths = torch.bincount(block, minlength=cameras * rows * columns)
    return Blocks(cameras, rows, columns, width, height, members[order], lengths.cumsum(0) - lengths, lengths)


def _least_exponent(
    a: Tensor, b: Tensor, c: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor
) -> Float[Tensor, " pairs"]:
    """Return the least value of ½(a·x² + c·y²) + b·x·y over a rectangle.

    A convex function takes its least value on a side that faces its minimum (0, 0), or at (0, 0) itself. So:
    the nearest x with the best y for it, and the nearest y with the best x for it.
    """
    near_x, near_y = torch.zeros_like(left).clamp(left, right), torch.zeros_like(top).clamp(top, bottom)
    best_y, best_x = (-b / c * near_x).clamp(top, bottom), (-b / a * near_y).clamp(left, right)
    # Errs low, by more than the sums can lose to rounding.
    half = 0.5 - NEEDLE * torch.finfo(a.dtype).eps
    on_x = half * (a * near_x * near_x + c * best_y * best_y) + b * near_x * best_y
    on_y = half * (a * best_x * best_x + c * near_y * near_y) + b * best_x * near_y
    return torch.minimum(on_x, on_y)
