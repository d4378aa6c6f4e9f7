"""nerfstudio's hash grid in Triton, for GPUs without tiny-cuda-nn.

The function is that of nerfstudio's `HashEncoding` with `implementation="torch"` (Müller et al. 2022, Instant Neural
Graphics Primitives, section 3), whose PyTorch form writes some forty tensors of the size of its output to memory. Here
a level of a point is one thread's work: eight corners are hashed, looked up and weighted in registers. The backward
pass adds to the table by atomic operations; its sums, and so the last bits of its results, depend on their order.

Importing this needs Triton. It runs on GPUs, and in Triton's interpreter (TRITON_INTERPRET=1) anywhere.
"""

from __future__ import annotations

import os
from typing import Any, cast

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 256
"""Points that one program works on."""


@triton.jit
def corner(x, y, z, which: tl.constexpr, level, table_size):
    """Return the table's row at a corner of each point's cell, and the corner's offsets for the point's weights.

    x, y, z: positions on the level's grid. which: bit d says whether it is the upper one along axis d.
    """
    fx, fy, fz = tl.floor(x), tl.floor(y), tl.floor(z)
    # Where a point lies on the grid the upper corner is the lower one, and has no weight.
    ix = (tl.ceil(x) if which & 1 else fx).to(tl.int32).to(tl.uint32)
    iy = (tl.ceil(y) if which & 2 else fy).to(tl.int32).to(tl.uint32)
    iz = (tl.ceil(z) if which & 4 else fz).to(tl.int32).to(tl.uint32)
    hashed = ix ^ (iy * 2654435761) ^ (iz * 805459861)
    row = (hashed & (table_size - 1)).to(tl.int64) + level.to(tl.int64) * table_size
    wx = x - fx if which & 1 else 1 - (x - fx)
    wy = y - fy if which & 2 else 1 - (y - fy)
    wz = z - fz if which & 4 else 1 - (z - fz)
    return row, wx, wy, wz


