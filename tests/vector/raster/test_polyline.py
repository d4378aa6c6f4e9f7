from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.polyline import Polylines, dash_contour, drop_points, lengths, neighbours
from tests.vector.conftest import Check

Point = tuple[float, ...]


def _line(*points: Point) -> Tensor:
    corners = torch.tensor(points, dtype=torch.float64)
    return torch.stack([corners[:-1], corners[1:]], 1)


def _dash(
    points: Sequence[Point],
    pattern: tuple[float, ...],
    offset: float = 0.0,
    closed: bool = False,
    unit: Tensor | None = None,
) -> Polylines:
    edges = _line(*points)
    return dash_contour(edges, torch.zeros(len(edges), dtype=torch.bool), closed, pattern, offset, unit)


def _spans(dashes: Polylines) -> list[list[Point]]:
    """Return each dash as its list of points."""
    found = []
    for contour in range(dashes.closed.numel()):
        own = dashes.edges[dashes.contour == contour]
        assert torch.equal(own[1:, 0], own[:-1, 1])
        found.append([tuple(p) for p in own[:, 0].tolist()] + [tuple(own[-1, 1].tolist())])
    return found


def test_lengths_have_no_gradient_at_a_point() -> None:
    edges = torch.tensor([[[1.0, 2], [1, 2]], [[0, 0], [3, 4]]], requires_grad=True)
    length = lengths(edges)
    assert length.tolist() == [0, 5]
    length.sum().backward()
    assert edges.grad is not None and edges.grad[0].abs().sum() == 0
    torch.testing.assert_close(edges.grad[1, 1], torch.tensor([0.6, 0.8]))


def test_points_are_dropped_and_corners_kept() -> None:
    edges = _line((0, 0), (1, 0), (1, 0), (2, 0), (5, 5), (5, 5))
    contour = torch.tensor([0, 0, 0, 1, 1])
    edges[3] = torch.tensor([[7.0, 7], [7, 7]])
    edges[4] = torch.tensor([[7.0, 7], [7, 7]])
    smooth = torch.tensor([True, False, True, False, False])
    lines = drop_points(Polylines(edges, contour, smooth, torch.tensor([True, True])))
    assert lines.contour.tolist() == [0, 0, 1]
    assert lines.smooth.tolist()[:2] == [False, True]
    assert lines.closed.tolist() == [True, False]


def test_neighbours_wrap_around_closed_contours_only() -> None:
    before, after = neighbours(torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([True, False, True]))
    assert before.tolist() == [2, 0, 1, -1, 3, 5]
    assert after.tolist() == [1, 2, 0, 4, -1, 5]


def test_dashes_run_on_around_corners() -> None:
    dashes = _dash([(0, 0), (5, 0), (5, 5)], (4, 2))
    assert _spans(dashes) == [[(0, 0), (4, 0)], [(5, 1), (5, 5)]]
    assert _spans(_dash([(0, 0), (5, 0), (5, 5)], (4, 2), 3)) == [
        [(0, 0), (1, 0)],
        [(3, 0), (5, 0), (5, 2)],
        [(5, 4), (5, 5)],
    ]


def test_dashes_have_a_measure_of_their_own() -> None:
    dashes = _dash([(0, 0), (8, 0)], (1.0, 1.0), offset=0.5, unit=torch.tensor(2.0))
    assert _spans(dashes) == [[(0, 0), (1, 0)], [(3, 0), (5, 0)], [(7, 0), (8, 0)]]


def test_offsets_count_in_both_directions_and_repeat() -> None:
    points = [(0, 0), (20, 0)]
    expected = _spans(_dash(points, (3, 2, 1, 4), 4))
    assert _spans(_dash(points, (3, 2, 1, 4), 14)) == expected
    assert _spans(_dash(points, (3, 2, 1, 4), -6)) == expected
    assert expected[0] == [(1, 0), (2, 0)]


def test_an_odd_pattern_is_repeated() -> None:
    assert _spans(_dash([(0, 0), (8, 0)], (1, 2, 3))) == [
        [(0, 0), (1, 0)],
        [(3, 0), (6, 0)],
        [(7, 0), (8, 0)],
    ]


def test_the_dash_over_the_start_of_a_closed_contour_is_one() -> None:
    square = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)]
    dashes = _dash(square, (4, 2), 3, closed=True)
    assert _spans(dashes) == [[(0, 1), (0, 0), (1, 0)], [(3, 0), (4, 0), (4, 3)], [(3, 4), (0, 4), (0, 3)]]
    assert not dashes.closed.any()
    assert _dash(square, (100, 2), 0, closed=True).closed.tolist() == [True]


@pytest.mark.parametrize("pattern", [(0, 0), (1e-9, 1e-9)])
def test_patterns_without_length_or_without_end_leave_the_line_solid(pattern: tuple[float, ...]) -> None:
    assert _spans(_dash([(0, 0), (9, 0)], pattern)) == [[(0, 0), (9, 0)]]


def test_dots_have_no_length() -> None:
    assert _spans(_dash([(0, 0), (5, 0)], (0, 2))) == [[(x, 0), (x, 0)] for x in (0, 2, 4)]


def test_gradient_by_the_points(gradient_error: Check) -> None:
    points = torch.tensor([[0.0, 0], [5, 1], [7, 6], [2, 9]])
    weight = torch.randn(40, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(p: Tensor) -> Tensor:
        edges = torch.stack([p[:-1], p[1:]], 1)
        dashes = dash_contour(edges, torch.zeros(3, dtype=torch.bool), False, (1.3, 0.9), 0.4)
        return (dashes.edges * weight[: len(dashes.edges)]).sum()

    assert gradient_error(loss, points) < 1e-6
