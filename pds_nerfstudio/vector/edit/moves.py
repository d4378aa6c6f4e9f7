"""The simple moves that are nearest to where the points of a path went."""

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "points 2"]


def simple_moves(before: Points, after: Points) -> list[Points]:
    """Return where points go by the simple move nearest to another one, from simple to less simple.

    They are a shift; a shift and a stretch along the axes; a shift, a turn and a size; any affine map.

    Args:
        before: Where they were.
        after: Where they went.
    """
    middle, center = before.mean(0), after.mean(0)
    old, new = before - middle, after - center
    found = [old + center]
    if len(before) < 2:
        return found
    square = old.square()
    stretch = (old * new).sum(0) / square.sum(0).clamp(min=1e-12)
    found.append(torch.where(square.sum(0) > 1e-9, old * stretch, new) + center)
    # of complex numbers: the factor with which the old points come nearest to the new ones
    size = square.sum().clamp(min=1e-12)
    along = (old * new).sum() / size
    across = (old[:, 0] * new[:, 1] - old[:, 1] * new[:, 0]).sum() / size
    turned = torch.stack([along * old[:, 0] - across * old[:, 1], across * old[:, 0] + along * old[:, 1]], 1)
    found.append(turned + center)
    if len(before) >= 3:
        matrix = torch.linalg.lstsq(old.double().cpu(), new.double().cpu(), driver="gelsd").solution.to(old)
        found.append(old @ matrix + center)
    return found
