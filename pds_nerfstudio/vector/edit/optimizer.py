"""The optimiser of drawings."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class BlockAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) with one second moment a tensor, as Adam-mini has for blocks (Zhang et al. 2024).

    Adam moves every number by the same amount, those that the guidance hardly pulls on too: there it is all noise, and
    a drawing wears away where nothing should change. Measured against the whole tensor, what is pulled on hard goes
    far and the rest stays.

    Args:
        params: Parameter groups with their learning rates: how far a number goes in a step whose gradient is as large
            as is typical of its tensor.
        betas: Shares of the running means of the gradient and of its square that a step keeps.
    """

    def __init__(self, params: Iterable[dict], betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": 1.0, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """Take one step. Numbers whose gradient is exactly 0, as of what may not move, do not count."""
        assert closure is None
        for group in self.param_groups:
            keep, keep_square = group["betas"]
            for tensor in group["params"]:
                if tensor.grad is None:
                    continue
                state = self.state[tensor]
                if not state:
                    state.update(steps=0, mean=torch.zeros_like(tensor), square=tensor.new_zeros(()))
                state["steps"] += 1
                moved = tensor.grad.count_nonzero().clamp(min=1)
                state["mean"].lerp_(tensor.grad, 1 - keep)
                state["square"].lerp_(tensor.grad.square().sum() / moved, 1 - keep_square)
                mean = state["mean"] / (1 - keep ** state["steps"])
                root = (state["square"] / (1 - keep_square ** state["steps"])).sqrt()
                tensor -= group["lr"] * mean / root.clamp(min=1e-20)
