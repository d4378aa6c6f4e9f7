"""Consistency over views, on vectors made by hand."""

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.evaluation.consistency import direction_consistency, pooled_features


def test_is_the_cosine_of_neighbours_changes() -> None:
    before = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 3.0], [7.0, 7.0]])
    change = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -4.0], [0.0, 0.0]])
    value = direction_consistency(before, before + change)
    assert value.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5), 0])


def test_a_single_view_has_no_neighbour() -> None:
    value = direction_consistency(torch.ones(1, 3), torch.zeros(1, 3))
    assert len(value) == 0
    assert value.mean().isnan()


def test_pooled_features_forget_places_and_lengths() -> None:
    def layers(image: Tensor) -> list[Tensor]:
        return [image, 2 * image[:, :1]]

    image = torch.rand(2, 3, 4, 5)
    pooled = pooled_features(layers, image)
    mean = image.mean((2, 3))
    torch.testing.assert_close(pooled, torch.cat([mean / mean.norm(dim=1, keepdim=True), torch.ones(2, 1)], 1))
    torch.testing.assert_close(pooled_features(layers, 3 * image.flip(2)), pooled)
