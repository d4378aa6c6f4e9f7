"""Images on their way to latents: the size the model wants, and source latents remembered."""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.cache import BoundedCache

SMALLEST_SIDE = 16
"""Images with a side shorter than this many pixels are refused: there is nothing in them to edit."""


def model_image_size(height: int, width: int, resolution: int, multiple: int) -> tuple[int, int]:
    """The height and width at which an image is shown to the model.

    The image keeps its aspect ratio and gets the AREA of a ``resolution`` × ``resolution`` square: that is
    what the model was trained with, and it bounds memory and time for any shape. Each side is then rounded to
    the nearest multiple of ``multiple`` (at least one), which stretches the image a little.

    Args:
        height: pixels of the image.
        width: pixels of the image.
        resolution: side of the square, in pixels.
        multiple: what both sides must be divisible by.

    Raises:
        UserError: if a side of the image is shorter than ``SMALLEST_SIDE``.
    """
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(f"The image is {width}×{height} pixels: give one of at least {SMALLEST_SIDE} pixels a side.")
    scale = resolution / math.sqrt(height * width)
    rounded = [max(round(side * scale / multiple), 1) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


def resize(
    image: Float[Tensor, "batch channels height width"], size: tuple[int, int]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Bilinear, antialiased, differentiable. Stays in the image's range of values, as bicubic would not."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)


class LatentCache:
    """Latents of views that do not change, each encoded once; the least recently used one makes room.

    Args:
        capacity: how many latents to keep (one of 4 × 64 × 64 takes 64 KiB).
    """

    def __init__(self, capacity: int) -> None:
        self._latents: BoundedCache[Tensor] = BoundedCache(capacity)

    def get_or_encode(
        self,
        keys: Sequence[Hashable],
        images: Float[Tensor, "batch 3 height width"],
        encode: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """The latents of ``images``; those whose key is new are encoded, together, without gradient.

        Args:
            keys: one for each image. The same key must always come with the same image.
            images: what to encode if its key is new.
            encode: images to latents.
        """
        kept = {key: latent for key in keys if (latent := self._latents.get(key)) is not None}
        missing = {key: index for index, key in enumerate(keys) if key not in kept}
        if missing:
            with torch.no_grad():
                encoded = encode(torch.stack([images[index] for index in missing.values()]))
            kept.update(zip(missing, encoded.unbind(), strict=True))
            for key in missing:
                self._latents.put(key, kept[key])
        return torch.stack([kept[key] for key in keys])

    def clear(self) -> None:
        """Forget everything, for when the source images themselves change."""
        self._latents.clear()
