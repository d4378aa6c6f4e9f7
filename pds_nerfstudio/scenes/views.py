"""The source views of a scene: what the model saw, at the size the guidance works with."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import DataManager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.utils.data_utils import get_image_mask_tensor_from_path
from torch import Tensor

from pds_nerfstudio.scenes.ray_bundles import tensors_of
from pds_nerfstudio.scenes.side_stream import SideStream

FINE = 8
"""Most pixels of a view that a step renders, in those that the guidance looks at: beside 512×512 that is 1080p."""
FINE_PIXELS = 1920 * 1080
"""Or this many, if that is more: a step then compares all of a 1080p photograph, whatever the guidance looks at."""
_CACHED_VIEWS = 512
_ALL = slice(None)


@dataclass
class SourceView:
    """A training view."""

    index: int
    """Of the view among the training views."""
    camera: Cameras
    """One camera that matches `image`."""
    image: Float[Tensor, "1 3 height width"]
    """The source image, in 0..1."""
    fine: Cameras
    """The same camera, with as many pixels as a step may render: the full size, if that is no more."""
    mask: Float[Tensor, "1 1 height width"] | None = None
    """How much of each pixel the data set's mask shows, in 0..1; None if it masks nothing."""

    def where_shown(
        self, picture: Float[Tensor, "height width 3"], elsewhere: Float[Tensor, "height width 3"]
    ) -> Float[Tensor, "height width 3"]:
        """Return a picture of this view, and another one in its place where the data set masks it out."""
        if self.mask is None:
            return picture
        shown = self.mask[0, 0, :, :, None].to(picture)
        return shown * picture + (1 - shown) * elsewhere


@dataclass(frozen=True)
class Part:
    """A rectangle of a picture's pixels."""

    rows: slice
    """With a start and a stop."""
    columns: slice
    """With a start and a stop."""


