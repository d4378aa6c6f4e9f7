"""What a model would show with the weights of other checkpoints of its run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.compat import uninterrupted
from pds_nerfstudio.scenes.models.scene_model import SceneModel

_MOST = 2
"""Checkpoints whose weights are held: two that are being compared."""


class OtherScenes:
    """Renders the scenes of checkpoints with a model, whose own weights stay as they are.

    What a NeRF holds by a selection is held in them all as it is now.

    Args:
        model: Set to eval while it renders. The caller keeps it from being trained meanwhile.
    """

    def __init__(self, model: SceneModel) -> None:
        self._model, self._device = cast(nn.Module, model), model.device
        self._render = _Render(self._model, partial(type(model).get_outputs_for_camera, model))  # no wrapper's
        self._weights: dict[Path, dict[str, Tensor]] = {}

    @torch.no_grad()
    def outputs(self, checkpoint: Path, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Any]:
        """Return what the model shows with a checkpoint's weights."""
        # An interruption must not leave the model with the others' weights.
        with uninterrupted():
            # A hash grid is one module under two names. Each of its tensors must be replaced once only: torch would
            # replace it under both, take the first replacement for the original, and put that back.
            return torch.func.functional_call(
                self._render, self._weights_of(checkpoint), (camera, obb_box), tie_weights=False
            )

    def _weights_of(self, checkpoint: Path) -> dict[str, Tensor]:
        weights = self._weights.pop(checkpoint, None)
        if weights is None:
            ours = {name for name, _ in [*self._model.named_parameters(), *self._model.named_buffers()]}
            weights = {
                f"model.{name}": weight.to(self._device)
                for name, weight in read_checkpoint(checkpoint).model_weights.items()
                if name in ours
            }
        self._weights[checkpoint] = weights  # now the last that was looked at
        for oldest in list(self._weights)[:-_MOST]:
            del self._weights[oldest]
        return weights


class _Render(nn.Module):
    """A model's render as a forward pass, which torch can run with other weights."""

    def __init__(self, model: nn.Module, render: Any) -> None:
        super().__init__()
        self.model = model
        self._render = render

    def forward(self, camera: Cameras, obb_box: OrientedBox | None) -> dict[str, Any]:
        return self._render(camera, obb_box)
