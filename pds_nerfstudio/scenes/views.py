"""The source views of a scene: what the model saw, at the size the guidance works with."""

from __future__ import annotations

import copy
import math
import random
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.base_datamanager import DataManager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

_CACHED_VIEWS = 512


@dataclass
class SourceView:
    """A training view.

    Attributes:
        index: Of the view among the training views.
        camera: One camera that matches `image`.
        image: The picture before the edit, in 0..1.
    """

    index: int
    camera: Cameras
    image: Float[Tensor, "1 3 height width"]


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
        self._recent: OrderedDict[int, tuple[Cameras, UInt8[Tensor, "3 height width"]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def cameras(self) -> Cameras:
        """All training cameras, as they match the full-size images."""
        if isinstance(self._datamanager, FullImageDatamanager):
            _ = self._datamanager.cached_train  # undistorts the images, and the cameras with them
        return self._dataset.cameras

    @property
    def outputs(self) -> DataparserOutputs:
        """Where the views come from: files, and how their coordinates became the scene's."""
        return self._dataset._dataparser_outputs

    def full_size_image(self, index: int) -> Float[Tensor, "height width 3"]:
        """The picture as the model was trained on it, in 0..1, on the background if it is transparent."""
        if isinstance(self._datamanager, FullImageDatamanager):
            image = self._datamanager.cached_train[index]["image"]
        else:
            image = self._dataset.get_data(index, image_type="uint8")["image"]
        image = image.to(self._device)
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        if image.shape[-1] == 4:
            opacity = image[..., 3:]
            image = image[..., :3] * opacity + self._background * (1 - opacity)
        return image

    def full_size_camera(self, index: int) -> Cameras:
        """The camera of `full_size_image`, batched as one."""
        camera = self.cameras[index : index + 1].to(self._device)
        if isinstance(self._datamanager, FullImageDatamanager):
            # Undistorting has changed the intrinsics only; what was rendered has neither distortion nor a wide lens.
            if camera.distortion_params is not None:
                camera.distortion_params = torch.zeros_like(camera.distortion_params)
            camera.camera_type = torch.full_like(camera.camera_type, CameraType.PERSPECTIVE.value)
        camera.metadata = {**(camera.metadata or {}), "cam_idx": index}
        return camera

    def __getitem__(self, index: int) -> SourceView:
        if index not in self._recent:
            self._recent[index] = self._prepare(index)
            if len(self._recent) > _CACHED_VIEWS:
                self._recent.popitem(last=False)
        camera, image = self._recent[index]
        return SourceView(index, copy.copy(camera), image[None].float() / 255)

    def _prepare(self, index: int) -> tuple[Cameras, UInt8[Tensor, "3 height width"]]:
        """A view's camera and picture at the size of the guidance, on the device: each is made once."""
        camera = self.full_size_camera(index)
        scale = self._side / math.sqrt(int(camera.height.item()) * int(camera.width.item()))
        if scale < 1:
            _resize(camera, scale)
        size = int(camera.height.item()), int(camera.width.item())
        full = self.full_size_image(index).permute(2, 0, 1)[None]
        if full.shape[-2:] != size:
            full = F.interpolate(full, size, mode="bilinear", antialias=True)
        return camera, (full[0] * 255).round().to(torch.uint8)


def _resize(camera: Cameras, scale: float) -> None:
    """Make a camera's image smaller, in place, to whole pixels; the intrinsics follow each side as it was rounded."""
    width, height = camera.width, camera.height
    camera.rescale_output_resolution(scale, "round")
    across, down = camera.width / width / scale, camera.height / height / scale
    camera.fx, camera.cx = camera.fx * across, camera.cx * across
    camera.fy, camera.cy = camera.fy * down, camera.cy * down


def view_at(k: int, n_views: int, seed: int, rank: int = 0, world_size: int = 1) -> int:
    """The view that edit step `k` takes: every view once in each round, in an order that `seed` and the round decide.

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
    """The views of one of several ranks; with more ranks than views, some have the same one."""
    return range(rank % min(world_size, n_views), n_views, min(world_size, n_views))
