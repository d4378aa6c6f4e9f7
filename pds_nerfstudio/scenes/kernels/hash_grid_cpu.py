"""nerfstudio's hash grid for CPUs, in PyTorch.

The function is that of its `HashEncoding` with `implementation="torch"` (Müller et al. 2022, Instant Neural Graphics
Primitives, section 3), which hashes all levels' corners as 64-bit numbers and keeps each corner's features of each
point. Here a level is one embedding bag of eight rows a point: hashed in 32 bits, looked up and weighted in one pass;
and its gradient on the table one weighted count a feature.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.autograd.function import once_differentiable

_PRIMES = 2654435761 - 2**32, 805459861
"""Of the second and third axis, as 32-bit numbers that overflow: the low bits of the products are the same."""


def hash_grid(
    positions: Float[Tensor, "*batch 3"], table: Float[Tensor, "rows features"], scalings: Num[Tensor, "levels"]
) -> Float[Tensor, "*batch channels"]:
    """Return features of positions in a multi-resolution hash grid, differentiable (once) in positions and table.

    Args:
        positions: In [0, 1].
        table: All levels' rows, a power of two each.
        scalings: Cells along an axis at each level.
    """
    flat = positions.reshape(-1, 3).T.contiguous()
    size = len(table) // len(scalings)
    levels = [_level(flat * scaling, rows) for scaling, rows in zip(scalings, table.split(size), strict=True)]
    return torch.cat(levels, dim=-1).reshape(*positions.shape[:-1], len(scalings) * table.shape[1])


def _level(points: Float[Tensor, "3 n"], rows: Float[Tensor, "size features"]) -> Float[Tensor, "n features"]:
    """Return features of points on a level's grid: its eight corners' rows, trilinearly weighted."""
    below, n = points.detach().floor(), points.shape[1]
    ends = torch.stack([below, points.detach().ceil()]).to(torch.int32)
    x, y, z = ends[:, 0], ends[:, 1] * _PRIMES[0], ends[:, 2] * _PRIMES[1]
    corners = (x[:, None, None] ^ y[:, None] ^ z) & (len(rows) - 1)
    share = points - below
    shares = torch.stack([1 - share, share])
    weights = shares[:, None, None, 0] * shares[:, None, 1] * shares[:, 2]
    which, weight = (part.reshape(8, n).T.contiguous() for part in (corners, weights))
    return cast(Tensor, _WeightedRows.apply(which, rows, weight))


class _WeightedRows(torch.autograd.Function):
    """PyTorch's embedding bag, whose own gradient on the table sorts all rows first."""

    @staticmethod
    def forward(
        ctx: Any, which: Int[Tensor, "n k"], rows: Float[Tensor, "size features"], weight: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n features"]:
        ctx.save_for_backward(which, rows, weight)
        return F.embedding_bag(which, rows, per_sample_weights=weight, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, on_out: Float[Tensor, "n features"]) -> tuple[None, Tensor | None, Tensor | None]:  # type: ignore[override]
        which, rows, weight = ctx.saved_tensors
        on_rows = on_weight = None
        if ctx.needs_input_grad[1]:
            each = [(weight * gradient[:, None]).flatten() for gradient in on_out.unbind(-1)]
            sums = [torch.bincount(which.flatten(), shares, minlength=len(rows)) for shares in each]
            on_rows = torch.stack(sums, dim=-1).to(rows)
        if ctx.needs_input_grad[2]:
            on_weight = (F.embedding(which, rows) * on_out[:, None]).sum(-1)
        return None, on_rows, on_weight
