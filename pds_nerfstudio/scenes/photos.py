"""A scene's photographs as nerfstudio trains on them: files of any mode, with masks, through any lens that it knows.

nerfstudio 1.1.5 reads palettes and deep greys as if they were plain greys, trips over a transparent picture among
others, masks of a single image, and wide lenses without distortion. Subclasses of its own mend that.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, variable_res_collate
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.pixel_samplers import PixelSampler
from PIL import Image, ImageOps
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.picture_files import open_picture
from pds_nerfstudio.scenes.present import OfPresentFrames

_ORIENTATION = 0x0112
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""Values of Exif's orientation for which width and height are exchanged."""
_DEEP = 65535 / 255
_MOST_BYTES_ON_GPU = 2 << 30
"""Photographs of more bytes than this stay in the main memory: they would take the GPU's from scene and model."""

Size = tuple[int, int]
"""Width and height."""


def fits(photo: Image.Image, size: Size) -> bool:
    """Return whether a photograph is of its camera's size, as it is or turned upright."""
    if photo.size == size:
        return True
    # Pillow may have to read all of a file to find its Exif data, so they are looked at last.
    return photo.size[::-1] == size and photo.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE


def read_photo(path: Path, size: Size, with_opacity: bool) -> UInt8[np.ndarray, "height width channels"]:
    """Return a picture file's pixels: red, green, blue and, if asked for, opacity.

    COLMAP and nerfstudio don't turn a picture as its Exif data say. It is turned where only then it is of its camera's
    size.

    Args:
        path: Of any kind that Pillow reads. Deep greys are cut to 8 bits.
        size: Of its camera.
        with_opacity: Whether to return that.

    Raises:
        UserError: If it can't be read, or has too many pixels.
    """
    try:
        with open_picture(path) as photo:
            turned = photo.size != size and fits(photo, size)
            picture = ImageOps.exif_transpose(photo) if turned else photo
            if picture.mode == "F":
                raise ValueError("its numbers are not whole")
            if picture.mode.startswith("I"):
                picture = Image.fromarray((np.asarray(picture) / _DEEP).clip(0, 255).round().astype(np.uint8))
            return np.array(picture.convert("RGBA" if with_opacity else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} can't be read as a picture ({first_line(error)}): save it anew, or take its frame out of the data."
        ) from None


class Photos(InputDataset):
    """nerfstudio's data set of images, of any mode. Either all have an opacity, or none has."""

    @cached_property
    def _any_is_transparent(self) -> bool:
        return any(_is_transparent(Path(path)) for path in self._dataparser_outputs.image_filenames)

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "height width channels"]:
        """Return an image's pixels."""
        outputs = self._dataparser_outputs
        camera = outputs.cameras[image_idx]
        size = int(camera.width.item()), int(camera.height.item())
        pixels = read_photo(Path(outputs.image_filenames[image_idx]), size, self._any_is_transparent)
        if self.scale_factor == 1.0:
            return pixels
        scaled = int(pixels.shape[1] * self.scale_factor), int(pixels.shape[0] * self.scale_factor)
        return np.array(Image.fromarray(pixels).resize(scaled, resample=Image.Resampling.BILINEAR))


def _is_transparent(path: Path) -> bool:
    try:
        with open_picture(path) as photo:
            return photo.has_transparency_data
    except (OSError, UserError):
        return False  # that it can't be read is said when it is


class WholePhotos(OfPresentFrames, FullImageDatamanager[Photos]):
    """nerfstudio's data manager of whole images, for photographs of any kind."""

    def __init__(self, config: Any, device: Any = "cpu", test_mode: Any = "val", *args: Any, **kwargs: Any) -> None:
        super().__init__(config, device, test_mode, *args, **kwargs)
        if test_mode == "val":
            _ = self.cached_train  # here, so that a damaged file is said before a model is loaded

    def create_train_dataset(self) -> Photos:
        """Return the training images."""
        _mark_wide_lenses(self.train_dataparser_outputs.cameras)
        return super().create_train_dataset()

    def create_eval_dataset(self) -> Photos:
        """Return the evaluation images."""
        dataset: Photos = super().create_eval_dataset()
        _mark_wide_lenses(dataset.cameras)
        return dataset

    def _load_images(
        self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]
    ) -> list[dict[str, Any]]:
        # "gpu" is nerfstudio's word for the model's device; "cpu", which it takes for more than 500 images, pins
        # memory, which needs a GPU.
        if not torch.cuda.is_available():
            return super()._load_images(split, "gpu")
        cameras = (self.train_dataset if split == "train" else self.eval_dataset).cameras
        many = 3 * int((cameras.height * cameras.width).sum()) > _MOST_BYTES_ON_GPU
        return super()._load_images(split, "cpu" if many else cache_images_device)


def _mark_wide_lenses(cameras: Cameras) -> None:
    """Let nerfstudio make plain pictures of those of a fisheye without distortion, too.

    It goes by the distortion alone. The least number that there is bends nothing.
    """
    if not bool((cameras.camera_type == CameraType.FISHEYE.value).all()):
        return
    if cameras.distortion_params is None:
        cameras.distortion_params = torch.zeros(*cameras.shape, 6)
    plain = (cameras.distortion_params == 0).all(-1)
    cameras.distortion_params[plain, 0] = torch.finfo(torch.float32).tiny


class RaysOfPhotos(OfPresentFrames, VanillaDataManager[Photos]):
    """nerfstudio's data manager of rays, for photographs of any kind."""

    def create_eval_dataset(self) -> Photos:
        """Return the evaluation images, which may differ in size while the training images don't."""
        dataset: Photos = super().create_eval_dataset()
        for sides in (dataset.cameras.width, dataset.cameras.height):
            if len(sides) and bool((sides != sides[0]).any()):
                self.config.collate_fn = variable_res_collate
        return dataset

    def _get_pixel_sampler(self, dataset: Photos, num_rays_per_batch: int) -> PixelSampler:
        """Return nerfstudio's sampler, which notes tensors in its configuration: not in the one that is saved."""
        config, self.config.pixel_sampler = self.config.pixel_sampler, replace(self.config.pixel_sampler)
        try:
            return super()._get_pixel_sampler(dataset, num_rays_per_batch)
        finally:
            self.config.pixel_sampler = config


class MaskedPixels(PixelSampler):
    """nerfstudio's sampler of pixels, which may have the mask of a single image."""

    def rejection_sample_mask(
        self, mask: Shaped[Tensor, "images height width 1"], *args: Any, **kwargs: Any
    ) -> Int[Tensor, "samples 3"]:
        """Return random pixels that the masks show."""
        if len(mask) == 1:
            mask = mask.expand(2, -1, -1, -1)  # nerfstudio drops a dimension of one, and then lacks it
        return super().rejection_sample_mask(mask, *args, **kwargs)
