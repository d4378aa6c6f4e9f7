"""What packed formats of splats share: opacities in bytes, rotations in three numbers, and a good order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def logit_of_byte(values: Shaped[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the logits of opacities in bytes; 0 and 255 stand for half a step from the end, whose logit is finite."""
    return (values.float() / 255).clamp(0.5 / 255, 1 - 0.5 / 255).logit()


def pick_largest(quats: Float[Tensor, "n 4"]) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Return which component of each rotation is the largest, and the other three in order, each in ±√½.

    The largest is made positive, which changes no rotation, and follows from the others.
    """
    unit = F.normalize(quats, dim=-1)
    largest = unit.abs().argmax(-1)
    unit = unit * torch.where(unit.gather(-1, largest[:, None]) < 0, -1.0, 1.0)
    kept = torch.arange(4) != largest[:, None]
    return largest, unit[kept].view(-1, 3)


def restore_largest(largest: Int[Tensor, " n"], others: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Return the rotations of which `pick_largest` has left this."""
    quats = torch.empty(len(others), 4)
    kept = torch.arange(4) != largest[:, None]
    quats[kept] = others.flatten()
    quats[~kept] = (1 - others.square().sum(-1)).clamp(min=0).sqrt()
    return quats


def morton_order(points: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    """Return an order in which neighbours in the list are neighbours in space: along Morton's curve, 10 bits a side."""
    low, high = points.amin(0), points.amax(0)
    cells = ((points - low) / (high - low).clamp(min=1e-12) * 1023).long()
    code = torch.zeros(len(points), dtype=torch.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code.argsort(stable=True)
