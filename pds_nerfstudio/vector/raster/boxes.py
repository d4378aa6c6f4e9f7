"""Boxes of whole pixels on the canvas, and pictures that are cut or filled up to them."""

import torch
from jaxtyping import Float
from torch import Tensor

Box = tuple[int, int, int, int]
"""x, y, width, height in canvas pixels."""


def intersection(first: Box, second: Box) -> Box:
    """Return what two boxes have in common; of size 0 where that is nothing."""
    x, y = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = (min(first[k] + first[k + 2], second[k] + second[k + 2]) for k in (0, 1))
    return x, y, max(right - x, 0), max(bottom - y, 0)


def is_empty(box: Box) -> bool:
    """Tell whether a box has no pixels."""
    return box[2] <= 0 or box[3] <= 0


def grown(box: Box, left: int, top: int, right: int, bottom: int) -> Box:
    """Return a box with more pixels on each side; one without pixels stays so."""
    x, y, width, height = box
    return box if is_empty(box) else (x - left, y - top, width + left + right, height + top + bottom)


def moved_to(picture: Float[Tensor, "c h w"], box: Box, target: Box) -> Float[Tensor, "c j i"]:
    """Return the part of a picture that lies in another box, with nothing around it.

    Args:
        picture: The picture.
        box: Where it lies.
        target: The other box.
    """
    left, top = box[0] - target[0], box[1] - target[1]
    right, bottom = target[2] - left - box[2], target[3] - top - box[3]
    if is_empty(intersection(box, target)):
        return picture.new_zeros(picture.shape[0], target[3], target[2])
    return torch.nn.functional.pad(picture, (left, right, top, bottom))
