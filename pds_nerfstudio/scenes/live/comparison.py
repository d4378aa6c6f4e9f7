"""Another scene beside the edited one, from any camera, as further outputs of the model in nerfstudio's viewer.

The other scene is the source, or a kept state. Each browser can look at something else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.control_panel import ControlPanel
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from torch import Tensor

from pds_nerfstudio.scenes.live.other_scenes import OtherScenes
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.output.pictures import heat

MAY_CHANGE = "may change"
SHOWN = {
    "edited": "rgb",
    "before": "source",
    "before | after": "before_after",
    "change": "change",
    MAY_CHANGE: "may_change",
}
"""What a browser's switch shows, and the output of that name in nerfstudio's own switch."""

_FULL_CHANGE = 0.5
_Outputs = dict[str, Any]


@dataclass
class Look:
    """What somebody looks at."""

    what: str = "rgb"
    """One of the outputs in `SHOWN`."""
    split: float = 0.5
    """Share of the picture's width that shows the other scene in the output before_after."""
    beside: Path | None = None
    """Checkpoint of the other scene; None for the source."""


class Comparison:
    """Adds the outputs source, before_after, change and may_change to what a model renders.

    They are rendered only while somebody looks at them: all browsers by nerfstudio's own switch, or one by its look.

    Args:
        model: Its `get_outputs_for_camera` is wrapped.
        switch: The viewer's control panel, which says what all look at.
        source: Folder of the checkpoint that holds the source; while it isn't there, the first three are not added.
        may_change: Returns what of the scene may change, all if None; None does not add it.
    """

    def __init__(
        self, model: SceneModel, switch: ControlPanel, source: Path, may_change: Callable[[], Any] | None = None
    ) -> None:
        self.looks: dict[int | None, Look] = {None: Look()}
        """Of browsers, by their numbers; None is that of nerfstudio's own switch."""
        self._switch, self._source, self._may_change = switch, source, may_change
        self._others = OtherScenes(model)
        self._edited, self._model = model.get_outputs_for_camera, model
        model.get_outputs_for_camera = self._outputs  # type: ignore[method-assign]

    @property
    def available(self) -> bool:
        """Whether the source is known."""
        return self._source.is_dir()

    def _outputs(self, camera: Cameras, obb_box: OrientedBox | None = None) -> _Outputs:
        outputs = self._edited(camera, obb_box)
        edited, switch = outputs["rgb"], self._switch
        offered = {"source", "before_after", "change"} if self.available else set()
        offered |= set() if self._may_change is None else {"may_change"}
        # The viewer offers only outputs that are there; their content matters only once one is chosen.
        outputs = {**outputs, **dict.fromkeys([name for name in SHOWN.values() if name in offered], edited)}
        looked_at = {switch.output_render} | ({switch.split_output_render} if switch.split else set())
        for name in looked_at & offered:
            outputs[name] = self._picture(name, self.looks[None], edited, camera, obb_box)
        look = self.looks.get(_browser())
        if look is not None and look.what in offered:  # in place of what all look at
            outputs[switch.output_render] = self._picture(look.what, look, edited, camera, obb_box)
        return outputs

    def _picture(
        self,
        what: str,
        look: Look,
        edited: Float[Tensor, "height width 3"],
        camera: Cameras,
        obb_box: OrientedBox | None,
    ) -> Float[Tensor, "height width 3"]:
        if what == "may_change":
            assert self._may_change is not None
            return self._heat_of(self._may_change(), camera, edited)
        before = self.before(camera, obb_box, look.beside)["rgb"].to(edited)
        if what == "before_after":
            return side_by_side(before, edited, look.split)
        return before if what == "source" else heat((edited - before).abs().mean(-1) / _FULL_CHANGE, before)

    def _heat_of(
        self, what: Any, camera: Cameras, edited: Float[Tensor, "height width 3"]
    ) -> Float[Tensor, "height width 3"]:
        light = torch.ones_like(edited[..., 0])
        if what is not None:
            light = self._model.light_from(what, camera).to(edited)
        return heat(light * (1 + edited.mean(-1)) / 2, edited)  # shaded: what may change is to be recognised, too

    def before(self, camera: Cameras, obb_box: OrientedBox | None = None, beside: Path | None = None) -> _Outputs:
        """Return what the model shows with the weights of a checkpoint, by default the source's.

        The caller keeps the model from being trained meanwhile.
        """
        if beside is None or not beside.is_file():  # a branch's folder may have been removed
            beside = max(self._source.glob("step-*.ckpt"))
        return self._others.outputs(beside, camera, obb_box)


def _browser() -> int | None:
    """Return the number of the browser for which this thread renders; None if it does so for no one."""
    thread = threading.current_thread()
    return cast(int, thread.client.client_id) if isinstance(thread, RenderStateMachine) else None


def side_by_side(
    left: Float[Tensor, "height width 3"], right: Float[Tensor, "height width 3"], split: float
) -> Float[Tensor, "height width 3"]:
    """Return `left` up to a share `split` of the width, a line, and `right` beyond it, as one picture."""
    column = min(round(split * left.shape[1]), left.shape[1] - 1)
    joined = torch.cat([left[:, :column], right[:, column:]], dim=1)
    joined[:, column] = 1.0
    return joined
