"""Curves that cross themselves cost something; what the source has of it is free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pds_nerfstudio.vector.edit.regularizers import CrossingLoss, crossing_angles

ARCH = [[0.0, 0.0], [0.0, 4.0], [6.0, 4.0], [6.0, 0.0]]
CROSSED = [[0.0, 0.0], [8.0, 4.0], [-2.0, 4.0], [6.0, 0.0]]
S_CURVE = [[0.0, 0.0], [3.0, 3.0], [3.0, -3.0], [6.0, 0.5]]
LINE = [[0.0, 0.0], [0.0, 0.0], [6.0, 3.0], [6.0, 3.0]]


def _curves(*curves: list[list[float]]) -> Tensor:
    return torch.tensor(curves, dtype=torch.float64)


def test_angles() -> None:
    left = torch.tensor([False, True, False, False])
    angles = crossing_angles(_curves(ARCH, CROSSED, S_CURVE, LINE), left)
    assert angles[0] == 0 and angles[3] == 0
    first, last = torch.tensor([8.0, 4]), torch.tensor([8.0, -4])
    expected = -(first[0] * last[1] - first[1] * last[0]) / (first.norm() * last.norm())
    torch.testing.assert_close(angles[1], expected.double())
    assert angles[2] > 0


def test_what_the_source_has_of_it_is_free() -> None:
    assert CrossingLoss(_curves(S_CURVE))(_curves(S_CURVE)) == 0
    assert CrossingLoss(_curves(ARCH))(_curves(ARCH)) == 0
    worse = _curves([[0, 0], [3, 3], [3, -3], [6, 3]])
    assert CrossingLoss(_curves(S_CURVE))(worse) > 0


def test_descending_uncrosses_a_curve() -> None:
    loss = CrossingLoss(_curves(ARCH))
    ctrl = _curves([[0, 0], [2, 4], [4, 4], [3, 8]]).requires_grad_()
    optimizer = torch.optim.SGD([ctrl], lr=0.05)
    before = float(loss(ctrl).detach())
    assert before > 0
    for _ in range(200):
        optimizer.zero_grad()
        loss(ctrl).backward()
        optimizer.step()
    assert float(loss(ctrl).detach()) < 0.05 * before


def test_the_gradient_of_the_angle_is_exact(gradient_error: Callable[..., float]) -> None:
    left = torch.tensor([True, False])
    ctrl = _curves(CROSSED, S_CURVE)
    assert gradient_error(lambda c: (crossing_angles(c, left) * torch.tensor([1.0, 2.0])).sum(), ctrl) < 1e-6
