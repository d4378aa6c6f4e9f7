"""A splat in other coordinates, against rendering it from the camera that was moved with it."""

from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.splats import Similarity, Splats
from pds_nerfstudio.splat_rasterizer.rasterizer import rasterization


def turn(mirrors: bool = False, seed: int = 7) -> torch.Tensor:
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double())[0]
    return matrix * matrix.det() * (-1 if mirrors else 1)


def rendered(splats: Splats, view: torch.Tensor) -> torch.Tensor:
    intrinsics = torch.tensor([[[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]])
    degree = {0: 0, 3: 1, 8: 2, 15: 3}[splats.rest.shape[1]]
    colors = torch.cat([splats.base[:, None], splats.rest], 1)
    image, _, _ = rasterization(
        splats.means,
        splats.quats,
        splats.scales.exp(),
        splats.opacities.sigmoid(),
        colors,
        view[None],
        intrinsics,
        64,
        48,
        sh_degree=degree,
    )
    return image[0]


VIEW = torch.tensor([[1.0, 0, 0, 0.1], [0, 1, 0, -0.1], [0, 0, 1, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_a_camera_that_is_moved_along_sees_the_same_picture(degree: int, mirrors: bool, make_splats: Any) -> None:
    splats = make_splats(degree=degree)
    move = Similarity(turn(mirrors), 2.5, torch.tensor([0.3, -4.0, 1.0]))
    # x' = s Q x + t, and the camera keeps its picture: V' x' = s V x, of which the depth alone is another.
    back = torch.eye(4)
    back[:3, :3], back[:3, 3] = move.turn.T, -(move.turn.T @ move.shift.double())
    view = VIEW.clone()
    view[:3, 3] *= move.size
    before, after = rendered(splats, VIEW), rendered(splats.moved(move), view @ back)
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, atol=2e-4, rtol=0)


def test_moving_back_gives_the_same_splat(make_splats: Any) -> None:
    splats = make_splats()
    move = Similarity(turn(), 0.2, torch.tensor([0.3, -4.0, 1.0]))
    again = splats.moved(move).moved(move.inverse())
    sign = torch.sign((again.quats * splats.quats).sum(-1, keepdim=True))
    for name, values in vars(splats).items():
        theirs = again.quats * sign if name == "quats" else getattr(again, name)
        torch.testing.assert_close(theirs, values, atol=2e-5, rtol=1e-4)


def test_the_columns_of_a_file_are_those_of_the_reference_code(make_splats: Any) -> None:
    """Kerbl et al.'s code keeps harmonics as (n, K, 3), and writes all of one channel, then all of the next."""
    splats = make_splats(degree=2)
    columns = splats.columns()
    assert list(columns) == [
        *"xyz",
        *("nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(24)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    assert torch.equal(columns["f_rest_9"], splats.rest[:, 1, 1])
    again = Splats.of_columns(columns)
    assert all(torch.equal(values, getattr(again, name)) for name, values in vars(splats).items())


class TestDataParser:
    def test_its_map_is_transform_then_scale(self) -> None:
        transform = torch.cat([turn().float(), torch.tensor([[1.0], [2], [3]])], 1)
        points = torch.randn(5, 3)
        expected = (points @ transform[:, :3].T + transform[:, 3]) * 0.25
        move = Similarity.of_data_parser(transform, 0.25)
        torch.testing.assert_close(move.size * points @ move.turn.float().T + move.shift.float(), expected)

    def test_a_transform_may_scale(self) -> None:
        transform = torch.cat([turn().float() * 3, torch.ones(3, 1)], 1)
        assert Similarity.of_data_parser(transform, 0.5).size == pytest.approx(1.5)

    def test_one_that_squeezes_is_refused(self) -> None:
        transform = torch.cat([torch.diag(torch.tensor([1.0, 1, 2])), torch.ones(3, 1)], 1)
        with pytest.raises(UserError, match="squeezes the scene"):
            Similarity.of_data_parser(transform, 1.0)
