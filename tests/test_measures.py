"""The distance of pictures, against hand-made numbers."""

import math

import pytest
import torch

from pds_nerfstudio.measures import decibels, psnr


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5, 3)])
def test_channels_may_come_first_or_last(shape: tuple[int, ...]) -> None:
    reference = torch.full(shape, 0.5)
    assert psnr(reference + 0.1, reference).item() == pytest.approx(20, abs=1e-4)


def test_each_picture_of_a_batch_is_measured_by_itself() -> None:
    reference = torch.zeros(2, 2, 3, 4, 4)
    error = torch.tensor([[0.1, 0.01], [1.0, 0.0]])[:, :, None, None, None]
    assert psnr(reference + error, reference).flatten().tolist() == pytest.approx([20, 40, 0, math.inf], abs=1e-3)


def test_there_may_be_a_largest_number() -> None:
    image = torch.rand(3, 4, 4)
    assert psnr(image, image, most=120).item() == pytest.approx(120)
    assert psnr(image, image + 0.1, most=10).item() == pytest.approx(10)


def test_an_error_that_is_not_known_stays_so() -> None:
    assert decibels(torch.tensor([0.01, math.nan])).tolist() == pytest.approx([20, math.nan], nan_ok=True)
