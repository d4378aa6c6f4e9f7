"""Layers of a channels-last network, written so that a compiler can fuse them into few passes over memory.

A feature map of the VAE's first block at 512 × 512 is 64 MiB: what such a network costs beside its convolutions is how
often it is read and written. PyTorch's own layers hide two things from the compiler:

- group normalisation wants an image's rows next to each other: it and its gradient turn every feature map around and
  back. Taking each channel's mean and variance first reads memory in its order, and a group's follow from those;
- a convolution adds its bias in a pass of its own where its result is kept for the backward pass. An addition beside it
  is fused with what follows, and done again in the backward pass.

On an H100 both together take a fifth off a step of guidance (docs/performance.md). Uncompiled they are slower than
PyTorch's.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FusibleGroupNorm(nn.Module):
    """What an ``nn.GroupNorm`` computes, with its parameters.

    Args:
        norm: That one, with weights.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.num_groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Float[Tensor, "batch channels *places"]) -> Float[Tensor, "batch channels *places"]:
        """Statistics in at least float32, the result in the input's dtype."""
        fine = x.to(torch.promote_types(x.dtype, torch.float32))
        variances, means = torch.var_mean(fine, tuple(range(2, x.ndim)), correction=0)
        variances, means = (c.unflatten(1, (self.num_groups, -1)) for c in (variances, means))
        # Variances add up: those within the channels, and that of the channels' means.
        between, mean = torch.var_mean(means, 2, correction=0, keepdim=True)
        deviation = (variances.mean(2, keepdim=True) + between + self.eps).sqrt()
        scale = self.weight.to(fine.dtype).unflatten(0, (self.num_groups, -1)) / deviation
        shift = self.bias.to(fine.dtype).unflatten(0, (self.num_groups, -1)) - mean * scale
        scale, shift = (c.reshape(*x.shape[:2], *(1,) * (x.ndim - 2)) for c in (scale, shift))
        return (fine * scale + shift).to(x.dtype)


class FusibleConvolution(nn.Module):
    """What an ``nn.Conv2d`` with a bias computes, with its parameters.

    Args:
        convolution: That one, padded with zeros.
    """

    bias: nn.Parameter

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, cast(nn.Parameter, convolution.bias)
        names = ("stride", "padding", "dilation", "groups")
        self._options: dict[str, Any] = {name: getattr(convolution, name) for name in names}

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters _ _"]:
        """The convolution, then its bias."""
        return F.conv2d(x, self.weight, **self._options) + self.bias[:, None, None]


def make_fusible(network: nn.Module) -> None:
    """Replace a network's layers by these; its parameters and their names stay."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, FusibleGroupNorm(child))
            elif isinstance(child, nn.Conv2d) and child.bias is not None and child.padding_mode == "zeros":
                setattr(module, name, FusibleConvolution(child))
