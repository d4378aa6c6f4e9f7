"""Whole paths move: every kind of move in the units it promises, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.edit.placement import Placement
from pds_nerfstudio.vector.raster.scene import Shape
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder

SQUARE = [(10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0)]
RADIUS = 10 * 2**0.5
"""From the middle of the square, (20, 20), to its corners."""


def _placement(movable: Tensor | None = None) -> tuple[Placement, Tensor]:
    builder = SceneBuilder()
    paths = [builder.add_polygon(SQUARE), builder.add_polygon([(50.0, 0.0), (54.0, 0.0), (54.0, 2.0)])]
    scene, parameters = builder.build([Shape(path) for path in paths])
    every = torch.ones(len(parameters.points), dtype=torch.bool)
    return Placement(parameters.points, scene.topology, every if movable is None else movable), parameters.points


def test_no_move_moves_nothing() -> None:
    placement, points = _placement()
    assert torch.equal(placement(placement.start), torch.zeros_like(points))


def test_a_shift_takes_one_path_along() -> None:
    placement, _ = _placement()
    moves = placement.start.clone()
    moves[0, :, 2] = torch.tensor([3.0, -2.0])
    assert torch.equal(placement(moves), torch.tensor([[3.0, -2.0]] * 4 + [[0.0, 0.0]] * 3))


@pytest.mark.parametrize("path", [0, 1])
def test_a_turn_keeps_shapes_and_moves_the_farthest_point_by_its_size(path: int) -> None:
    placement, points = _placement()
    small = 1e-3
    moves = placement.start.clone()
    moves[path, :, :2] = small * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    step = placement(moves)
    own = slice(0, 4) if path == 0 else slice(4, 7)
    assert step[own].norm(dim=1).max() == pytest.approx(small)
    torch.testing.assert_close(torch.pdist(points[own] + step[own]), torch.pdist(points[own]), rtol=1e-6, atol=0)


def test_a_stretch_grows_from_the_middle() -> None:
    placement, points = _placement()
    moves = placement.start.clone()
    moves[0, 0, 0] = RADIUS
    assert placement(moves)[:4] == pytest.approx((points[:4] - 20) * torch.tensor([1.0, 0.0]))


def test_locked_points_stay() -> None:
    placement, _ = _placement(torch.tensor([False] * 4 + [True] * 3))
    step = placement(torch.ones(2, 2, 3))
    assert bool((step[:4] == 0).all()) and bool((step[4:] != 0).any())


def test_a_path_of_a_single_place_only_shifts() -> None:
    builder = SceneBuilder()
    path = builder.add_polygon([(5.0, 5.0), (5.0, 5.0)])
    scene, parameters = builder.build([Shape(path)])
    placement = Placement(parameters.points, scene.topology, torch.tensor([True, True]))
    assert torch.equal(placement(torch.ones(1, 2, 3)), torch.ones(2, 2))
