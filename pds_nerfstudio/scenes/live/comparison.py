"""The source scene beside the edited one, from any camera, as further outputs of the model in nerfstudio's viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.control_panel import ControlPanel
from torch import Tensor, nn

from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.compat import uninterrupted
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.output.pictures import heat

MAY_CHANGE = "may change"
SHOWN = {
    "edited": "rgb",
    "source": "source",
    "before | after": "before_after",
    "change": "change",
    MAY_CHANGE: "may_change",
}
"""What the panel's switch shows, and the output of that name in nerfstudio's own switch."""

_FULL_CHANGE = 0.5
_Outputs = dict[str, Any]


class Comparison:
    """Adds the outputs source, before_after, change and may_change to what a model renders.

    The source's weights are read when one of the first three is first looked at. All are rendered only while one is.

    Args:
        model: Its `get_outputs_for_camera` is wrapped.
        switch: The viewer's control panel, which says what is looked at.
        source: Folder of the checkpoint that holds the source; while it isn't there, the first three are not added.
        may_change: Returns what of the scene may change, all if None; None does not add it.
    """

    def __init__(
        self, model: SceneModel, switch: ControlPanel, source: Path, may_change: Callable[[], Any] | None = None
    ) -> None:
        self.split = 0.5
        """Share of the picture's width that shows the source in the output before_after."""
        self._switch, self._source, self._may_change = switch, source, may_change
        self._weights: dict[str, Tensor] | None = None
        self._edited = model.get_outputs_for_camera
        self._model, self._device = cast(nn.Module, model), model.device
        self._render = _Render(self._model, self._edited)
        model.get_outputs_for_camera = self._outputs  # type: ignore[method-assign]

    @property
    def available(self) -> bool:
        """Whether the source is known."""
        return self._weights is not None or self._source.is_dir()

    def show(self, what: str) -> None:
        """Let all browsers show one of `SHOWN`."""
        self._switch._output_render.value = SHOWN[what]  # nerfstudio has only a getter for it

    def _outputs(self, camera: Cameras, obb_box: OrientedBox | None = None) -> _Outputs:
        outputs = self._edited(camera, obb_box)
        edited = outputs["rgb"]
        looked_at = {self._switch.output_render} | ({self._switch.split_output_render} if self._switch.split else set())
        # The viewer offers only outputs that are there; their content matters only once one is chosen.
        if self._may_change is not None:
            outputs = {**outputs, "may_change": edited}
            if "may_change" in looked_at:
                outputs["may_change"] = self._heat_of(self._may_change(), camera, edited)
        if not self.available:
            return outputs
        if not looked_at & {"source", "before_after", "change"}:
            return {**outputs, "source": edited, "before_after": edited, "change": edited}
        source = self.source(camera, obb_box)["rgb"].to(edited)
        return {
            **outputs,
            "source": source,
            "before_after": side_by_side(source, edited, self.split),
            "change": heat((edited - source).abs().mean(-1) / _FULL_CHANGE, source),
        }

    def _heat_of(
        self, what: Any, camera: Cameras, edited: Float[Tensor, "height width 3"]
    ) -> Float[Tensor, "height width 3"]:
        light = torch.ones_like(edited[..., 0])
        if what is not None:
            light = cast(SceneModel, self._model).light_from(what, camera).to(edited)
        return heat(light * (1 + edited.mean(-1)) / 2, edited)  # shaded: what may change is to be recognised, too

    @torch.no_grad()
    def source(self, camera: Cameras, obb_box: OrientedBox | None = None) -> _Outputs:
        """Return what the model shows with the source's weights.

        The caller keeps the model from being trained meanwhile.
        """
        # An interruption must not leave the model with the source's weights.
        with uninterrupted():
            if self._weights is None:
                checkpoint = read_checkpoint(max(self._source.glob("step-*.ckpt")))
                ours = {name for name, _ in [*self._model.named_parameters(), *self._model.named_buffers()]}
                self._weights = {
                    f"model.{name}": weight.to(self._device)
                    for name, weight in checkpoint.model_weights.items()
                    if name in ours
                }
            # A hash grid is one module under two names. Each of its tensors must be replaced once only: torch would
            # replace it under both, take the first replacement for the original, and put that back.
            return torch.func.functional_call(self._render, self._weights, (camera, obb_box), tie_weights=False)


class _Render(nn.Module):
    """A model's render as a forward pass, which torch can run with other weights."""

    def __init__(self, model: nn.Module, render: Any) -> None:
        super().__init__()
        self.model = model
        self._render = render

    def forward(self, camera: Cameras, obb_box: OrientedBox | None) -> _Outputs:
        return self._render(camera, obb_box)


def side_by_side(
    left: Float[Tensor, "height width 3"], right: Float[Tensor, "height width 3"], split: float
) -> Float[Tensor, "height width 3"]:
    """Return `left` up to a share `split` of the width, a line, and `right` beyond it, as one picture."""
    column = min(round(split * left.shape[1]), left.shape[1] - 1)
    joined = torch.cat([left[:, :column], right[:, column:]], dim=1)
    joined[:, column] = 1.0
    return joined
