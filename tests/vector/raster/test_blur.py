"""Gaussian blurs against the error function and a convolution by hand."""

import math

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.blur import Covariance, covariance, gaussian_blur


def _by_hand(picture: Tensor, blur: Covariance) -> Tensor:
    xx, xy, yy = blur
    inverse = torch.linalg.inv(torch.tensor([[xx, xy], [xy, yy]], dtype=torch.float64))
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in picture.shape[1:]), indexing="ij")
    places = torch.stack([columns, rows], -1).double().reshape(-1, 2)
    steps = places[:, None] - places
    weights = torch.exp(-0.5 * torch.einsum("abi,ij,abj->ab", steps, inverse, steps))
    return (picture.flatten(1) @ weights.T).view_as(picture) / (2 * math.pi * math.sqrt(xx * yy - xy * xy))


@pytest.mark.parametrize("deviation", [0.7, 3.0, 12.0])
def test_a_blurred_edge_is_an_error_function(deviation: float) -> None:
    picture = torch.zeros(1, 4 * int(8 * deviation) + 9, 200, dtype=torch.float64)
    picture[..., 100:] = 1
    row = gaussian_blur(picture, (deviation**2, 0.0, deviation**2))[0, picture.shape[1] // 2, :160]
    x = torch.arange(160, dtype=torch.float64) + 0.5 - 100
    # an edge between pixels, seen by a Gaussian at their centres
    wanted = 0.5 * (1 + torch.erf(x / (deviation * math.sqrt(2))))
    seen = x.abs() < 100 - 4 * deviation
    # sums of samples are integrals but for a 24th of the slope
    assert (row - wanted)[seen].abs().max() < 0.242 / 24 / deviation**2 * 1.15 + 1e-4


@pytest.mark.parametrize("blur", [(4.0, 0.0, 1.0), (3.0, 1.5, 2.0), (2.0, -1.0, 5.0)])
def test_it_is_a_convolution(blur: Covariance) -> None:
    picture = torch.rand(2, 17, 23, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (gaussian_blur(picture, blur) - _by_hand(picture, blur)).abs().max() < 0.03


def test_one_that_is_turned_keeps_what_there_is() -> None:
    dot = torch.zeros(1, 61, 61, dtype=torch.float64)
    dot[0, 30, 30] = 1
    cos, sin = math.cos(0.5), math.sin(0.5)
    xx, xy, yy = covariance(4.0, 1.0, (cos, sin, -sin, cos))
    blurred = gaussian_blur(dot, (xx, xy, yy))[0]
    steps = torch.arange(61, dtype=torch.float64) - 30
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-3)
    assert float((blurred * steps**2).sum()) == pytest.approx(xx, rel=0.02)
    assert float((blurred * steps**2 @ torch.ones(61).double()).sum()) == pytest.approx(xx, rel=0.02)
    assert float((blurred * steps[:, None] * steps).sum()) == pytest.approx(xy, rel=0.02)


@pytest.mark.parametrize("deviation", [0.0, 1e4])
def test_none_changes_nothing_and_a_huge_one_stays_finite(deviation: float) -> None:
    picture = torch.rand(4, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blurred = gaussian_blur(picture, (deviation**2, 0.0, deviation**2))
    assert torch.allclose(blurred, picture, atol=1e-9) if deviation == 0 else float(blurred.abs().max()) < 1e-4