@triton.jit
def pair_of_features(x, y, z, level, table, table_size):
    """Return features of points at a level, where a level has two.

    x, y, z: positions on the level's grid. table: pairs of float32 as one int64 each, which a single load brings.
    """
    first = tl.zeros_like(x)
    second = tl.zeros_like(x)
    for which in tl.static_range(8):
        row, wx, wy, wz = corner(x, y, z, which, level, table_size)
        weight = wx * wy * wz
        pair = tl.load(table + row)
        first += weight * pair.to(tl.uint32).to(tl.float32, bitcast=True)
        second += weight * (pair >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
    return first, second


@triton.jit
def _load_position(positions, points, scale, inside):
    x = tl.load(positions + 3 * points, mask=inside, other=0.0) * scale
    y = tl.load(positions + 3 * points + 1, mask=inside, other=0.0) * scale
    z = tl.load(positions + 3 * points + 2, mask=inside, other=0.0) * scale
    return x, y, z


@triton.jit
def _forward(
    positions,
    scalings,
    table,
    out,
    n_points,
    table_size,
    LEVELS: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    points = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    level = tl.program_id(1)
    inside = points < n_points
    features = tl.arange(0, FEATURES)
    x, y, z = _load_position(positions, points, tl.load(scalings + level), inside)
    total = tl.zeros((BLOCK, FEATURES), tl.float32)
    for which in tl.static_range(8):
        row, wx, wy, wz = corner(x, y, z, which, level, table_size)
        values = tl.load(table + row[:, None] * FEATURES + features[None, :], mask=inside[:, None], other=0.0)
        total += (wx * wy * wz)[:, None] * values
    places = points[:, None] * (LEVELS * FEATURES) + level * FEATURES + features[None, :]
    tl.store(out + places, total, mask=inside[:, None])


@triton.jit
def _in_another_cell(x, y, z, positions, others, scale, some):
    """Return whether other points have other corners than those at x, y, z; always where there are none."""
    other_x, other_y, other_z = _load_position(positions, others, scale, some)
    differs = (tl.floor(other_x) != tl.floor(x)) | (tl.ceil(other_x) != tl.ceil(x))
    differs |= (tl.floor(other_y) != tl.floor(y)) | (tl.ceil(other_y) != tl.ceil(y))
    differs |= (tl.floor(other_z) != tl.floor(z)) | (tl.ceil(other_z) != tl.ceil(z))
    return (some == 0) | differs


@triton.jit
def _add_within(sum_before, begins_before, value, begins):
    """Add up values from where the last of them begins (a segmented scan; Blelloch 1990, section 1.5)."""
    return tl.where(begins != 0, value, sum_before + value), begins_before | begins


@triton.jit
def _backward_table(
    positions,
    scalings,
    on_out,
    on_table,
    n_points,
    table_size,
    LEVELS: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    points = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    level = tl.program_id(1)
    inside = points < n_points
    features = tl.arange(0, FEATURES)
    places = points[:, None] * (LEVELS * FEATURES) + level * FEATURES + features[None, :]
    gradient = tl.load(on_out + places, mask=inside[:, None], other=0.0)
    # Of a learned scene most samples lie in empty space or behind a surface, and nothing is asked of them.
    if tl.max((gradient != 0).to(tl.int32)) > 0:
        scale = tl.load(scalings + level)
        x, y, z = _load_position(positions, points, scale, inside)
        # Neighbours along a ray often share a cell: what is asked of its corners is summed up, and added once.
        begins = _in_another_cell(x, y, z, positions, points - 1, scale, points % BLOCK > 0)
        with_next = (points % BLOCK < BLOCK - 1) & (points + 1 < n_points)
        ends = _in_another_cell(x, y, z, positions, points + 1, scale, with_next)
        begins = tl.broadcast_to(begins[:, None].to(tl.int32), (BLOCK, FEATURES))
        for which in tl.static_range(8):
            row, wx, wy, wz = corner(x, y, z, which, level, table_size)
            sums, _ = tl.associative_scan(((wx * wy * wz)[:, None] * gradient, begins), 0, _add_within)
            asked = (tl.max((sums != 0).to(tl.int32), axis=1) > 0) & ends & inside
            tl.atomic_add(
                on_table + row[:, None] * FEATURES + features[None, :], sums, mask=asked[:, None], sem="relaxed"
            )


@triton.jit
def _backward_positions(
    positions,
    scalings,
    table,
    on_out,
    on_positions,
    n_points,
    table_size,
    LEVELS: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    points = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = points < n_points
    features = tl.arange(0, FEATURES)
    on_x = tl.zeros((BLOCK,), tl.float32)
    on_y = tl.zeros((BLOCK,), tl.float32)
    on_z = tl.zeros((BLOCK,), tl.float32)
    for level in range(LEVELS):
        scale = tl.load(scalings + level)
        x, y, z = _load_position(positions, points, scale, inside)
        places = points[:, None] * (LEVELS * FEATURES) + level * FEATURES + features[None, :]
        gradient = tl.load(on_out + places, mask=inside[:, None], other=0.0)
        for which in tl.static_range(8):
            row, wx, wy, wz = corner(x, y, z, which, tl.full((), level, tl.int32), table_size)
            values = tl.load(table + row[:, None] * FEATURES + features[None, :], mask=inside[:, None], other=0.0)
            pull = scale * tl.sum(values * gradient, axis=1)
            # The weight along an axis grows with the position at an upper corner and falls at a lower one.
            on_x += pull * wy * wz * (1.0 if which & 1 else -1.0)
            on_y += pull * wx * wz * (1.0 if which & 2 else -1.0)
            on_z += pull * wx * wy * (1.0 if which & 4 else -1.0)
    tl.store(on_positions + 3 * points, on_x, mask=inside)
    tl.store(on_positions + 3 * points + 1, on_y, mask=inside)
    tl.store(on_positions + 3 * points + 2, on_z, mask=inside)


class _HashGrid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, table: Tensor, scalings: Tensor, table_size: int
    ) -> Float[Tensor, "points channels"]:
        positions = positions.float().contiguous()
        levels, features = len(scalings), table.shape[1]
        out = torch.empty(len(positions), levels * features, device=positions.device)
        ctx.save_for_backward(positions, table, scalings)
        ctx.shape = {"LEVELS": levels, "FEATURES": features, "BLOCK": _BLOCK}
        ctx.table_size = table_size
        if len(positions):
            blocks = (triton.cdiv(len(positions), _BLOCK), levels)
            _forward[blocks](positions, scalings, table, out, len(positions), table_size, **ctx.shape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, on_out: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        positions, table, scalings = ctx.saved_tensors
        on_out = on_out.float().contiguous()
        n, blocks = len(positions), triton.cdiv(len(positions), _BLOCK)
        on_positions = torch.zeros_like(positions) if ctx.needs_input_grad[0] else None
        on_table = torch.zeros_like(table) if ctx.needs_input_grad[1] else None
        if on_table is not None and n:
            grid = (blocks, len(scalings))
            _backward_table[grid](positions, scalings, on_out, on_table, n, ctx.table_size, **ctx.shape)
        if on_positions is not None and n:
            _backward_positions[(blocks,)](
                positions, scalings, table, on_out, on_positions, n, ctx.table_size, **ctx.shape
            )
        return on_positions, on_table, None, None


def hash_grid(
    positions: Float[Tensor, "*batch 3"], table: Float[Tensor, "rows features"], scalings: Float[Tensor, "levels"]
) -> Float[Tensor, "*batch channels"]:
    """Return features of positions in a multi-resolution hash grid, differentiable in positions and table.

    Args:
        positions: In [0, 1].
        table: All levels' rows, a power of two each, of a power of two features.
        scalings: Cells along an axis at each level.
    """
    table_size = len(table) // len(scalings)
    out = _HashGrid.apply(positions.reshape(-1, 3), table, scalings, table_size)
    return cast(Tensor, out).reshape(*positions.shape[:-1], len(scalings) * table.shape[1])


def runs_in_triton(x: Tensor) -> bool:
    """Return whether kernels can work on a tensor: on a GPU, or in Triton's interpreter."""
    return x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
