"""Refining an edit: its renders are redrawn by the diffusion model, and the scene is fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.utils.comms import get_rank, get_world_size
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.scenes.distributed import take_from_first_rank
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.models.seeds import Seeds
from pds_nerfstudio.scenes.output.pictures import EditedView
from pds_nerfstudio.scenes.views import SourceView, SourceViews, views_of

_KEY_VIEWS = 4
"""How many views the noise is tried on."""


class Refining:
    """The steps that refine, with the views that they have redrawn so far.

    All views are redrawn with the same noise: with noise of its own each becomes something else, and what the scene is
    fitted to is their mean. Of some noises (`tries` of how to redraw) the one is taken with which a few views, from all
    around, become what suits the target prompt best.

    Args:
        model: Of the scene.
        views: Its training views.
        guidance: With its prompts.
        config: How renders are redrawn.
        rounds: A view is redrawn once in so many times that its turn comes.
        from_source: Whether the scene begins as it was before the edit, and all views are redrawn before that.
    """

    def __init__(
        self,
        model: SceneModel,
        views: SourceViews,
        guidance: Guidance,
        config: RedrawConfig,
        rounds: int,
        from_source: bool,
    ) -> None:
        self._model, self._views, self._guidance, self._config = model, views, guidance, config
        self.rounds, self.from_source = rounds, from_source
        self._once = replace(config, tries=1)
        self._seed: int | None = None  # of the noise, until it is chosen
        self._redrawn = RedrawnViews(views)
        self._seeds: Seeds | None = None  # until they are planted
        self.last_view: EditedView | None = None
        """What was redrawn last."""

    @property
    def awaits_redrawing(self) -> bool:
        """Whether it begins with the source, and has yet to redraw its views."""
        return self.from_source and not self._redrawn

    def redraw_all(self) -> None:
        """Redraw all views (of several GPUs, this one's) from the scene as it is."""
        indices = views_of(len(self._views), get_rank(), get_world_size())
        quiet = get_rank() != 0
        self._choose_noise(quiet)
        for index in track(indices, "Redrawing all views", console=CONSOLE, disable=quiet):
            self.redraw(self._views[index])
        self._seeds = self._model.surfaces(self._views, self._redrawn)

    def begin(self) -> None:
        """Plant what the redrawn views show of new surfaces, in the scene as it was before the edit."""
        if self._seeds is not None:
            if get_rank() == 0:
                CONSOLE.print(f"The redrawn views agree on {len(self._seeds.means)} points of something new.")
            self._model.plant(self._seeds)
        self._seeds = None

    def _choose_noise(self, quiet: bool) -> None:
        """Choose the seed that all views are redrawn with."""
        first = self._guidance.config.seed
        seeds = [first + k for k in range(self._config.tries)]
        chosen = torch.tensor(first, device=self._model.device)
        if len(seeds) > 1 and not quiet:
            every = len(self._views) / min(_KEY_VIEWS, len(self._views))
            keys = [self._views[int(k * every)] for k in range(min(_KEY_VIEWS, len(self._views)))]
            seen = [(_picture(self._model.see(view).rgb), view.image, view.index) for view in keys]
            CONSOLE.print(f"Trying {len(seeds)} noises on {len(seen)} views ...")
            chosen.fill_(self._guidance.best_seed(seen, self._once, seeds))
        take_from_first_rank([chosen])
        self._seed = int(chosen)

    def redraw(self, view: SourceView) -> None:
        """Redraw a view from the scene as it is."""
        if self._seed is None:
            self._choose_noise(quiet=get_rank() != 0)
        rgb = self._model.see(view).rgb.detach()
        redrawn = self._guidance.redraw(_picture(rgb), view.image, self._once, keys=[view.index], seed=self._seed)
        # What the data set masks out stays as it is.
        self._redrawn[view.index] = target = view.where_shown(redrawn[0].permute(1, 2, 0), rgb)
        self.last_view = EditedView(view.index, view.image[0].permute(1, 2, 0), rgb, rgb - target.to(rgb))

    def losses(self, k: int, view: SourceView) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a step, which may redraw its view first.

        Args:
            k: Of the step, counted from the first that refines.
            view: The one whose turn it is.
        """
        of_this_gpu = len(views_of(len(self._views), get_rank(), get_world_size()))
        turn = k // of_this_gpu
        due = turn % self.rounds == 0
        drawn_before = self.from_source and k < of_this_gpu  # the scene doesn't show the edit yet
        if (due and not drawn_before) or view.index not in self._redrawn:
            self.redraw(view)
        return self._model.fit_redrawn(view, self._redrawn, turn)

    def forget(self) -> None:
        """Forget what was redrawn, and with which noise."""
        self._redrawn.clear()
        self._seed = None

    def state_dict(self) -> dict[str, Any]:
        """Return the redrawn views and the seed of their noise, for a checkpoint; nothing if there are none."""
        redrawn = self._redrawn.state_dict()
        return {"redrawn": redrawn, "redrawn_seed": self._seed} if redrawn else {}

    def load_state_dict(self, state: Mapping[str, Any], with_views: bool) -> None:
        """Go on with a checkpoint's noise and, where they are this process's, redrawn views."""
        self._seed = state.get("redrawn_seed")
        if with_views and "redrawn" in state:
            self._redrawn.load_state_dict(state["redrawn"])


def _picture(rgb: Float[Tensor, "height width 3"]) -> Float[Tensor, "1 3 height width"]:
    return rgb.detach().float().permute(2, 0, 1)[None]
