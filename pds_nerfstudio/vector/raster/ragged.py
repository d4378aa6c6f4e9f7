"""Index arithmetic for lists of different lengths kept in flat tensors."""

import torch
from jaxtyping import Int
from torch import Tensor


def expand_counts(counts: Int[Tensor, " n"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Enumerate `counts[i]` items for every i.

    Returns:
        The owner i of each item, ascending, and the item's place 0 … counts[i] − 1 within its owner.
    """
    owner = torch.repeat_interleave(torch.arange(counts.numel(), device=counts.device), counts)
    start = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(owner.numel(), device=counts.device) - start[owner]
