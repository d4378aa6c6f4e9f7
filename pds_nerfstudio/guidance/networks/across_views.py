"""Self-attention that sees several pictures of one scene.

What a picture's self-attention finds in the keys and values of others, it draws as they do: so views that are edited in
one batch come to agree (DGE, Chen et al. 2024; for the frames of a video Text2Video-Zero, Khachatryan et al. 2023).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class KeyViews:
    """Open around calls of a UNet, it shows the first views of a batch to the self-attention of all.

    Args:
        unet: A diffusers UNet, whose transformer blocks call their self-attention attn1. It must not be compiled.
        views: How many views a batch holds, once or several times, one lot after the other.
        key_views: How many of them all see, the first. Each of those sees itself twice.
    """

    def __init__(self, unet: nn.Module, views: int, key_views: int) -> None:
        layers = [module for name, module in unet.named_modules() if name.rpartition(".")[2] == "attn1"]
        self._before: list[tuple[Any, Any]] = [(layer, layer.processor) for layer in layers]
        self._processor = _AcrossViews(views, key_views)

    def __enter__(self) -> None:
        for layer, _ in self._before:
            layer.processor = self._processor

    def __exit__(self, *error: object) -> None:
        for layer, processor in self._before:
            layer.processor = processor


class _AcrossViews:
    """A processor of unmasked self-attention, as diffusers' layers take one."""

    def __init__(self, views: int, key_views: int) -> None:
        self._views, self._key_views = views, key_views

    def __call__(
        self, attn: Any, hidden_states: Float[Tensor, "batch pixels width"], *others: Any, **options: Any
    ) -> Float[Tensor, "batch pixels width"]:
        lots = hidden_states.unflatten(0, (-1, self._views))
        keys = lots[:, : self._key_views].flatten(1, 2)[:, None].expand(-1, self._views, -1, -1)
        seen = torch.cat([lots, keys], dim=2).flatten(0, 1)

        def by_head(x: Float[Tensor, "batch items width"]) -> Float[Tensor, "batch heads items of_head"]:
            heads: Tensor = x.unflatten(2, (attn.heads, -1))
            return heads.transpose(1, 2)

        attended = F.scaled_dot_product_attention(
            by_head(attn.to_q(hidden_states)), by_head(attn.to_k(seen)), by_head(attn.to_v(seen))
        )
        answer: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return answer
