"""Several GPUs on one edit: each renders another view at each step, and all step with the mean of their gradients.

nerfstudio's own way, PyTorch's DDP, averages the gradients of what its wrapper's forward has rendered, for the
parameters that it saw at the beginning. An edit renders whole views by other methods, and densification replaces
parameters. So gradients are averaged here, before each step of the optimisers, and checkpoints look as from one GPU.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from nerfstudio.utils.comms import get_world_size
from torch import Tensor, nn


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all ranks. A gradient that is not finite on one is so on all.

    Args:
        parameters: The same ones, in the same order, on all ranks; those without a gradient have none on any.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if get_world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def take_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of the first rank.

    Args:
        tensors: Of the same shapes, in the same order, on all ranks.
    """
    if get_world_size() == 1:
        return
    for tensor in tensors:
        dist.broadcast(tensor.detach(), src=0)


def sum_over_ranks(tensor: Tensor) -> None:
    """Replace a tensor by the sum of those of all ranks, the same to the bit on each."""
    if get_world_size() > 1:
        dist.all_reduce(tensor)
        take_from_first_rank([tensor])


def on_any_rank(here: bool, device: torch.device) -> bool:
    """Return whether something is so on any rank: the same on all, which all must ask at the same time.

    Args:
        here: Whether it is so on this one.
        device: Of this rank.
    """
    found = torch.tensor(float(here), device=device)
    sum_over_ranks(found)
    return bool(found)
