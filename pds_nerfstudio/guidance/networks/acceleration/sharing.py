"""The start of a UNet computed once a latent, where it is asked what it sees in that latent under several prompts.

Up to its first cross-attention a UNet knows nothing of the prompt: its predictions with and without one, which
classifier-free guidance compares, are the same until there. In Stable Diffusion that is a residual block and one of the
largest self-attentions.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SharedStart:
    """Has a UNet compute what comes before its first cross-attention once for all prompts.

    Args:
        unet: A diffusers UNet, whose first layers are wrapped. It computes what it did until `prompts` is set.
    """

    def __init__(self, unet: Any) -> None:
        self.prompts = 1
        """How many times a batch holds the same latents and times, one after the other."""
        for block in getattr(unet, "down_blocks", ()):
            attentions = getattr(block, "attentions", None)
            if attentions:
                block.resnets[0] = _SharedLayer(block.resnets[0], self)
                transformer = next(iter(getattr(attentions[0], "transformer_blocks", ())), None)
                if transformer is not None and not transformer.only_cross_attention:
                    transformer.attn1.set_processor(_SharedAttention(transformer.attn1.processor, self))
                return
            for layers in filter(None, (block.resnets, block.downsamplers)):
                for i, layer in enumerate(layers):
                    layers[i] = _SharedLayer(layer, self)

    def once(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "once *rest"]:
        """Return the elements of one prompt."""
        return x[: len(x) // self.prompts]

    def for_all(self, x: Float[Tensor, "once *rest"]) -> Float[Tensor, "batch *rest"]:
        """Return what is the same for each prompt, for all of them."""
        return x if self.prompts == 1 else torch.cat([x] * self.prompts)  # which, unlike repeat, keeps channels last


class _SharedLayer(nn.Module):
    """A layer of latents and maybe times."""

    def __init__(self, layer: nn.Module, start: SharedStart) -> None:
        super().__init__()
        self.layer, self._start = layer, start

    def forward(self, x: Tensor, *times: Tensor) -> Tensor:
        return self._start.for_all(self.layer(self._start.once(x), *map(self._start.once, times)))


class _SharedAttention:
    """A processor of unmasked self-attention, as diffusers' layers take one."""

    def __init__(self, processor: Any, start: SharedStart) -> None:
        self._processor, self._start = processor, start

    def __call__(self, attn: Any, hidden_states: Tensor, *others: Any, **options: Any) -> Tensor:
        return self._start.for_all(self._processor(attn, self._start.once(hidden_states), *others, **options))