class SourceViews:
    """The training views of a data manager, no larger than the guidance can use.

    A data manager of whole images undistorts them and changes their cameras with them; one of rays keeps both as they
    were. Either way camera and image match.

    Args:
        datamanager: Of the run; it has training images.
        side: A view of more pixels than a square of this side is rendered and compared at that many pixels.
        background: What a transparent image lies on, in 0..1.
        device: Where cameras and images go.
    """

    def __init__(
        self, datamanager: DataManager, side: int, background: Float[Tensor, "3"], device: torch.device | str
    ) -> None:
        self._datamanager = datamanager
        self._side = side
        self._background = background.to(device)
        self._device = device
        assert datamanager.train_dataset is not None
        self._dataset = datamanager.train_dataset
        self._recent: OrderedDict[int, tuple[Cameras, UInt8[Tensor, "channels height width"]]] = OrderedDict()
        self._cached_images, self._cached_places = _cached_by(datamanager)
        self._beside = SideStream(device)
        self._read: dict[int, UInt8[Tensor, "height width channels"]] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def cameras(self) -> Cameras:
        """All training cameras, as they match the full-size images."""
        if isinstance(self._datamanager, FullImageDatamanager):
            _ = self._datamanager.cached_train  # undistorts the images, and the cameras with them
        return self._dataset.cameras

    @property
    def without_lens(self) -> bool:
        """Whether the views are the photographs without their lens's distortion."""
        return isinstance(self._datamanager, FullImageDatamanager)

    @property
    def outputs(self) -> DataparserOutputs:
        """Where the views come from: files, and how their coordinates became the scene's."""
        return self._dataset._dataparser_outputs

    def full_size_image(self, index: int, rows: slice = _ALL, columns: slice = _ALL) -> Float[Tensor, "height width 3"]:
        """Return the source image as the model was trained on it, in 0..1, on the background if it is transparent.

        Args:
            index: Of the view.
            rows: Which of its rows to return.
            columns: Which of its columns to return.
        """
        return opaque(self.to_device(self._stored_image(index)[rows, columns]), self._background)

    def full_size_pixels(
        self, indices: Int[Tensor, " n"], rows: Int[Tensor, " n"], columns: Int[Tensor, " n"]
    ) -> Float[Tensor, "n 3"]:
        """Return pixels of `full_size_image`, wherever the images are kept, without a copy of them.

        Args:
            indices: Of each pixel's view, on the CPU as all of these.
            rows: Of each pixel.
            columns: Of each pixel.
        """
        order = indices.argsort(stable=True)
        views, counts = indices[order].unique_consecutive(return_counts=True)
        images = [self._stored_image(index) for index in views.tolist()]
        at = torch.stack([rows, columns])[:, order].to(images[0].device).split(counts.tolist(), dim=1)
        pixels = torch.cat([image[y, x] for image, (y, x) in zip(images, at, strict=True)])
        return opaque(self.to_device(pixels), self._background)[self.to_device(order.argsort())]

    def full_size_mask(
        self, index: int, rows: slice = _ALL, columns: slice = _ALL
    ) -> Bool[Tensor, "height width"] | None:
        """Return which pixels of `full_size_image` the model was trained on; None if the data set masks none out."""
        if isinstance(self._datamanager, FullImageDatamanager):
            mask = self._datamanager.cached_train[index].get("mask")
        else:
            files = self.outputs.mask_filenames
            mask = None if files is None else get_image_mask_tensor_from_path(files[index], self._dataset.scale_factor)
        return None if mask is None else self.to_device(mask[rows, columns, 0])

    def full_size_camera(self, index: int) -> Cameras:
        """Return the camera of `full_size_image`, batched as one."""
        return _pick(self.full_size_cameras, index)

    def full_size(self, index: int) -> tuple[int, int]:
        """Return height and width of `full_size_image`."""
        return self._sizes[index]

    @cached_property
    def _sizes(self) -> list[tuple[int, int]]:
        cameras = self.cameras
        return list(zip(cameras.height[:, 0].tolist(), cameras.width[:, 0].tolist(), strict=True))

    def random_rays(self, step: int) -> tuple[RayBundle, Float[Tensor, "rays 3"], Int[Tensor, "rays 3"]]:
        """Return rays as they are drawn to reconstruct a scene, from a data manager of rays.

        Those are rays through random pixels of all full-size images; of images with masks, inside those.

        Args:
            step: Of the run.

        Returns:
            The rays, their colours in 0..1, and the view, row and column of each. All on the device.
        """

        def drawn() -> tuple[RayBundle, Float[Tensor, "rays 3"], Int[Tensor, "rays 3"]]:
            rays, batch = self._datamanager.next_train(step)
            colors = opaque(batch["image"].to(self._device), self._background)
            return cast(RayBundle, rays), colors, batch["indices"].to(self._device)

        # nerfstudio looks up pixels on the CPU, and asks the device about its cameras.
        return self._beside(drawn, lambda all_of: [*tensors_of(all_of[0]), *all_of[1:]])

    @cached_property
    def full_size_cameras(self) -> Cameras:
        """All cameras of the full-size images, on the device."""
        cameras = self.cameras.to(self._device)
        if isinstance(self._datamanager, FullImageDatamanager):
            # Undistorting has changed the intrinsics only; what was rendered has neither distortion nor a wide lens.
            if cameras.distortion_params is not None:
                cameras.distortion_params = torch.zeros_like(cameras.distortion_params)
            cameras.camera_type = torch.full_like(cameras.camera_type, CameraType.PERSPECTIVE.value)
        return cameras

    def _stored_image(self, index: int) -> Shaped[Tensor, "height width channels"]:
        """Return a source image where it is kept, in bytes or numbers."""
        if isinstance(self._datamanager, FullImageDatamanager):
            return self._datamanager.cached_train[index]["image"]
        if index in self._cached_places:
            return self._cached_images[self._cached_places[index]]
        if index not in self._read:
            self._read[index] = self._dataset.get_data(index, image_type="uint8")["image"]
        return self._read[index]

    def to_device(self, values: Shaped[Tensor, "*any"]) -> Shaped[Tensor, "*any"]:
        """Return numbers on the device, of which nobody waits for a copy."""
        if values.device.type == "cpu" and torch.device(self._device).type == "cuda":
            return values.pin_memory().to(self._device, non_blocking=True)
        return values.to(self._device)

    @cached_property
    def view_cameras(self) -> Cameras:
        """The cameras of all views at the size of the guidance, on the device."""
        return self._cameras_of(self._side)

    @cached_property
    def fine_cameras(self) -> Cameras:
        """The cameras of all views at the size at which a step may render them, on the device."""
        return self._cameras_of(self.fine_side)

    @cached_property
    def fine_side(self) -> float:
        """The side of a square with as many pixels as a step may render."""
        return max(FINE**0.5 * self._side, FINE_PIXELS**0.5)

    def _cameras_of(self, side: float) -> Cameras:
        """Return all cameras with no more pixels than a square of this side has."""
        # As plain numbers: a rounded side must not depend on the device.
        scales = [min(1.0, side / (height * width) ** 0.5) for height, width in self._sizes]
        return _resized(self.full_size_cameras, torch.tensor(scales, device=self._device))

    def __getitem__(self, index: int) -> SourceView:
        if index not in self._recent:
            self._recent[index] = self._prepare(index)
            if len(self._recent) > _CACHED_VIEWS:
                self._recent.popitem(last=False)
        camera, image = self._recent[index]
        channels = image[None].float() / 255
        mask = channels[:, 3:] if len(image) > 3 else None
        return SourceView(index, copy.copy(camera), channels[:, :3], _pick(self.fine_cameras, index), mask)

    def _prepare(self, index: int) -> tuple[Cameras, UInt8[Tensor, "channels height width"]]:
        """Return a view's camera and source image at the size of the guidance, on the device: each is made once.

        A mask is the image's last channel.
        """
        camera = _pick(self.view_cameras, index)
        size = int(camera.height.item()), int(camera.width.item())
        full = self.full_size_image(index).permute(2, 0, 1)[None]
        if (mask := self.full_size_mask(index)) is not None:
            full = torch.cat([full, mask[None, None].to(full)], dim=1)
        if full.shape[-2:] != size:
            full = F.interpolate(full, size, mode="bilinear", antialias=True)
        return camera, (full[0] * 255).round().to(torch.uint8)


