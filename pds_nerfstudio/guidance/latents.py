"""Images on their way to latents: the size the model wants, and source latents remembered."""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.cache import BoundedCache
from pds_nerfstudio.guidance.denoiser import Denoiser

Keys = Sequence[Hashable] | None
"""What views are remembered by, one for each element of a batch; None remembers nothing."""

SMALLEST_SIDE = 16
"""Images with a side shorter than this many pixels are refused: there is nothing in them to edit."""


def model_image_size(height: int, width: int, resolution: int, multiple: int) -> tuple[int, int]:
    """Return the height and width at which an image is shown to the model.

    The image keeps its aspect ratio and gets the AREA of a `resolution` × `resolution` square: that is
    what the model was trained with, and it bounds memory and time for any shape. Each side is then rounded to
    the nearest multiple of `multiple` (at least one), which stretches the image a little.

    Args:
        height: pixels of the image.
        width: pixels of the image.
        resolution: side of the square, in pixels.
        multiple: what both sides must be divisible by.

    Raises:
        UserError: If a side of the image is shorter than `SMALLEST_SIDE`.
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


def check_images(image: Tensor, source_image: Tensor, keys: Keys) -> None:
    """Refuse images or keys that do not fit together.

    Raises:
        ValueError: Saying what was given.
    """
    if image.ndim != 4 or image.shape[1] != 3 or image.shape != source_image.shape:
        raise ValueError(
            "image and source_image must both be (batch, 3, height, width), got "
            f"{tuple(image.shape)} and {tuple(source_image.shape)}"
        )
    _check_keys(keys, len(image))


def check_latents(target: Tensor, source: Tensor, keys: Keys) -> None:
    """Refuse latents or keys that do not fit together.

    Raises:
        ValueError: Saying what was given.
    """
    _check_keys(keys, len(target))
    if target.shape != source.shape:
        raise ValueError(f"latents differ in shape: {tuple(target.shape)} and {tuple(source.shape)}")


def _check_keys(keys: Keys, batch: int) -> None:
    if keys is not None and len(keys) != batch:
        raise ValueError(f"{len(keys)} keys for a batch of {batch}")


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
        """Return the latents of `images`; those whose key is new are encoded, together, without gradient.

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


class ImageEncoder:
    """Encodes images at the size that the model works at, and remembers the latents of sources.

    Args:
        denoiser: The diffusion model.
        resolution: Side in pixels of the square whose area images get.
        capacity: How many latents of sources to keep.
    """

    def __init__(self, denoiser: Denoiser, resolution: int, capacity: int) -> None:
        self._denoiser, self._resolution = denoiser, resolution
        self._cache = LatentCache(capacity)

    def size(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[int, int]:
        """Return the height and width at which images of this size are shown to the model.

        Raises:
            UserError: If they are too small.
        """
        height, width = image.shape[-2:]
        return model_image_size(height, width, self._resolution, self._denoiser.size_multiple)

    def __call__(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """Return latents, differentiable with respect to the image (UserError if that is too small)."""
        image = image.to(self._denoiser.device, self._denoiser.result_dtype)
        return self._denoiser.encode_image(resize(image, self.size(image)))

    @torch.no_grad()
    def sources(
        self, images: Float[Tensor, "batch 3 height width"], keys: Sequence[Hashable] | None
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """Return latents without gradient; with keys, those of new ones are encoded, and remembered."""
        if keys is None:
            return self(images)
        size = self.size(images)
        return self._cache.get_or_encode([(key, size) for key in keys], images, self)

    def forget_sources(self) -> None:
        """Forget all latents, for when the source images themselves change."""
        self._cache.clear()
