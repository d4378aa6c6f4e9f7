"""Steps are measured against the whole tensor: what is pulled on hard goes far, the rest stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.edit.optimizer import BlockAdam


def _follow(gradients: list[float], steps: int = 1, lr: float = 0.5) -> Tensor:
    tensor = torch.zeros(len(gradients), requires_grad=True)
    optimizer = BlockAdam([{"params": [tensor], "lr": lr}])
    for _ in range(steps):
        tensor.grad = torch.tensor(gradients)
        optimizer.step()
    return tensor.detach()


def test_a_typical_gradient_moves_by_the_learning_rate() -> None:
    assert _follow([3.0, -3.0]) == pytest.approx(torch.tensor([-0.5, 0.5]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_only_proportions_count(scale: float) -> None:
    step = _follow([4 * scale, 0.04 * scale])
    assert step[0] / step[1] == pytest.approx(100)
    assert step.square().mean().sqrt() == pytest.approx(0.5)


def test_a_steady_gradient_keeps_its_pace() -> None:
    assert _follow([3.0, -3.0], steps=10) == pytest.approx(torch.tensor([-5.0, 5.0]))


def test_what_may_not_move_does_not_count() -> None:
    assert _follow([3.0, 0.0, 0.0, 0.0]) == pytest.approx(torch.tensor([-0.5, 0, 0, 0]))


def test_no_gradient_moves_nothing() -> None:
    assert _follow([0.0, 0.0], steps=3).tolist() == [0, 0]


def test_changing_gradients_average_out() -> None:
    tensor = torch.zeros(1, requires_grad=True)
    optimizer = BlockAdam([{"params": [tensor], "lr": 1.0}])
    for k in range(100):
        tensor.grad = torch.tensor([(-1.0) ** k])
        optimizer.step()
    assert abs(tensor.item()) < 3  # and not 100


def test_each_tensor_has_its_own_measure() -> None:
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = BlockAdam([{"params": [a, b], "lr": 1.0}])
    a.grad, b.grad = torch.tensor([1.0]), torch.tensor([100.0])
    optimizer.step()
    assert a.item() == pytest.approx(-1) and b.item() == pytest.approx(-1)
