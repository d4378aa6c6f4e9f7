"""One product in place of many: what a UNet's layers each make of the time and of the prompt.

Every residual block of a Stable Diffusion UNet projects the same time embedding, every cross-attention layer the same
text. One by one that is some forty small products, which wait for memory or for their launch: on an H100 they cost .25
of a prediction's 10.2 ms more than the two that are left here (docs/performance.md). Their weights, one below the
other, are one layer; each block is left with its part of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Part(nn.Module):
    """Some of the channels of what a merged layer has computed.

    Args:
        start: The first of them.
        stop: The one after the last.
    """

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch part"]:
        """Return a view of them."""
        return x[..., self.start : self.stop]


def merge_projections(unet: Any) -> None:
    """Merge an attention layer's projections, those of the time embedding, and those of the text.

    Predictions stay what they are, up to rounding. Where a network does anything else with the time or the text, its
    layers for that stay. A network that is merged already stays as it is.

    Args:
        unet: A diffusers UNet.
    """
    if any(isinstance(module, Part) for module in unet.modules()):
        return
    # diffusers' layers for queries, keys and values begin with random weights: the caller's random numbers stay unused.
    with torch.random.fork_rng(devices=[]):
        unet.fuse_qkv_projections()
    _merge_time_projections(unet)
    _merge_text_projections(unet)


def _merge_time_projections(unet: Any) -> None:
    blocks = [module for module in unet.modules() if getattr(module, "time_emb_proj", None) is not None]
    # Other embeddings would be added to the time's before it is projected.
    others = [getattr(unet, name, None) for name in ("class_embedding", "add_embedding", "time_embed_act")]
    if not blocks or any(other is not None for other in others):
        return
    layers = [block.time_emb_proj for block in blocks]
    if not all(isinstance(layer, nn.Linear) for layer in layers) or any(block.skip_time_act for block in blocks):
        return
    unet.time_embedding = _ProjectedTime(unet.time_embedding, blocks[0].nonlinearity, _merged(layers))
    start = 0
    for block, layer in zip(blocks, layers, strict=True):
        block.time_emb_proj, block.skip_time_act = Part(start, start + layer.out_features), True
        start += layer.out_features


class _ProjectedTime(nn.Module):
    """The time embedding, activated and projected for all residual blocks."""

    def __init__(self, embedding: nn.Module, activation: nn.Module, projection: nn.Linear) -> None:
        super().__init__()
        self.embedding, self.activation, self.projection = embedding, activation, projection

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Float[Tensor, "batch channels"]:
        projected: Tensor = self.projection(self.activation(self.embedding(sample, condition)))
        return projected


def _merge_text_projections(unet: Any) -> None:
    if any(getattr(unet, name, None) is not None for name in ("encoder_hid_proj", "add_embedding")):
        return
    layers = [module for module in unet.modules() if getattr(module, "to_kv", None) is not None]
    if not layers or any(
        layer.norm_cross or layer.to_kv.in_features != unet.config.cross_attention_dim for layer in layers
    ):
        return
    unet.encoder_hid_proj = _merged([layer.to_kv for layer in layers])
    unet.register_to_config(encoder_hid_dim_type="text_proj")  # that it is to be used, and how
    start = 0
    for layer in layers:
        width = layer.to_kv.out_features // 2
        layer.to_k, layer.to_v = Part(start, start + width), Part(start + width, start + 2 * width)
        layer.to_kv = Part(start, start + 2 * width)
        start += 2 * width


def _merged(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer, of the same input, whose outputs are theirs, one after the other."""
    first = layers[0]
    # Empty, so that no random numbers are drawn for it.
    merged: nn.Linear = nn.utils.skip_init(
        nn.Linear,
        first.in_features,
        sum(layer.out_features for layer in layers),
        bias=first.bias is not None,
        device=first.weight.device,
        dtype=first.weight.dtype,
    )
    with torch.no_grad():
        merged.weight.copy_(torch.cat([layer.weight for layer in layers]))
        if first.bias is not None:
            merged.bias.copy_(torch.cat([layer.bias for layer in layers]))
    return merged
