"""nerfacto's field, densities and colours, in one Triton kernel, where no gradients are wanted.

A 512 × 512 view asks the field for 12.6 million samples. In PyTorch each goes through hundreds of numbers in memory;
here contraction, hash grid and both networks stay on the chip. Products are of float16 numbers with sums in float32
where an autocast region wants float16, and else nearly as exact as float32 (three products of TF32 numbers each).

The colour network's first layer is linear in its three inputs: the view direction's spherical harmonics, the density
network's features, and the photograph's appearance. The first and the last are the same all along a ray, so their part
of the layer is computed once a ray, in PyTorch.

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
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field, get_normalized_directions
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import Tensor
from torch.nn.functional import linear, pad

from pds_nerfstudio.scenes.kernels.field_parts import contract, has_pairs, is_contracted, linear_layers
from pds_nerfstudio.scenes.kernels.hash_grid_triton import pair_of_features, runs_in_triton

_BLOCK = 128
"""Points that one program works on: one a thread, where tables are read."""
_WIDTHS = (16, 32, 64, 128)
"""Numbers of hidden units that the kernel is made for."""
_LEAST = 16
"""Least number of inputs and outputs of a product; fewer are padded. The density network has so many outputs: the
logarithm of the density, and the features that the colour depends on."""

FieldFn = Callable[[RaySamples], dict[FieldHeadNames, Tensor]]
"""From samples, rays × samples, to their densities and colours in [0, 1], as `Field.forward`."""


@triton.jit
def _layer(x, weights, start, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr):
    """Return start + x·Wᵀ for W, outputs × inputs."""
    rows, columns = tl.arange(0, OUTPUTS)[None, :], tl.arange(0, INPUTS)[:, None]
    transposed = tl.load(weights + rows * INPUTS + columns)
    return start + tl.dot(x.to(transposed.dtype), transposed, input_precision="tf32x3")


@triton.jit
def _field(
    origins,
    directions,
    distances,
    ray_parts,
    scalings,
    table,
    weights_hidden,
    bias_hidden,
    weights_geometry,
    bias_geometry,
    weights_first,
    weights_second,
    bias_second,
    weights_color,
    bias_color,
    densities,
    colors,
    n_points,
    samples,
    table_size,
    factor,
    LEVELS: tl.constexpr,
    PADDED_LEVELS: tl.constexpr,
    HIDDEN: tl.constexpr,
    COLOR_HIDDEN: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    points = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = points < n_points
    rays = (points // samples).to(tl.int64)
    points = points.to(tl.int64)
    distance = tl.load(distances + points, mask=inside, other=0.0)
    x = tl.load(origins + 3 * rays, mask=inside, other=0.0)
    y = tl.load(origins + 3 * rays + 1, mask=inside, other=0.0)
    z = tl.load(origins + 3 * rays + 2, mask=inside, other=0.0)
    x += tl.load(directions + 3 * rays, mask=inside, other=0.0) * distance
    y += tl.load(directions + 3 * rays + 1, mask=inside, other=0.0) * distance
    z += tl.load(directions + 3 * rays + 2, mask=inside, other=0.0) * distance
    x, y, z, known = contract(x, y, z)

    # A level at a time, into its column: a thread has eight numbers to wait for, and few to hold.
    columns = tl.arange(0, PADDED_LEVELS)
    firsts = tl.zeros((BLOCK, PADDED_LEVELS), tl.float32)
    seconds = tl.zeros((BLOCK, PADDED_LEVELS), tl.float32)
    for level in range(LEVELS):
        scale = tl.load(scalings + level)
        level_index = tl.full((), level, tl.int32)
        first, second = pair_of_features(x * scale, y * scale, z * scale, level_index, table, table_size)
        firsts = tl.where(columns[None, :] == level, first[:, None], firsts)
        seconds = tl.where(columns[None, :] == level, second[:, None], seconds)

    # Of the weights, those of the first features come first, and those of the second after them.
    units = tl.arange(0, HIDDEN)
    hidden = _layer(firsts, weights_hidden, tl.load(bias_hidden + units)[None, :], PADDED_LEVELS, HIDDEN)
    hidden = tl.maximum(_layer(seconds, weights_hidden + HIDDEN * PADDED_LEVELS, hidden, PADDED_LEVELS, HIDDEN), 0.0)
    outputs = tl.arange(0, LEAST)
    geometry = _layer(hidden, weights_geometry, tl.load(bias_geometry + outputs)[None, :], HIDDEN, LEAST)
    raw = tl.sum(tl.where(outputs[None, :] == 0, geometry, 0.0), axis=1)
    tl.store(densities + points, tl.where(known, factor * tl.exp(raw), 0.0), mask=inside)

    units = tl.arange(0, COLOR_HIDDEN)
    ray_part = tl.load(ray_parts + rays[:, None] * COLOR_HIDDEN + units[None, :], mask=inside[:, None], other=0.0)
    color = tl.maximum(_layer(geometry, weights_first, ray_part, LEAST, COLOR_HIDDEN), 0.0)
    start = tl.load(bias_second + units)[None, :]
    color = tl.maximum(_layer(color, weights_second, start, COLOR_HIDDEN, COLOR_HIDDEN), 0.0)
    color = tl.sigmoid(_layer(color, weights_color, tl.load(bias_color + outputs)[None, :], COLOR_HIDDEN, LEAST))
    places = colors + 3 * points[:, None] + outputs[None, :]
    tl.store(places, color, mask=inside[:, None] & (outputs[None, :] < 3))


@torch.no_grad()
def _run(field: NerfactoField, samples: RaySamples) -> dict[FieldHeadNames, Tensor]:
    frustums = samples.frustums
    if not runs_in_triton(frustums.starts):
        return field.forward(samples)
    distances = ((frustums.starts + frustums.ends) / 2).contiguous()
    device, shape = distances.device, distances.shape[:2]
    densities, colors = torch.empty(*shape, 1, device=device), torch.empty(*shape, 3, device=device)
    in_half = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
    encoding = _encoding(field)
    levels = encoding.num_levels
    padded_levels = max(_LEAST, triton.next_power_of_2(levels))
    _field[(triton.cdiv(distances.numel(), _BLOCK),)](
        frustums.origins[:, 0].contiguous(),
        frustums.directions[:, 0].contiguous(),
        distances,
        _ray_parts(field, samples),
        cast(Tensor, encoding._scalings_on_device),
        encoding.hash_table.view(torch.int64),
        *_weights(field, padded_levels, torch.float16 if in_half else torch.float32),
        densities,
        colors,
        distances.numel(),
        shape[1],
        len(encoding.hash_table) // levels,
        float(field.average_init_density),
        LEVELS=levels,
        PADDED_LEVELS=padded_levels,
        HIDDEN=field.mlp_base.layer_width,
        COLOR_HIDDEN=field.mlp_head.layer_width,
        LEAST=_LEAST,
        BLOCK=_BLOCK,
    )
    return {FieldHeadNames.DENSITY: densities, FieldHeadNames.RGB: colors}


def _weights(field: NerfactoField, padded_levels: int, dtype: torch.dtype) -> list[Tensor]:
    """Return weights in a type, outputs × inputs, and biases in float32, layer by layer, as the kernel takes them."""
    hidden, geometry = linear_layers(field.mlp_base)
    first, second, color = linear_layers(field.mlp_head)
    levels = hidden.in_features // 2
    by_feature = hidden.weight.reshape(-1, levels, 2).permute(2, 0, 1)
    before = field.direction_encoding.get_out_dim()
    missing = _LEAST - color.out_features
    return [
        pad(by_feature, (0, padded_levels - levels)).contiguous().to(dtype),
        hidden.bias,
        geometry.weight.to(dtype),
        geometry.bias,
        # The colour does not depend on the first of its inputs, the density.
        pad(first.weight[:, before : before + field.geo_feat_dim], (1, 0)).to(dtype),
        second.weight.to(dtype),
        second.bias,
        pad(color.weight, (0, 0, 0, missing)).to(dtype),
        pad(color.bias, (0, missing)),
    ]


def _ray_parts(field: NerfactoField, samples: RaySamples) -> Float[Tensor, "rays units"]:
    """Return the colour network's first layer in float32, less what the density network's features add to it.

    As in `NerfactoField.get_outputs`, a photograph's own appearance is that of training.
    """
    first = linear_layers(field.mlp_head)[0]
    directions = samples.frustums.directions[:, 0]
    with torch.autocast(directions.device.type, enabled=False):
        encoded = field.direction_encoding(get_normalized_directions(directions))
        parts = linear(encoded, first.weight[:, : encoded.shape[-1]], first.bias)
        if field.embedding_appearance is not None and (field.training or field.use_average_appearance_embedding):
            if field.training:
                appearance = field.embedding_appearance(cast(Tensor, samples.camera_indices)[:, 0, 0])
            else:
                appearance = field.embedding_appearance.mean(dim=0)
            parts += linear(appearance, first.weight[:, -field.appearance_embedding_dim :])
    return parts


def field_without_gradients(field: Field) -> FieldFn:
    """Return a field's `forward` as fast as it goes without gradients, for samples that a sampler drew along rays.

    Args:
        field: On a GPU, after `hash_encoding.speed_up`. If it is not of nerfacto's usual kind, with the contraction of
            unbounded scenes and nothing but density and colour, the result is its own `forward`.
    """
    return partial(_run, cast(NerfactoField, field)) if _is_known(field) else field.forward


def _is_known(field: Any) -> bool:
    if not (
        type(field) is NerfactoField
        and is_contracted(field)
        and not (field.use_transient_embedding or field.use_semantics or field.use_pred_normals)
    ):
        return False
    # In tiny-cuda-nn there are none.
    layers = linear_layers(field.mlp_base), linear_layers(field.mlp_head)
    if [len(part) for part in layers] != [2, 3]:
        return False
    (hidden, geometry), (first, _, _) = layers
    return (
        has_pairs(_encoding(field))
        and geometry.out_features == _LEAST
        and {hidden.out_features, first.out_features} <= set(_WIDTHS)
    )


def _encoding(field: NerfactoField) -> HashEncoding:
    return next(part for part in field.mlp_base.modules() if isinstance(part, HashEncoding))
