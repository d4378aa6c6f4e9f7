"""Harmonics of a turned splat, against the colours that they stand for."""

import pytest
import torch

from pds_nerfstudio.scenes.files.harmonics import degree_of, turned_harmonics
from pds_nerfstudio.splat_rasterizer.projection import spherical_harmonics


def orthogonal(mirrors: bool) -> torch.Tensor:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)).double())[0]
    return turn * turn.det() * (-1 if mirrors else 1)


@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_a_turned_splat_shows_the_old_colours_in_turned_directions(degree: int, mirrors: bool) -> None:
    seed = torch.Generator().manual_seed(degree)
    rest = torch.randn(20, (degree + 1) ** 2 - 1, 3, generator=seed)
    directions = torch.randn(20, 3, generator=seed)
    turn = orthogonal(mirrors)
    nothing = torch.zeros(20, 1, 3)
    before = spherical_harmonics(degree, directions, torch.cat([nothing, rest], 1))
    turned = torch.cat([nothing, turned_harmonics(rest, turn)], 1)
    torch.testing.assert_close(spherical_harmonics(degree, directions @ turn.float().T, turned), before)
    assert (spherical_harmonics(degree, directions, turned) - before).abs().max() > 0.1


def test_without_harmonics_there_is_nothing_to_turn() -> None:
    assert turned_harmonics(torch.zeros(5, 0, 3), orthogonal(False)).shape == (5, 0, 3)


def test_the_degree_follows_from_the_number_of_coefficients() -> None:
    assert [degree_of((d + 1) ** 2 - 1) for d in range(5)] == [0, 1, 2, 3, 4]
    assert degree_of(7) is None
