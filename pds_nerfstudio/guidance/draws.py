"""The random numbers of an edit: one stream for times and noise, which a resumed run goes on with."""

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Draws:
    """A stream of random numbers; the global one is neither used nor moved.

    Args:
        seed: Where it begins.
        device: Where its numbers are.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        """Moved on by each draw."""

    def noise(self, like: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw standard normal numbers of a tensor's shape and dtype."""
        return torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def state(self) -> Tensor:
        """Return where the stream is."""
        return self.generator.get_state()

    def go_on_from(self, state: Any) -> None:
        """Go on from a saved state. One of another kind of device cannot be used: that warns."""
        try:
            self.generator.set_state(state.cpu())
        except RuntimeError:
            warnings.warn(
                "The saved random state is of another kind of device: the run goes on with other noise.",
                stacklevel=3,
            )
