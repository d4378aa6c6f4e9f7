"""Editing all views together, without distillation: they are redrawn from their sources, and agree through the scene.

Edited by themselves, views disagree, and a scene that is fitted to them once is their blurred mean. Here they are
redrawn again and again while it is fitted, as in Instruct-NeRF2NeRF (Haque et al. 2023): each time from its source and
from what the scene, which has seen all others, shows of it by then. FlowEdit (Kulikov et al. 2024) does that from any
noise on, and is begun with less and less of it. At first a view is drawn anew, with arms where the model would have
them; soon it has them where most views do, and in the end only its detail is its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pds_nerfstudio.checks import at_least, check_parts, share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.refining import Refining
from pds_nerfstudio.scenes.views import SourceViews

Strategy = Literal["distil", "together", "both"]
"""How edit steps edit; see `EditPipelineConfig.strategy`."""

FIRST_DRAWING = FlowEditConfig(method="flowedit", steps=12)
"""Of a view, from its source."""


@dataclass(frozen=True)
class TogetherConfig:
    """How views are edited together."""

    flow_edit: FlowEditConfig = FIRST_DRAWING
    """How a view is drawn, when the edit begins. Its start, and the number of its steps with it, then falls."""
    final_mult: float = 0.15
    """Share of --pipeline.together.flow-edit.start that is left in the last of these steps; it falls exponentially."""
    redrawings: int = 4
    """How often each view is redrawn after the first time, if there are steps enough. More agree better, and take
    longer: a redrawing costs some ten steps without one."""
    key_views: int = 0
    """Views, evenly among all, that the model's self-attention sees beside each view's own when all are first drawn, so
    that they agree sooner; 0: none. Four, say, with Stable Diffusion 1, 2 or XL, the only ones that can; it is slower.
    On the embedded model it brought nothing."""
    share: float = 0.25
    """With --pipeline.strategy both: share of the edit steps that edit views together. The others distil; but if a
    splat's views change most of what they show, no step does."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the field.
        """
        check_parts(self, "flow_edit")
        if self.flow_edit.method == "off":
            raise UserError("`flow_edit.method` is off: give flowedit, flowalign or dvrf.")
        share(self, "final_mult", above=True, of="the start")
        at_least(self, 0, "redrawings", "key_views")
        share(self, "share", above=True, of="the edit steps")

    def fitting(self, model: SceneModel, views: SourceViews, guidance: Guidance) -> Refining:
        """Return what redraws the views of a scene, and fits it to them.

        Raises:
            UserError: If the model can't let views see each other, and is to.
        """
        if self.key_views and not guidance.denoiser.attends_across_views:
            raise UserError(
                f"--pipeline.together.key-views is {self.key_views}, and this model can't see several views at a time: "
                "give 0, or Stable Diffusion 1, 2 or XL."
            )
        redrawing = RedrawConfig(flow_edit=self.flow_edit)
        return Refining(model, views, guidance, redrawing, self.final_mult, from_source=True, key_views=self.key_views)

    def rounds(self, steps: int, views: int) -> int:
        """Return that a view is to be redrawn once in so many times that its turn comes.

        Args:
            steps: In all, each of which is one view's turn.
            views: In all.
        """
        return max(1, round(steps / (views * (self.redrawings + 1))))


TOGETHER = TogetherConfig()
"""With the defaults."""


def together_end(strategy: Strategy, config: TogetherConfig, plan: EditPlan, everything: bool) -> int:
    """Return the first edit step of a plan that edits views together no more: its start, if none does.

    Args:
        strategy: Which steps do.
        config: What share of them.
        plan: Of the run.
        everything: Whether the edit changes most of what a splat shows. On what everything becomes, views agree from
            the beginning, and distillation has nothing to add but haze. NeRFs end nearer to the truth with it.
    """
    draft = plan.steps if everything else math.ceil(config.share * plan.steps)
    return plan.start + {"distil": 0, "together": plan.steps, "both": draft}[strategy]
