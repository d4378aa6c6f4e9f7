"""Renders of an edit are redrawn by the diffusion model, and the scene is fitted to them.

So an edit is refined; and so views are edited together (`together`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.utils.comms import get_rank, get_world_size
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.scenes.models.recolor import recolor
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.models.seeds import Seeds
from pds_nerfstudio.scenes.output.pictures import EditedView
from pds_nerfstudio.scenes.views import SourceView, SourceViews, views_of


class Refining:
    """Steps that fit the scene to redrawn views, with those that have been redrawn so far.

    Args:
        model: Of the scene.
        views: Its training views.
        guidance: With its prompts.
        config: How renders are redrawn.
        final_mult: Share of the noise of `config` with which a view would be redrawn at the end of these steps.
        from_source: Whether the scene begins as it was before the edit, and all views are redrawn before that.
        key_views: How many views the model sees beside each, when all are redrawn by FlowEdit.
    """

    def __init__(
        self,
        model: SceneModel,
        views: SourceViews,
        guidance: Guidance,
        config: RedrawConfig,
        final_mult: float,
        from_source: bool,
        key_views: int = 0,
    ) -> None:
        self._model, self._views, self._guidance, self._config = model, views, guidance, config
        self.from_source, self._final_mult, self._key_views = from_source, final_mult, key_views
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
        if self._key_views and self._config.flow_edit.method != "off":
            sizes: dict[torch.Size, list[int]] = {}
            for index in indices:
                sizes.setdefault(self._views[index].image.shape, []).append(index)
            for same in sizes.values():
                self._redraw_together(same, quiet)
        else:
            for index in track(indices, "Redrawing all views", console=CONSOLE, disable=quiet):
                self.redraw(self._views[index])
        self._seeds = self._model.surfaces(self._views, self._redrawn)

    def begin(self) -> bool:
        """Take up what the redrawn views change of everything, and plant what they show of new surfaces.

        That is for the scene as it was before the edit.

        Returns:
            Whether they change most of what is seen.
        """
        everything = recolor(self._model, self._views, self._redrawn)
        if everything and get_rank() == 0:
            CONSOLE.print("The edit changes most of what is seen: colours were fitted first.")
        if self._seeds is not None:
            if get_rank() == 0:
                CONSOLE.print(f"The redrawn views agree on {len(self._seeds.means)} points of something new.")
            self._model.plant(self._seeds)
        self._seeds = None
        return everything

    def redraw(self, view: SourceView, progress: float = 0.0) -> None:
        """Redraw a view from the scene as it is.

        Args:
            view: A training view.
            progress: Share of these steps that is done, from 0 to 1. What is drawn late is to agree with what the
                scene shows by then, and mend its detail alone.
        """
        config = self._config.with_less(self._final_mult**progress)
        rgb = self._model.see(view).rgb.detach()
        image, keys = rgb.float().permute(2, 0, 1)[None], [view.index]
        self._take(view, rgb, self._guidance.redraw(image, view.image, config, keys, self._unedited(view)))

    def _redraw_together(self, indices: list[int], quiet: bool) -> None:
        """Redraw views of one size, each of which the model sees beside some that are spread evenly among them."""
        spread = [indices[k * len(indices) // self._key_views] for k in range(self._key_views)]
        keys = list(dict.fromkeys(spread))
        order = [*keys, *(index for index in indices if index not in keys)]
        seen = [self._model.see(self._views[index]).rgb.detach() for index in order]
        images = [rgb.float().permute(2, 0, 1)[None] for rgb in seen]
        sources, flow = [self._views[index].image for index in order], self._config.flow_edit
        edit = self._guidance.redraw_together(images, sources, flow, order, len(keys))
        for _ in track(range(flow.steps), "Redrawing all views", console=CONSOLE, disable=quiet):
            edit.step()
        for index, rgb, latents in zip(order, seen, edit.latents.split(1), strict=True):
            view = self._views[index]
            self._take(view, rgb, self._guidance.finish_redrawing(latents, self._unedited(view), [index]))

    def _unedited(self, view: SourceView) -> Float[Tensor, "1 3 height width"]:
        """Return how the model sees a view's source."""
        unedited = self._redrawn.seen(view.index)
        if unedited is None:
            unedited = self._guidance.round_trip(view.image, [view.index])[0].permute(1, 2, 0)
            self._redrawn.see(view.index, unedited)
        return unedited.permute(2, 0, 1)[None].to(view.image)

    def _take(
        self, view: SourceView, rgb: Float[Tensor, "height width 3"], redrawn: Float[Tensor, "1 3 height width"]
    ) -> None:
        # What the data set masks out stays as it is.
        self._redrawn[view.index] = view.where_shown(redrawn[0].permute(1, 2, 0), rgb)
        target = self._redrawn.picture(view.index)
        self.last_view = EditedView(view.index, view.image[0].permute(1, 2, 0), rgb, rgb - target.to(rgb))

    def losses(self, k: int, view: SourceView, progress: float, rounds: int) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a step, which may redraw its view first.

        Args:
            k: Of the step, counted from the first of these.
            view: The one whose turn it is.
            progress: See `redraw`.
            rounds: A view is redrawn once in so many times that its turn comes.
        """
        of_this_gpu = len(views_of(len(self._views), get_rank(), get_world_size()))
        turn = k // of_this_gpu
        due = turn % rounds == 0
        drawn_before = self.from_source and k < of_this_gpu  # the scene doesn't show the edit yet
        if (due and not drawn_before) or view.index not in self._redrawn:
            self.redraw(view, progress)
        return self._model.fit_redrawn(view, self._redrawn, turn)

    def forget(self) -> None:
        """Forget what was redrawn."""
        self._redrawn.clear()
        self._seeds = None

    def state_dict(self) -> dict[int, Any]:
        """Return the redrawn views, for a checkpoint."""
        return self._redrawn.state_dict()

    def load_state_dict(self, state: dict[int, Any]) -> None:
        """Go on with the redrawn views of a checkpoint."""
        self._redrawn.load_state_dict(state)
