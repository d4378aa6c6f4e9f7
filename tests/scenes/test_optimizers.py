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


class TestFloors:
    """Steps of numbers whose gradients are small beside a floor are shorter; see `signal`."""

    def steps(self, optimizers: EditOptimizers, gradients: list[float], floor: float | None) -> torch.Tensor:
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        (parameter,) = optimizers.parameters["a"]
        if floor is not None:
            optimizers.set_floor("a", [torch.full((3,), floor)])
        for gradient in gradients:
            parameter.grad = torch.full((3,), gradient)
            optimizers.optimizer_scaler_step_some(scaler, ["a"])
        return 1 - parameter.detach()

    def test_a_step_is_the_gradient_over_the_root_of_both(self, optimizers: EditOptimizers) -> None:
        for gradient, floor in ((0.3, 0.16), (-0.3, 0.16)):
            moved = self.steps(optimizers, [gradient], floor)
            torch.testing.assert_close(moved, torch.full((3,), 0.1 * gradient / (gradient**2 + floor) ** 0.5))
            optimizers.parameters["a"][0].data.fill_(1)
            optimizers.optimizers["a"].state.clear()

    def test_many_steps_follow_the_formula(self, optimizers: EditOptimizers) -> None:
        gradients, floor, mean, square, at = [0.3, -0.1, 0.2, 0.05], 0.04, 0.0, 0.0, 0.0
        for k, gradient in enumerate(gradients, 1):
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            at += 0.1 * (mean / (1 - 0.9**k)) / (square / (1 - 0.999**k) + floor) ** 0.5
        torch.testing.assert_close(self.steps(optimizers, gradients, floor), torch.full((3,), at))

    def test_without_a_floor_it_is_adam_to_the_bit(self, optimizers: EditOptimizers) -> None:
        with_none = self.steps(optimizers, [0.3, -0.1, 0.2], None)
        optimizers.parameters["a"][0].data.fill_(1)
        optimizers.optimizers["a"].state.clear()
        assert torch.equal(self.steps(optimizers, [0.3, -0.1, 0.2], 0.0), with_none)

    def test_other_groups_take_full_steps(self, optimizers: EditOptimizers) -> None:
        optimizers.set_floor("a", [torch.ones(3)])
        (b,) = optimizers.parameters["b"]
        b.grad = torch.full((3,), 1e-3)
        optimizers.optimizer_scaler_step_some(torch.amp.GradScaler("cpu", enabled=False), ["b"])
        torch.testing.assert_close(1 - b.detach(), torch.full((3,), 0.1), rtol=1e-4, atol=0)

    def test_what_was_added_since_takes_full_steps(self, optimizers: EditOptimizers) -> None:
        """A floor is as long as the parameter was: strewn Gaussians come after it, at the end."""
        optimizers.set_floor("a", [torch.ones(2)])
        (a,) = optimizers.parameters["a"]
        a.grad = torch.full((3,), 1e-3)
        optimizers.optimizer_scaler_step_some(torch.amp.GradScaler("cpu", enabled=False), ["a"])
        assert (1 - a.detach()).tolist() == pytest.approx([1e-4, 1e-4, 0.1], rel=1e-3)

    def test_they_are_kept_with_adams_memories(self, optimizers: EditOptimizers) -> None:
        """So they grow and shrink with the Gaussians, and go into checkpoints."""
        self.steps(optimizers, [0.3], 0.5)
        optimizer = optimizers.optimizers["a"]
        optimizer.load_state_dict(optimizer.state_dict())
        assert torch.equal(optimizer.state[optimizers.parameters["a"][0]]["floor"], torch.full((3,), 0.5))

    def test_one_whose_gradient_comes_late_has_its_floor_then(self) -> None:
        """As a NeRF's parameters do that the first view doesn't reach."""
        pair = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))]
        optimizers = EditOptimizers(
            {"a": {"optimizer": EditAdamConfig(lr=0.1, fused=False), "scheduler": None}}, {"a": pair}
        )
        optimizers.set_floor("a", [torch.ones(3), torch.ones(3)])
        for late in (False, True):
            pair[0].grad, pair[1].grad = torch.full((3,), 1e-3), torch.full((3,), 1e-3) if late else None
            optimizers.optimizer_scaler_step_some(torch.amp.GradScaler("cpu", enabled=False), ["a"])
        assert (1 - pair[1].detach()).tolist() == pytest.approx([1e-4] * 3, rel=1e-2)