def opaque(image: Shaped[Tensor, "*pixels channels"], background: Float[Tensor, "3"]) -> Float[Tensor, "*pixels 3"]:
    """Return pixels of 3 or 4 channels, bytes or numbers, in 0..1 and on a background where they are transparent."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    if image.shape[-1] == 4:
        opacity = image[..., 3:]
        image = image[..., :3] * opacity + background * (1 - opacity)
    return image


def _cached_by(datamanager: DataManager) -> tuple[Sequence[Tensor] | Tensor, dict[int, int]]:
    """Return the images that a data manager of rays keeps in memory, and the place of each view's among them."""
    loader = getattr(datamanager, "train_image_dataloader", None)
    if loader is None or not loader.cache_all_images:
        return [], {}
    batch = loader.cached_collated_batch
    return batch["image"], {int(view): place for place, view in enumerate(batch["image_idx"])}


def _pick(cameras: Cameras, index: int) -> Cameras:
    """Return one of several cameras, batched as one, which says which one it is."""
    camera = cameras[index : index + 1]
    camera.metadata = {**(camera.metadata or {}), "cam_idx": index}
    return camera


def _resized(cameras: Cameras, scales: Float[Tensor, " n"]) -> Cameras:
    """Return cameras of smaller images, of whole pixels; the intrinsics follow each side as it was rounded."""
    cameras = copy.copy(cameras)
    width, height, scale = cameras.width, cameras.height, scales[:, None]
    cameras.rescale_output_resolution(scales, "round")
    across, down = cameras.width / width / scale, cameras.height / height / scale
    cameras.fx, cameras.cx = cameras.fx * across, cameras.cx * across
    cameras.fy, cameras.cy = cameras.fy * down, cameras.cy * down
    return cameras


def tile_of(camera: Cameras, rows: slice, columns: slice) -> Cameras:
    """Return the camera of a part of a perspective camera's image.

    Gaussians that lie well beside the tile and reach into it may look a little different there: rasterisers take the
    perspective of what is outside an image at its border.

    Args:
        camera: One camera.
        rows: Of its image, with a start and a stop.
        columns: Of its image, with a start and a stop.
    """
    tile = copy.copy(camera)
    tile.cx, tile.cy = camera.cx - columns.start, camera.cy - rows.start
    tile.width = torch.full_like(camera.width, columns.stop - columns.start)
    tile.height = torch.full_like(camera.height, rows.stop - rows.start)
    return tile


def view_at(k: int, n_views: int, seed: int, rank: int = 0, world_size: int = 1) -> int:
    """Return the view that edit step `k` takes: each once in a round, in an order that `seed` and the round decide.

    It depends on nothing else, so a resumed run goes on where it was. Of several ranks each has views of its own, so
    what is remembered of a view is in one place.

    Args:
        k: Counted from the first edit step.
        n_views: How many training views there are.
        seed: Of the order.
        rank: Which of the processes that edit together.
        world_size: How many those are.
    """
    own = views_of(n_views, rank, world_size)
    order = list(own)
    random.Random(f"{seed}/{k // len(own)}").shuffle(order)
    return order[k % len(own)]


def views_of(n_views: int, rank: int, world_size: int) -> range:
    """Return the views of one of several ranks; with more ranks than views, some have the same one."""
    return range(rank % min(world_size, n_views), n_views, min(world_size, n_views))
