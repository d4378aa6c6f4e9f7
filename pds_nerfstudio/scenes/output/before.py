"""A scene as it was before its edit, rendered by the edited one's model with the weights of then."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.compat import uninterrupted
from pds_nerfstudio.scenes.models.scene_model import SceneModel, render


class SceneBefore:
    """Renders it; the model keeps its own weights.

    Args:
        model: Of the edited scene, set to eval.
        checkpoint: Of the scene before the edit.
    """

    def __init__(self, model: SceneModel, checkpoint: Path) -> None:
        self._render = _Render(model)
        module = cast(nn.Module, model)
        ours = {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
        self._weights = {
            f"model.{name}": weight.to(model.device)
            for name, weight in read_checkpoint(checkpoint).model_weights.items()
            if name in ours
        }

    @classmethod
    def of(cls, model: SceneModel, folder: Path) -> SceneBefore | None:
        """Return it from the folder of its checkpoint; None if the run has not kept it."""
        path = max(folder.glob("step-*.ckpt"), default=None)
        return None if path is None else cls(model, path)

    @torch.no_grad()
    def render(self, camera: Cameras) -> Float[Tensor, "height width 3"]:
        """Return what one camera saw before the edit, in 0..1."""
        with uninterrupted():
            # Hash grids are one module under two names, of which torch would put back the wrong one if it tied them.
            return torch.func.functional_call(self._render, self._weights, (camera,), tie_weights=False)


class _Render(nn.Module):
    """A model's render as a forward pass, which torch can run with other weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, camera: Cameras) -> Float[Tensor, "height width 3"]:
        return render(self.model, camera)
