"""Densification that leaves alone what an edit may not change."""

from __future__ import annotations

from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import remove
from jaxtyping import Bool
from torch import Tensor, nn

Parameters = dict[str, nn.Parameter] | nn.ParameterDict
Optimizers = dict[str, torch.optim.Optimizer]


class HoldingStrategy(DefaultStrategy):
    """gsplat's strategy, under which some Gaussians are held: they neither move, nor split, nor go.

    The state's "free" says which are not; gsplat duplicates, splits and removes it with the Gaussians, as it does with
    every tensor of the state. A held Gaussian's gradient is 0, and so are Adam's memories of it: it keeps every bit.
    """

    def hold(self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], free: Tensor) -> None:
        """Hold all Gaussians but those that are free.

        Args:
            params: Of the Gaussians.
            optimizers: Of the parameters, by the same names.
            state: Of this strategy.
            free: A truth value for each Gaussian.
        """
        state["free"] = free
        state.setdefault("hooked", {})
        for name, parameter in params.items():
            memory = optimizers[name].state.get(parameter, {})
            if "exp_avg" in memory:
                memory["exp_avg"].masked_fill_(_rows(~free, memory["exp_avg"]), 0)

    def step_pre_backward(  # noqa: D102
        self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int, info: dict[str, Any]
    ) -> None:
        super().step_pre_backward(params, optimizers, state, step, info)
        if "free" in state:
            for name, parameter in params.items():
                hooked, _ = state["hooked"].get(name, (None, None))
                if hooked is not parameter:  # growth and culling make new ones
                    hook = parameter.register_post_accumulate_grad_hook(lambda p: _hold_gradient(p, state["free"]))
                    state["hooked"][name] = parameter, hook

    def step_post_backward(  # noqa: D102
        self,
        params: Parameters,
        optimizers: Optimizers,
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        packed: bool = False,
    ) -> None:
        # At step 0 gsplat resets all opacities, however seldom it is to, which would undo the scene.
        super().step_post_backward(params, optimizers, state, step or -1, info, packed)

    def _grow_gs(self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int) -> Any:
        if "free" in state:
            state["grad2d"].masked_fill_(~state["free"], 0)
        return super()._grow_gs(params, optimizers, state, step)

    def _prune_gs(self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int) -> int:
        if "free" not in state:
            return super()._prune_gs(params, optimizers, state, step)
        faint = (params["opacities"].flatten().sigmoid() < self.prune_opa) & state["free"]
        n = int(faint.sum())
        if n:
            remove(params=params, optimizers=optimizers, state=state, mask=faint)
        return n


def release(state: dict[str, Any]) -> None:
    """Hold nothing any more by a strategy's state, which is to be replaced by another."""
    for _, hook in state.pop("hooked", {}).values():
        hook.remove()
    state.pop("free", None)


def _hold_gradient(parameter: Tensor, free: Bool[Tensor, " gaussians"]) -> None:
    assert parameter.grad is not None
    parameter.grad.masked_fill_(_rows(~free, parameter.grad), 0)


def _rows(which: Bool[Tensor, " gaussians"], like: Tensor) -> Tensor:
    """Return truth values of Gaussians in as many dimensions as a tensor of theirs."""
    return which.view(-1, *[1] * (like.ndim - 1))
