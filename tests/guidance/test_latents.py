"""Image sizes for the model, and the cache of source latents."""

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.latents import LatentCache, model_image_size, resize


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 512, (512, 512)),
        (100, 100, (512, 512)),
        (1080, 1920, (384, 704)),
        (1920, 1080, (704, 384)),
        (16, 2000, (64, 5696)),
    ],
)
def test_image_gets_the_models_area_in_its_own_shape(height: int, width: int, expected: tuple[int, int]) -> None:
    assert model_image_size(height, width, resolution=512, multiple=64) == expected


def test_tiny_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"15×400 pixels.*at least 16"):
        model_image_size(400, 15, 512, 64)


def test_resize_keeps_range_and_mean_and_passes_gradients() -> None:
    image = torch.rand(2, 3, 40, 60, generator=torch.Generator().manual_seed(0)).requires_grad_()
    small = resize(image, (8, 16))
    assert small.shape == (2, 3, 8, 16) and small.min() >= 0 and small.max() <= 1
    torch.testing.assert_close(small.mean(), image.mean(), atol=0.01, rtol=0)
    small.sum().backward()
    assert image.grad is not None and (image.grad > 0).all()


def test_resize_filters_what_the_smaller_image_cannot_show() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert resize(stripes, (16, 16))[..., 1:-1].sub(0.5).abs().max() < 0.1


def test_resize_leaves_images_of_the_right_size_alone() -> None:
    image = torch.rand(1, 3, 32, 48)
    assert resize(image, (32, 48)) is image


class Encoder:
    """Doubles images, and remembers how many it was given at a time."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images * 2


def test_cache_encodes_each_view_once_and_only_what_is_new() -> None:
    cache, encode = LatentCache(10), Encoder()
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(cache.get_or_encode(["a", "b"], images[:2], encode), images[:2] * 2)
    latents = cache.get_or_encode(["c", "a", "b", "d"], images[[2, 0, 1, 3]], encode)
    torch.testing.assert_close(latents, images[[2, 0, 1, 3]] * 2)
    cache.get_or_encode([*"abcd"], images, encode)
    assert encode.batches == [2, 2]


def test_cache_encodes_a_view_that_comes_twice_in_a_batch_once() -> None:
    cache, encode = LatentCache(10), Encoder()
    image = torch.rand(1, 3, 8, 8).expand(2, -1, -1, -1)
    torch.testing.assert_close(cache.get_or_encode(["a", "a"], image, encode), image * 2)
    assert encode.batches == [1]


def test_cache_is_bounded_and_serves_batches_beyond_its_bound() -> None:
    cache, encode = LatentCache(2), Encoder()
    images = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(cache.get_or_encode([*"abc"], images, encode), images * 2)
    cache.get_or_encode([*"bc"], images[1:], encode)
    cache.get_or_encode(["a"], images[:1], encode)
    assert encode.batches == [3, 1]


def test_cached_latents_carry_no_graph() -> None:
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert not LatentCache(1).get_or_encode(["a"], image, Encoder()).requires_grad


def test_cleared_cache_encodes_again() -> None:
    cache, encode = LatentCache(2), Encoder()
    image = torch.rand(1, 3, 8, 8)
    cache.get_or_encode(["a"], image, encode)
    cache.clear()
    cache.get_or_encode(["a"], image, encode)
    assert encode.batches == [1, 1]
