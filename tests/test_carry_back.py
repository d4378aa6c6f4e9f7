"""How a change gets from what the model works on to the picture."""

import pytest
import torch
import torch.nn.functional as F
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
    assert torch.allclose(changed, pictures - 0.035, atol=1e-4)  # a fortieth of a step of a byte


def test_another_color_on_a_flat_thing_keeps_the_texture_that_the_model_never_saw() -> None:
    texture = 0.1 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float() - 0.05  # gone at half the size
    source = (torch.tensor([0.3, 0.4, 0.6])[:, None, None] + texture)[None]
    before = resize(source, (32, 32))
    after = before.clone()
    after[..., :16] += torch.tensor([0.4, -0.1, -0.4])[:, None, None]
    changed = carry_back(source, before, after)
    expected = source[..., :24] + torch.tensor([0.4, -0.1, -0.4])[:, None, None]
    assert torch.allclose(changed[..., :24], expected, atol=1e-3)
    assert torch.equal(changed[..., 37:], source[..., 37:])


@pytest.mark.parametrize(("light", "color"), [(1.0, 0.2), (0.4, 0.0), (0.6, 0.4)])
def test_detail_follows_another_light(light: float, color: float) -> None:
    """As the structure does that the model saw."""
    source = 0.2 + 0.3 * resize(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), (160, 160))
    source += 0.05 * torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    before = resize(source, (80, 80))
    changed = carry_back(source, before, before * light + color)
    expected = source * light + color
    plain = resize(before * light + color, (160, 160))
    assert (changed - expected).square().mean() < 0.02 * (plain - expected).square().mean()


def test_what_is_replaced_leaves_no_ghost(pictures: Tensor) -> None:
    before = smooth(pictures)
    changed = carry_back(pictures, before, torch.zeros_like(before))
    assert changed.abs().max() < 0.5 / 255


def test_what_has_moved_leaves_no_rim_where_it_was_and_what_stands_beside_it_keeps_its_detail() -> None:
    """Of sharp things that the model sees blurred, at the same size."""

    def drawn(column: int) -> Tensor:
        picture = torch.full((1, 3, 64, 64), 0.5)
        picture[..., 20:32, column : column + 8] = torch.tensor([0.9, 0.6, 0.4])[:, None, None]
        picture[..., 40:60, 8:56:2] = 0.2  # what stands beside it
        return picture

    def seen(picture: Tensor) -> Tensor:
        for _ in range(2):
            picture = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return picture

    source, target = drawn(12), drawn(44)
    changed = carry_back(source, seen(source), seen(target))
    assert torch.equal(changed[..., 36:, :], target[..., 36:, :])
    there = changed[..., 14:36, 4:30]  # it, and a blurred edge beyond, where it was
    assert (there - 0.5).abs().mean() < 0.25 / 255
    assert (there - 0.5).abs().max() < 8 / 255


def test_a_change_here_is_none_there(pictures: Tensor) -> None:
    before = smooth(pictures)
    after = before.clone()
    after[..., :10] = 0.0
    changed = carry_back(pictures, before, after)
    assert torch.equal(changed[..., 27:], pictures[..., 27:])
    assert changed[..., :12].abs().max() < 0.5 / 255


@pytest.mark.parametrize("size", [(45, 70), (24, 40), (9, 16), (300, 20)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    source = torch.rand(1, 3, *size)
    before = smooth(source)
    changed = carry_back(source, before, 1 - before)
    assert changed.shape == source.shape
    assert 0 <= changed.min() and changed.max() <= 1
