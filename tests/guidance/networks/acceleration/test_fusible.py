"""Group normalisation that a compiler can fuse."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pds_nerfstudio.guidance.networks.acceleration.fusible import FusibleGroupNorm, make_fusible
from tests.guidance.miniature import load_pipeline


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 12, 5, 7), (3, 12, 9)])
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_it_is_pytorchs(shape: tuple[int, ...], groups: int) -> None:
    norm = nn.GroupNorm(groups, 12, eps=1e-3).double()
    with torch.no_grad():
        norm.weight.copy_(random(12)), norm.bias.copy_(random(12).flip(0))
    # Channels of means far apart: a group's variance is not the mean of its channels'.
    x = (random(*shape) + 5 * random(12).view(12, *(1,) * (len(shape) - 2))).requires_grad_()
    expected, actual = norm(x), FusibleGroupNorm(norm)(x)
    torch.testing.assert_close(actual, expected)
    weight = random(*shape)
    for parameter in (x, norm.weight, norm.bias):
        torch.testing.assert_close(
            torch.autograd.grad(actual, parameter, weight, retain_graph=True),
            torch.autograd.grad(expected, parameter, weight, retain_graph=True),
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_costs_the_rounding_of_the_result_only(dtype: torch.dtype) -> None:
    norm = nn.GroupNorm(4, 12).to(dtype)
    x = (random(2, 12, 64, 64) + 30).to(dtype)
    actual = FusibleGroupNorm(norm)(x)
    assert actual.dtype == dtype
    expected = torch.nn.functional.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(actual, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-4)


def test_a_networks_are_replaced_and_its_weights_stay(model_folder: Path) -> None:
    vae = load_pipeline(model_folder).vae.double()
    image, names = random(1, 3, 32, 32), list(vae.state_dict())
    with torch.no_grad():
        expected = vae.encode(image).latent_dist.mode()
        make_fusible(vae)
        torch.testing.assert_close(vae.encode(image).latent_dist.mode(), expected)
    assert list(vae.state_dict()) == names
    assert not any(isinstance(m, nn.GroupNorm) for m in vae.modules())


class GradientLayouts(TorchDispatchMode):
    """Notes whether the gradients that convolutions are given to propagate are channels-last."""

    def __init__(self) -> None:
        super().__init__()
        self.channels_last: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.channels_last.append(args[0].is_contiguous(memory_format=torch.channels_last))
        return func(*args, **(kwargs or {}))


def test_gradients_stay_channels_last(model_folder: Path) -> None:
    vae = load_pipeline(model_folder).vae.requires_grad_(False).to(memory_format=torch.channels_last)
    make_fusible(vae)
    image = torch.rand(1, 3, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
    with GradientLayouts() as layouts:
        latent = vae.encode(image).latent_dist.mode()
        torch.autograd.grad(latent, image, torch.ones_like(latent))
    convolutions = [m for m in vae.encoder.modules() if isinstance(m, nn.Conv2d)]
    # One more makes the latent's moments. It alone gets what is no feature map: half of its outputs are not looked at.
    assert len(layouts.channels_last) == len(convolutions) + 1
    assert all(layouts.channels_last[1:])
