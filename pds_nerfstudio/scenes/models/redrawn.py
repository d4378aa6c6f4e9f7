"""What a scene is fitted to while an edit is refined: its views, as the diffusion model has redrawn them."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor


class RedrawnViews:
    """Redrawn views by their numbers, in bytes on the cameras' device.

    Args:
        cameras: Of all views, of the redrawn views' sizes.
    """

    def __init__(self, cameras: Cameras) -> None:
        self._cameras = cameras
        sizes = (cameras.height * cameras.width)[:, 0]
        self._starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        self._starts_on_host: list[int] = self._starts.tolist()
        self._widths_on_host: list[int] = cameras.width[:, 0].tolist()
        self._pixels: Tensor | None = None  # of all views, row by row; made when the first comes
        self._redrawn: dict[int, None] = {}
        self._indices = torch.zeros(0, dtype=torch.long)

    def __contains__(self, index: int) -> bool:
        return index in self._redrawn

    def __setitem__(self, index: int, picture: Float[Tensor, "height width 3"]) -> None:
        """Keep a redrawn view; numbers outside 0..1 are clamped."""
        if self._pixels is None:
            self._pixels = torch.zeros(self._starts_on_host[-1], 3, dtype=torch.uint8, device=self._starts.device)
        first, end = self._starts_on_host[index : index + 2]
        self._pixels[first:end] = (picture.clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3)
        if index not in self._redrawn:
            self._redrawn[index] = None
            self._indices = torch.tensor([*self._redrawn], device=self._starts.device)

    def __getitem__(self, index: int) -> Float[Tensor, "height width 3"]:
        """Return a redrawn view in 0..1.

        Raises:
            KeyError: If that view hasn't been redrawn.
        """
        if index not in self._redrawn:
            raise KeyError(index)
        assert self._pixels is not None
        first, end = self._starts_on_host[index : index + 2]
        return self._pixels[first:end].reshape(-1, self._widths_on_host[index], 3).float() / 255

    def __len__(self) -> int:
        return len(self._redrawn)

    def state_dict(self) -> dict[int, UInt8[Tensor, "pixels 3"]]:
        """Return all redrawn views in bytes, row by row, by their numbers."""
        assert self._pixels is not None or not self._redrawn
        bounds = {index: slice(*self._starts_on_host[index : index + 2]) for index in self._redrawn}
        return {index: cast(Tensor, self._pixels)[pixels].cpu() for index, pixels in bounds.items()}

    def load_state_dict(self, state: dict[int, UInt8[Tensor, "pixels 3"]]) -> None:
        """Keep the redrawn views of a state, and no others."""
        self.clear()
        for index, pixels in state.items():
            self[index] = pixels.reshape(-1, self._widths_on_host[index], 3).to(self._starts.device) / 255

    def clear(self) -> None:
        """Forget all redrawn views."""
        self._redrawn.clear()
        self._indices = self._indices[:0]

    def sample(self, n: int) -> tuple[RayBundle, Float[Tensor, "n 3"]]:
        """Return `n` rays through random pixels of views that were redrawn, each view alike, and their colours."""
        assert self._pixels is not None
        views = self._indices[torch.randint(len(self._indices), (n,), device=self._indices.device)]
        height, width = self._cameras.height[views, 0], self._cameras.width[views, 0]
        rows, columns = (torch.rand(n, device=views.device) * side for side in (height, width))
        rows, columns = rows.long(), columns.long()
        colors = self._pixels[self._starts[views] + rows * width + columns].float() / 255
        through = torch.stack([rows, columns], dim=-1) + 0.5  # the pixels' centres
        return self._cameras.generate_rays(camera_indices=views[:, None], coords=through), colors
