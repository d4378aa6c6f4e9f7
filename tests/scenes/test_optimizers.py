"""Optimisers that leave out steps which are not finite, told at once or on the device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.optimizers import BAD_STEPS_IN_A_ROW, EditAdamConfig, EditOptimizers


@pytest.fixture(params=[False, True], ids=["plain", "fused"])
def optimizers(request: pytest.FixtureRequest) -> EditOptimizers:
    config = {
        name: {"optimizer": EditAdamConfig(lr=0.1, fused=request.param), "scheduler": None} for name in ("a", "b")
    }
    return EditOptimizers(config, {name: [nn.Parameter(torch.ones(3))] for name in config})


def step(optimizers: EditOptimizers, scaler: Any, bad: bool) -> bool:
    """Whether a step with a good or a bad gradient in group b changed anything."""
    for (parameter,) in optimizers.parameters.values():
        parameter.grad = torch.ones(3)
    if bad:
        optimizers.parameters["b"][0].grad[1] = torch.inf  # type: ignore[index]
    scaler.scale(torch.ones(1))
    before = [parameters[0].clone() for parameters in optimizers.parameters.values()]
    optimizers.optimizer_scaler_step_some(scaler, ["a", "b"])
    scaler.update()
    return any(not torch.equal(x, p[0]) for x, p in zip(before, optimizers.parameters.values(), strict=True))


def test_a_bad_gradient_stops_all_groups(optimizers: EditOptimizers) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert [step(optimizers, scaler, bad) for bad in (False, True, False)] == [True, False, True]
    assert optimizers.skipped == 1


def test_a_step_left_out_leaves_no_trace(optimizers: EditOptimizers) -> None:
    """Not in Adam's moments nor its count of steps, either: the next step is as if it had not been."""
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    step(optimizers, scaler, False)
    state = [
        {name: value.clone() for name, value in values.items()}
        for optimizer in optimizers.optimizers.values()
        for values in optimizer.state.values()
    ]
    step(optimizers, scaler, True)
    after = [values for optimizer in optimizers.optimizers.values() for values in optimizer.state.values()]
    for kept, now in zip(state, after, strict=True):
        assert kept.keys() == now.keys() and all(torch.equal(kept[name], now[name]) for name in kept)


@pytest.mark.parametrize("enabled", [False, True])
def test_only_steps_in_a_row_stop_the_run(enabled: bool, optimizers: EditOptimizers) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)
    for _ in range(3):
        for _ in range(BAD_STEPS_IN_A_ROW - 1):
            step(optimizers, scaler, True)
        step(optimizers, scaler, False)
    for _ in range(BAD_STEPS_IN_A_ROW - 1):
        step(optimizers, scaler, True)
    with pytest.raises(UserError, match="steps in a row"):
        step(optimizers, scaler, True)


def test_fused_optimizers_are_not_looked_at(optimizers: EditOptimizers, monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is asked of the device before the step is taken."""
    asked: list[str] = []
    usual = {name: getattr(torch.Tensor, name) for name in ("__bool__", "item", "tolist")}

    def noted(name: str) -> Callable[[torch.Tensor], Any]:
        def ask(self: torch.Tensor) -> Any:
            asked.append(name)
            return usual[name](self)

        return ask

    for name in usual:
        monkeypatch.setattr(torch.Tensor, name, noted(name))
    monkeypatch.setattr(optimizers, "count", lambda: asked.append("count"))
    fused = all(optimizers._fused(name) for name in optimizers.optimizers)
    step_scaler = torch.amp.GradScaler("cpu", enabled=False)
    for (parameter,) in optimizers.parameters.values():
        parameter.grad = torch.ones(3)
    optimizers.optimizer_scaler_step_some(step_scaler, ["a", "b"])
    assert (asked[0] == "count") == fused
