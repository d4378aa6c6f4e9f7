"""A proposal network's densities in one Triton kernel, where no gradients are wanted.

nerfacto asks its proposal networks for some 350 densities a ray. In PyTorch each goes through some thirty tensors in
memory; here contraction, hash grid and the network of sixteen hidden numbers are one thread's work in registers. It
computes in float32, whatever the autocast region.

Importing this needs Triton (see `hash_grid_triton`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from nerfstudio.fields.base_field import Field
from nerfstudio.fields.density_fields import HashMLPDensityField
from torch import Tensor

from pds_nerfstudio.scenes.kernels.field_parts import contract, has_pairs, is_contracted, linear_layers
from pds_nerfstudio.scenes.kernels.hash_grid_triton import pair_of_features, runs_in_triton

_BLOCK = 128
"""Points that one program works on."""
_WIDTHS = (8, 16, 32, 64)
"""Numbers of hidden units that the kernel is made for."""

DensityFn = Callable[[Tensor], Tensor]
"""From positions, with any leading dimensions, to densities."""


@triton.jit
def _density(
    positions,
    scalings,
    table,
    weights_in,
    bias_in,
    weights_out,
    bias_out,
    out,
    n_points,
    table_size,
    factor,
    LEVELS: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    points = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = points < n_points
    x = tl.load(positions + 3 * points, mask=inside, other=0.0)
    y = tl.load(positions + 3 * points + 1, mask=inside, other=0.0)
    z = tl.load(positions + 3 * points + 2, mask=inside, other=0.0)
    x, y, z, known = contract(x, y, z)

    units = tl.arange(0, HIDDEN)
    hidden = tl.zeros((BLOCK, HIDDEN), tl.float32) + tl.load(bias_in + units)[None, :]
    for level in range(LEVELS):
        scale = tl.load(scalings + level)
        level_index = tl.full((), level, tl.int32)
        first, second = pair_of_features(x * scale, y * scale, z * scale, level_index, table, table_size)
        column = weights_in + units * (2 * LEVELS) + 2 * level
        hidden += first[:, None] * tl.load(column)[None, :] + second[:, None] * tl.load(column + 1)[None, :]
    raw = tl.sum(tl.maximum(hidden, 0.0) * tl.load(weights_out + units)[None, :], axis=1) + tl.load(bias_out)
    tl.store(out + points, tl.where(known, factor * tl.exp(raw), 0.0), mask=inside)


@torch.no_grad()
def _run(network: HashMLPDensityField, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
    if not runs_in_triton(positions):
        return cast(Tensor, network.density_fn(positions))
    flat = positions.reshape(-1, 3).float().contiguous()
    out = torch.empty(len(flat), device=flat.device)
    encoding, (first, last) = network.encoding, linear_layers(network.mlp_base[1])
    levels = encoding.num_levels
    if len(flat):
        _density[(triton.cdiv(len(flat), _BLOCK),)](
            flat,
            cast(Tensor, encoding._scalings_on_device),
            encoding.hash_table.view(torch.int64),
            first.weight,
            first.bias,
            last.weight,
            last.bias,
            out,
            len(flat),
            len(encoding.hash_table) // levels,
            float(network.average_init_density),
            LEVELS=levels,
            HIDDEN=first.out_features,
            BLOCK=_BLOCK,
        )
    return out.reshape(*positions.shape[:-1], 1)


def density_without_gradients(network: Field) -> DensityFn:
    """Return a field's `density_fn` as fast as it goes without gradients.

    Args:
        network: On a GPU, after `hash_encoding.speed_up`. If it is not of nerfacto's usual kind, with the contraction
            of unbounded scenes, two layers and pairs of features, the result is its own `density_fn`.
    """
    return partial(_run, cast(HashMLPDensityField, network)) if _is_known(network) else network.density_fn


def _is_known(network: Any) -> bool:
    return (
        isinstance(network, HashMLPDensityField)
        and not network.use_linear
        and is_contracted(network)
        and has_pairs(network.encoding)
        and len(layers := linear_layers(network.mlp_base[1])) == 2
        and layers[0].out_features in _WIDTHS
    )
