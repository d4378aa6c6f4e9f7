"""splatfacto, of however few Gaussians, with or without a GPU, whole or in parts of a picture."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import cast

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.splatfacto import SplatfactoModel
from torch import Tensor

from pds_nerfstudio.scenes.compat import cpu_splatfacto
from pds_nerfstudio.scenes.models.drawing_part import drawing_part
from pds_nerfstudio.scenes.views import Part, SourceViews, tile_of

_ALONE = 0.1
"""From a single Gaussian to the next, where there is none: nerfstudio's cameras lie within 1."""


class SplatOnAnyDevice(SplatfactoModel):
    """splatfacto, which is drawn by the rasteriser that its device has."""

    _part: tuple[Part, int, int] | None = None
    """What is being drawn, of a picture of this height and width."""

    def k_nearest_sklearn(self, x: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and numbers of each point's nearest ones, from which a first size follows.

        Of points that are too few for `k` others, all others; a single one is said to be `_ALONE` from the next.
        """
        if len(x) == 1:
            return np.full((1, 1), _ALONE, np.float32), np.zeros((1, 1), np.float32)
        return super().k_nearest_sklearn(x, min(k, len(x) - 1))

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor | list]:  # type: ignore[override]
        """Return splatfacto's outputs, with the rasteriser that runs on this device."""
        with self.on_this_device():
            return super().get_outputs(camera)

    def on_this_device(self) -> AbstractContextManager[None]:
        """Let splatfacto rasterise inside as this device can."""
        return cpu_splatfacto(self.device.type != "cuda")

    def render_part(self, views: SourceViews, index: int, part: Part) -> Float[Tensor, "height width 3"]:
        """Return a part of a full-size view, with gradients. Densification doesn't see it."""
        kept = {name: getattr(self, name) for name in ("info", "last_size") if hasattr(self, name)}
        try:
            return self.draw_part(views.full_size_camera(index), views.full_size(index), part)
        finally:
            for name, value in kept.items():
                setattr(self, name, value)

    def draw_part(self, camera: Cameras, size: tuple[int, int], part: Part) -> Float[Tensor, "height width 3"]:
        """Return a part of a picture, with gradients.

        Args:
            camera: Of the whole picture.
            size: Its height and width.
            part: Which to draw.
        """
        self._part = part, *size
        try:
            with self.on_this_device(), drawing_part(part, *size):
                return cast(Tensor, self.get_outputs(tile_of(camera, part.rows, part.columns))["rgb"])
        finally:
            self._part = None

    def _apply_bilateral_grid(self, rgb: Tensor, cam_idx: int, H: int, W: int) -> Tensor:
        if self._part is None:
            return super()._apply_bilateral_grid(rgb, cam_idx, H, W)
        part, height, width = self._part  # a pixel's colour is corrected by its place in the whole picture
        rows, columns = part.rows, part.columns
        beside = (0, 0, columns.start, width - columns.stop, rows.start, height - rows.stop)
        whole = super()._apply_bilateral_grid(F.pad(rgb, beside), cam_idx, height, width)
        return whole[:, rows, columns]
