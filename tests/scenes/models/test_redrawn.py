"""Redrawn views: pictures of mixed sizes, and rays through their pixels."""

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from pds_nerfstudio.scenes.models.redrawn import RedrawnViews

SIZES = [(3, 4), (2, 2), (5, 3)]  # height, width


@pytest.fixture
def cameras() -> Cameras:
    height, width = (torch.tensor(sides)[:, None] for sides in zip(*SIZES, strict=True))
    poses = torch.eye(4)[:3].repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([10.0, 20.0, 30.0])
    focal = torch.tensor([[4.0], [5.0], [6.0]])
    return Cameras(poses, focal, 1.1 * focal, width / 2, height / 2, width, height, None, CameraType.PERSPECTIVE)


def picture(index: int) -> torch.Tensor:
    """Its colours say which pixel is which."""
    height, width = SIZES[index]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, index)], dim=-1) * 10 / 255


def test_pictures_come_back_as_they_were_kept(cameras: Cameras) -> None:
    redrawn = RedrawnViews(cameras)
    assert 2 not in redrawn
    redrawn[2], redrawn[0] = picture(2), picture(0)
    assert 2 in redrawn and 0 in redrawn and 1 not in redrawn
    torch.testing.assert_close(redrawn[2], picture(2))
    torch.testing.assert_close(redrawn[0], picture(0))
    redrawn[0] = picture(0) * 2 - 0.05
    torch.testing.assert_close(redrawn[0], (picture(0) * 2 - 0.05).clamp_min(0), atol=0.5 / 255, rtol=0)
    with pytest.raises(KeyError):
        redrawn[1]
    redrawn.clear()
    assert 0 not in redrawn


def test_a_state_holds_the_pictures_and_no_others(cameras: Cameras) -> None:
    one, other = RedrawnViews(cameras), RedrawnViews(cameras)
    assert not one and one.state_dict() == {}
    one[2], one[0] = picture(2), picture(0)
    other[1] = picture(1)
    other.load_state_dict(one.state_dict())
    assert 1 not in other and len(other) == 2
    for index in (0, 2):
        assert torch.equal(other[index], one[index])
    rays, colors = other.sample(50)
    assert rays.camera_indices is not None
    assert set(rays.camera_indices[:, 0].tolist()) == {0, 2} and colors.max() <= 1


def test_rays_run_through_the_pixels_that_their_colors_are_of(cameras: Cameras) -> None:
    torch.manual_seed(0)
    redrawn = RedrawnViews(cameras)
    redrawn[0] = picture(0)
    redrawn.clear()
    redrawn[2], redrawn[1] = picture(2), picture(1)
    rays, colors = redrawn.sample(6000)
    assert rays.camera_indices is not None
    rows, columns, views = (colors * 25.5).round().long().unbind(-1)
    assert torch.equal(rays.camera_indices[:, 0], views)
    whole = {i: cameras[i : i + 1].generate_rays(camera_indices=0, keep_shape=True) for i in (1, 2)}
    for i in (1, 2):
        own = views == i
        assert own.float().mean() == pytest.approx(0.5, abs=0.03)  # though one has many more pixels
        at = rows[own], columns[own]
        torch.testing.assert_close(rays.origins[own], whole[i].origins[at])
        torch.testing.assert_close(rays.directions[own], whole[i].directions[at])
        seen = torch.zeros(SIZES[i])
        seen.index_put_(at, torch.ones(len(at[0])), accumulate=True)
        assert seen.min() > 0.7 * seen.mean() and seen.max() < 1.3 * seen.mean()
