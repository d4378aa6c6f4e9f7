"""Colours of rays, where no gradients are wanted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn

from pds_nerfstudio.scenes.models.ray_recordings import RayRecordings, kind_of
from pds_nerfstudio.scenes.ray_bundles import tensors_of, with_tensors


class RayColors:
    """Renders rays, on a GPU those that come again by a recording.

    Args:
        model: What is rendered.
        render: Renders rays of it. What it reads must stay where it is in memory.
        state: What else decides how, such as whether the model is in training; None is what can't be recorded.
    """

    def __init__(
        self,
        model: nn.Module,
        render: Callable[[RayBundle], Float[Tensor, "rays 3"]],
        state: Callable[[], Hashable | None],
    ) -> None:
        self._model, self._render, self._state = model, render, state
        self._recordings = RayRecordings("rendered")

    @torch.no_grad()
    def __call__(self, rays: RayBundle) -> Float[Tensor, "rays 3"]:
        """Return the colours of rays."""
        state, device = self._state(), rays.origins.device
        if state is None:
            return self._render(rays)
        autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)

        def colors(given: Sequence[Tensor]) -> list[Tensor | None]:
            # Weights in half precision are made anew in each run.
            with torch.autocast(device.type, autocast[1], autocast[0], cache_enabled=False):
                return [self._render(with_tensors(rays, given))]

        kind = kind_of(rays, list(self._model.parameters()), autocast, state)
        recorded = self._recordings.prepare(kind, device, colors, lambda: tensors_of(rays))
        if recorded is None:
            return self._render(rays)
        return cast(Tensor, recorded(tensors_of(rays))[0]).clone()
