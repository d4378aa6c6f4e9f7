"""Where a UNet looks for words: its attention, noted while it predicts.

The cross-attention of edited words shows where they act on the picture, and self-attention spreads that over what looks
alike (LUSD, Chinchuthakun et al. 2025). Probabilities are computed again from the layers' own projections, in hooks
beside them: whatever computes the attention itself goes on doing so, and predictions stay what they are, to the bit.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class WordAttention:
    """Open around one call of a UNet, it notes how much each place attends to some words.

    Args:
        unet: A diffusers UNet, whose transformer blocks call their self-attention attn1 and cross-attention attn2.
        words: The tokens that count, for each element of the call's batch.
        largest: Self-attention is noted in layers of at most so many pixels a side on average, since it takes their
            fourth power in memory.
    """

    def __init__(self, unet: nn.Module, words: Bool[Tensor, "batch tokens"], largest: int = 32) -> None:
        self._unet, self._words, self._largest = unet, words, largest
        self._handles: list[Any] = []
        self._cross: list[Float[Tensor, "batch pixels"]] = []
        self._self: list[Float[Tensor, "batch pixels pixels"]] = []

    def __enter__(self) -> "WordAttention":
        for name, module in self._unet.named_modules():
            hook = {"attn1": self._note_self, "attn2": self._note_cross}.get(name.rpartition(".")[2])
            if hook is not None:
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _note_cross(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        probabilities = _probabilities(layer, args[0], kwargs["encoder_hidden_states"])
        share = self._words.to(probabilities)[:, None]
        self._cross.append((probabilities * share).sum(2) / share.sum(2).clamp_min(1))

    def _note_self(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if args[0].shape[1] <= self._largest**2:
            self._self.append(_probabilities(layer, args[0], args[0]))

    def map(self, size: tuple[int, int]) -> Float[Tensor, "batch 1 height width"]:
        """Return the attention to the words, averaged over all layers, spread by the finest self-attention noted.

        Args:
            size: Height and width of the latents that the UNet was given.

        Returns:
            Shares of all attention, in [0, 1], of the latents' size; 0 for elements without words.
        """
        finest = max(spread.shape[1] for spread in self._self)
        spread = torch.stack([some for some in self._self if some.shape[1] == finest]).mean(0)
        grid = _grid(finest, size)
        maps = [F.interpolate(_unfold(some, size), grid, mode="bilinear", antialias=True) for some in self._cross]
        mean = torch.stack(maps).mean(0).flatten(1)
        everywhere = _unfold(torch.einsum("bij,bj->bi", spread, mean), size)
        return F.interpolate(everywhere, size, mode="bilinear")


def _probabilities(
    layer: Any, queries: Float[Tensor, "batch pixels width"], keys: Float[Tensor, "batch items other"]
) -> Float[Tensor, "batch pixels items"]:
    """Return the softmax of queries and keys, averaged over the heads, in float32."""
    query, key = layer.head_to_batch_dim(layer.to_q(queries)), layer.head_to_batch_dim(layer.to_k(keys))
    scores: Tensor = layer.get_attention_scores(query, key).float()
    per_head: Tensor = scores.unflatten(0, (len(queries), -1))
    return per_head.mean(1)


def _grid(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a layer of so many pixels, whose sides are the latents' divided by a power of two."""
    factor = math.isqrt(size[0] * size[1] // pixels)
    return size[0] // factor, size[1] // factor


def _unfold(values: Float[Tensor, "batch pixels"], size: tuple[int, int]) -> Float[Tensor, "batch 1 _ _"]:
    unfolded: Tensor = values.unflatten(1, _grid(values.shape[1], size))
    return unfolded[:, None]
