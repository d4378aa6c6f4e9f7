"""How a change gets from what the model works on to the picture."""

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.carry_back import carry_back
from pds_nerfstudio.guidance.latents import resize


@pytest.fixture
def pictures() -> Tensor:
    """Two pictures of a size that no model wants, with fine detail."""
    return torch.rand(2, 3, 45, 70, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.5


def smooth(picture: Tensor) -> Tensor:
    return resize(picture, (24, 40))


def test_no_change_is_no_change_to_the_bit(pictures: Tensor) -> None:
    before = smooth(pictures)
    assert torch.equal(carry_back(pictures, before, before.clone()), pictures)
    noise = 0.008 * torch.rand(before.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(carry_back(pictures, before, before + noise), pictures)


def test_a_slight_change_keeps_the_detail(pictures: Tensor) -> None:
    before = smooth(pictures)
    changed = carry_back(pictures, before, before - 0.035)
    assert torch.allclose(changed, pictures - 0.035, atol=1e-5)


def test_what_is_replaced_leaves_no_ghost(pictures: Tensor) -> None:
    before = smooth(pictures)
    changed = carry_back(pictures, before, torch.zeros_like(before))
    assert changed.abs().max() < 1e-6


def test_a_change_here_is_none_there(pictures: Tensor) -> None:
    before = smooth(pictures)
    after = before.clone()
    after[..., :10] = 0.0
    changed = carry_back(pictures, before, after)
    assert torch.equal(changed[..., 27:], pictures[..., 27:])
    assert changed[..., :12].abs().max() < 1e-6


@pytest.mark.parametrize("size", [(45, 70), (24, 40), (9, 16), (300, 20)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    source = torch.rand(1, 3, *size)
    before = smooth(source)
    changed = carry_back(source, before, 1 - before)
    assert changed.shape == source.shape
    assert 0 <= changed.min() and changed.max() <= 1
