"""Group normalisation that a compiler can fuse, for networks whose channels lie next to each other in memory.

PyTorch's own wants an image's rows next to each other: in a channels-last network it and its gradient turn every
feature map around and back, and the one of the VAE's first block at 512 × 512 is 64 MiB. Here each channel's mean and
variance are taken first, which reads memory in its order, and a group's follow from those. On an H100 the VAE's part of
a step, forward and backward, went from 11.7 to 7.7 ms by it (docs/performance.md). Uncompiled it is slower than
PyTorch's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FusibleGroupNorm(nn.Module):
    """What an `nn.GroupNorm` computes, with its parameters.

    Args:
        norm: That one, with weights.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.num_groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Float[Tensor, "batch channels *places"]) -> Float[Tensor, "batch channels *places"]:
        """Normalise, with statistics in at least float32, the result in the input's dtype."""
        fine = x.to(torch.promote_types(x.dtype, torch.float32))
        variances, means = torch.var_mean(fine, tuple(range(2, x.ndim)), correction=0)
        variances, means = (c.unflatten(1, (self.num_groups, -1)) for c in (variances, means))
        # Variances add up: those within the channels, and that of the channels' means.
        between, mean = torch.var_mean(means, 2, correction=0, keepdim=True)
        deviation = (variances.mean(2, keepdim=True) + between + self.eps).sqrt()
        scale = self.weight.to(fine.dtype).unflatten(0, (self.num_groups, -1)) / deviation
        shift = self.bias.to(fine.dtype).unflatten(0, (self.num_groups, -1)) - mean * scale
        scale, shift = (c.reshape(*x.shape[:2], *(1,) * (x.ndim - 2)) for c in (scale, shift))
        normalised: Tensor = fine * scale + shift
        return normalised.to(x.dtype)


def make_fusible(network: nn.Module) -> None:
    """Replace a network's group normalisations by these; its parameters and their names stay."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, FusibleGroupNorm(child))
