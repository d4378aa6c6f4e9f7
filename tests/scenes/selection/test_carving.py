"""Cells of space that masks let change: against the projection of points, and where no view looks."""

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.scenes.selection.carving import CELLS, carve, cells_of

SIZE = 64
FOCAL = 70.0


def cameras(distortion: float = 0.0) -> Cameras:
    """Three that look at the origin along the axes, from a distance of 1."""
    x, y, z = torch.eye(3)
    poses = [
        torch.stack([right, up, back, back], 1) for right, up, back in ((x, y, z), (y, z, x), (z, x, y))
    ]  # OpenGL's: a camera looks against its third axis
    lens = torch.tensor([[distortion, 0, 0, 0, 0, 0]]).repeat(3, 1)
    return Cameras(torch.stack(poses), FOCAL, FOCAL, SIZE / 2, SIZE / 2, SIZE, SIZE, distortion_params=lens)


def disc(radius: float) -> Tensor:
    """A mask: a round place in the middle of a view, of a radius in pixels."""
    away = torch.arange(SIZE) + 0.5 - SIZE / 2
    return ((away[:, None] ** 2 + away**2).sqrt() < radius).float()


def centers(cells: Tensor) -> Tensor:
    """The centres of some cells within the unit cube."""
    return (cells.float() + 0.5) / CELLS * 4 - 2


def off_axis(points: Tensor, index: int) -> Tensor:
    """How far from a view's middle points are seen, in pixels; infinite where they are behind it."""
    pose = cameras().camera_to_worlds[index]
    local = (points - pose[:, 3]) @ pose[:, :3]
    away = FOCAL * local[:, :2].norm(dim=-1) / -local[:, 2]
    return torch.where(local[:, 2] < 0, away, torch.inf)


def test_they_are_what_all_masks_show_inside() -> None:
    free = carve(cameras(), dict.fromkeys(range(3), disc(12)), 0.5)
    some = centers(torch.nonzero(free))
    assert len(some) > 100 and some.abs().max() < 1  # three views bound it from all sides
    cell = 4 / CELLS * FOCAL / 0.7  # as large as one can look
    for index in range(3):
        assert off_axis(some, index).max() < 12 + cell
    grid = torch.cartesian_prod(*[torch.arange(-0.5, 0.5, 0.04)] * 3)
    well_inside = (torch.stack([off_axis(grid, index) for index in range(3)]) < 12 - cell).all(0)
    assert well_inside.any()
    assert free[cells_of(grid[well_inside]).unbind(-1)].all()


def test_a_view_without_a_mask_says_nothing_and_what_none_sees_stays() -> None:
    free = carve(cameras(), {0: disc(12)}, 0.5)
    assert free[cells_of(torch.tensor([0.0, 0, -30])).unbind(-1)]  # far behind what is shown
    assert free[cells_of(torch.tensor([0.0, 0, 0.5])).unbind(-1)]
    assert not free[cells_of(torch.tensor([0.0, 0, 1.4])).unbind(-1)]  # behind the camera
    assert not free[cells_of(torch.tensor([0.9, 0, 0])).unbind(-1)]  # seen, outside the mask


def test_lenses_bend_it() -> None:
    """With a lens that draws the picture's rim together, the same place in the picture is further out in space."""
    straight, bent = (carve(cameras(distortion), {0: disc(26)}, 0.5) for distortion in (0.0, -0.6))
    assert bent.sum() > 1.1 * straight.sum()


def test_cells_are_even_near_the_origin_and_endless_far_away() -> None:
    points = torch.tensor([[0.0, 0, 0], [4 / CELLS, 0, 0], [1e9, 0, 0], [-1e9, 2e9, 0]])
    assert cells_of(points + 1e-4)[:, 0].tolist() == [CELLS // 2, CELLS // 2 + 1, CELLS - 1, CELLS // 4]
