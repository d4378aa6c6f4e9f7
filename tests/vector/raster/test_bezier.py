import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.bezier import bounding_boxes, chord_counts, flatten, turning
from tests.vector.conftest import Check


def _curves(n: int = 20) -> Tensor:
    return torch.rand(n, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40


def _evaluate(ctrl: Tensor, t: Tensor) -> Tensor:
    u = 1 - t
    basis = torch.stack([u**3, 3 * u * u * t, 3 * u * t * t, t**3], -1)
    return basis @ ctrl


def test_chords_keep_within_the_tolerance() -> None:
    ctrl = _curves()
    counts = chord_counts(ctrl, 0.05)
    assert counts.min() > 1
    for curve, n in zip(ctrl, counts.tolist(), strict=True):
        t = torch.arange(n, dtype=torch.float64)[:, None] / n + torch.linspace(0, 1, 9, dtype=torch.float64) / n
        points = _evaluate(curve, t)
        start, end = points[:, :1], points[:, -1:]
        along = (end - start) / (end - start).norm(dim=-1, keepdim=True)
        off = points - start
        distance = (off[..., 0] * along[..., 1] - off[..., 1] * along[..., 0]).abs()
        assert distance.max() <= 0.05 + 1e-9


def test_flatten_evaluates_the_curve_and_joins_to_the_last_bit() -> None:
    ctrl = _curves(3).float()
    edges, segment = flatten(ctrl, torch.tensor([4, 1, 7]))
    assert segment.tolist() == [0] * 4 + [1] + [2] * 7
    assert torch.equal(edges[:3, 1], edges[1:4, 0])
    assert torch.equal(edges[0, 0], ctrl[0, 0]) and torch.equal(edges[3, 1], ctrl[0, 3])
    torch.testing.assert_close(edges[2, 0], _evaluate(ctrl[0], torch.tensor(0.5)))


def test_flatten_gradient(gradient_error: Check) -> None:
    weight = torch.randn(12, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.tensor([4, 1, 7])
    assert gradient_error(lambda c: (flatten(c, counts)[0] * weight).sum(), _curves(3)) < 1e-8


def test_boxes_are_exact_and_differentiable(gradient_error: Check) -> None:
    ctrl = _curves(6)
    owner = torch.tensor([0, 0, 2, 2, 3, 3])
    boxes = bounding_boxes(ctrl, owner, 4)
    points = _evaluate(ctrl, torch.linspace(0, 1, 20001, dtype=torch.float64))
    for group in (0, 2, 3):
        own = points[owner == group].flatten(0, 1)
        dense = torch.cat([own.amin(0), own.amax(0)])
        torch.testing.assert_close(boxes[group], dense, atol=1e-5, rtol=0)
    assert boxes[1].tolist() == [0, 0, 0, 0]
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert gradient_error(lambda c: (bounding_boxes(c, owner, 4) * weight).sum(), ctrl) < 1e-6


def test_box_of_a_straight_line() -> None:
    line = torch.tensor([[[1.0, 5], [1, 5], [4, 2], [4, 2]]])
    assert bounding_boxes(line, torch.tensor([0]), 1)[0].tolist() == [1, 2, 4, 5]


def test_turning_of_a_quarter_circle_and_a_line() -> None:
    k = 0.5522847
    quarter = torch.tensor([[[1, 0], [1, k], [k, 1], [0, 1]], [[0, 0], [1, 1], [2, 2], [3, 3.0]]])
    torch.testing.assert_close(turning(quarter), torch.tensor([torch.pi / 2, 0.0]))
