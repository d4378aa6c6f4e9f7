"""What an edit may not change: by what the user selects, and by what the prompts ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.utils.comms import get_rank
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.distributed import take_from_first_rank
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.output.held import write_heat_map
from pds_nerfstudio.scenes.selection.asked import shares_asked
from pds_nerfstudio.scenes.selection.config import SelectionConfig
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.selection.select import select
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.scenes.views import SourceViews

_NEARLY_ALL = 0.9
"""Share of the Gaussians from which on an edit that is about them may change all: a style, or another light."""


@dataclass(frozen=True)
class Holds:
    """What is held."""

    only: SelectionConfig
    """What the user lets change."""
    below: float
    """Gaussians with a smaller share of their light where the text acts are held; 0 holds none of them."""
    batch: int
    """Latents in one call of the model in an edit's step."""


class Holding:
    """Holds Gaussians, and looks again when the edit is about something else; of a NeRF, what is not selected.

    Args:
        model: Of the scene.
        views: Its training views.
        guidance: With its prompts.
        holds: What is held.
    """

    def __init__(self, model: SceneModel, views: SourceViews, guidance: Guidance, holds: Holds) -> None:
        self._model, self._views, self._guidance, self._holds = model, views, guidance, holds
        self.only = holds.only
        """What the user lets change by now."""
        self._looked_for: list[Any] | None = None
        self._asked = True
        self._resumed: dict[str, Any] | None = None
        self._masks: dict[int, Tensor] = {}  # of views, where the text is to act
        self._masks_of: list[Any] | None = None

    def begin(self, first: bool, folder: Path | None) -> None:
        """Hold what the edit may not change, when it begins or goes on after weights were loaded.

        Args:
            first: Whether this is the edit's very first step.
            folder: Of the run, for a picture of what may change; None for none.
        """
        resumed, self._resumed = self._resumed, None
        self._asked = self.asks
        if resumed is None or first:
            self._hold(folder)
            return
        self._looked_for = resumed["looked_for"] or self._about  # earlier versions did not keep it
        free = resumed["free"]
        if free is not None:
            self._model.hold(lambda _: free)
        was = resumed["only"] and SelectionConfig().changed({**resumed["only"]["now"], "masks": None})
        if was is not None and resumed["only"]["now"] != self.only.plain:
            self._choose_anew(was, folder)
        self.follow_words(folder)

    def choose(self, only: SelectionConfig, began: bool, folder: Path | None) -> None:
        """Let something else change from now on: what is not in it stays as it is by now.

        Args:
            only: What may change.
            began: Whether the edit has begun; else this counts from its first step on.
            folder: Of the run, for a picture of what may change; None for none.

        Raises:
            UserError: If that is nothing of the scene. What could change before still may.
        """
        if only == self.only:
            return
        select(only, self._model, self._views)
        was, self.only = self.only, only
        if began:
            self._choose_anew(was, folder)

    def may_change(self, began: bool) -> Bool[Tensor, " gaussians"] | Region | None:
        """Return which Gaussians, or which region of space, may change; None if all may.

        Args:
            began: Whether the edit has begun; else box and balls alone say it.
        """
        if began:
            return self._model.may_change
        if not self.only.selects:
            return None
        region = self.only.region(self._model.device)
        return region.contains(self._model.means.detach()) if isinstance(self._model, EditSplatModel) else region

    def follow_words(self, folder: Path | None) -> None:
        """Look again, if the edit is about something else than when this last looked.

        What may change by then may go on to, also back. Strewn Gaussians come anew.
        """
        before, asked = self._model.free, self._asked
        self._asked = self.asks
        grows = self.asks and not asked  # what is to be new needs something to grow from
        if not grows and (before is None or self._looked_for is None or self._looked_for == self._about):
            return
        self._model.begin_edit(first=True, cameras=self._views.cameras)
        self._hold(folder, before)

    def _hold(self, folder: Path | None, before: Bool[Tensor, " gaussians"] | None = None) -> None:
        self._looked_for = self._about
        if self._model.kind == "nerf":
            if self.only.selects and not self._model.holds:
                self._model.hold(self._selected)
        elif self.only.selects or self._follows_prompts:

            def choose(gaussians: EditSplatModel) -> Bool[Tensor, " gaussians"]:
                chosen = self._selected(gaussians)
                free = chosen & self._asked_for(gaussians, chosen, folder)
                if before is not None:
                    free[: len(before)] |= before
                return _as_first_rank(free)

            self._model.hold(choose)

    def _choose_anew(self, was: SelectionConfig, folder: Path | None) -> None:
        """Hold by another choice in the middle of an edit. Gaussians are strewn where none were before.

        What the prompts let change before, they still do: it may have become something that they say nothing of.
        """
        if not isinstance(self._model, EditSplatModel):
            if self.only.selects:
                self._model.hold(self._selected)
            else:
                self._model.load_held_state(None)
            return
        n, before = self._model.num_points, self._model.free
        self._looked_for, self._asked = self._about, self.asks
        if self.asks:
            self._model.begin_edit(first=True, cameras=self._views.cameras)

        def choose(gaussians: EditSplatModel) -> Bool[Tensor, " gaussians"]:
            chosen = self._selected(gaussians)
            free = self._asked_for(gaussians, chosen, folder)
            free[:n] |= torch.ones_like(free[:n]) if before is None else before
            free &= chosen
            free[n:] &= ~was.region(gaussians.device).contains(gaussians.means[n:].detach())
            return _as_first_rank(free)

        self._model.hold(choose)

    def _selected(self, scene: Any) -> Any:
        """Return what the user lets change: which Gaussians, or a region.

        Raises:
            UserError: If the options let nothing change; what was chosen since the run began does not end it.
        """
        try:
            return select(self.only, scene, self._views)
        except UserError as error:
            if self.only == self._holds.only:
                raise
            say(f"{error} All of it keeps every bit until something else is chosen.", "yellow")
        region = self.only.region(self._model.device)
        nowhere = replace(region, sides=torch.zeros_like(region.sides))
        return nowhere.contains(scene.means.detach()) if self._model.kind == "splat" else nowhere

    def _asked_for(
        self, gaussians: EditSplatModel, chosen: Bool[Tensor, " gaussians"], folder: Path | None
    ) -> Bool[Tensor, " gaussians"]:
        """Return which Gaussians the prompts ask to change; all, if the prompts hold none.

        Args:
            gaussians: Of the scene.
            chosen: Which of them the user lets change, for the picture.
            folder: For the picture; None for none.
        """
        if not self._follows_prompts:
            return torch.ones(gaussians.num_points, dtype=torch.bool, device=gaussians.device)
        shares = self._shares(gaussians)
        asked = shares >= self._holds.below
        asked |= asked.float().mean() >= _NEARLY_ALL
        if folder is not None and get_rank() == 0:
            shown = write_heat_map(folder / "may_change.jpg", gaussians, self._views, shares * (asked & chosen))
            say(f"Wrote {shown}")
        return asked

    def _shares(self, gaussians: EditSplatModel) -> Float[Tensor, " gaussians"]:
        if not self.asks:
            # What the model would still see of equal prompts is rounding, and the masks would make much of it.
            return torch.zeros(gaussians.num_points, device=gaussians.device)
        about = [self._guidance.prompts, self._guidance.config]
        if about != self._masks_of:
            self._masks, self._masks_of = {}, about
        return shares_asked(self._guidance, gaussians, self._views, self._holds.batch, self._masks)

    @property
    def asks(self) -> bool:
        """Whether the edit asks for anything; if not, nothing new has to grow.

        Equal prompts ask for nothing where two are compared; without `localize`, an objective may look at one alone.
        """
        config, (source, target) = self._guidance.config, self._guidance.prompts or ([], [])
        return config.text_weight != 0 and (source != target or config.localize == 0)

    @property
    def _follows_prompts(self) -> bool:
        return self._holds.below > 0 and self._guidance.config.localize > 0 and self._model.kind == "splat"

    @property
    def _about(self) -> list[Any]:
        """What decides what the prompts ask for, of kinds that a checkpoint may hold."""
        config, prompts = self._guidance.config, self._guidance.prompts
        return [*(prompts or ()), config.localize, config.localize_by, config.objective, config.text_weight == 0]

    def choice(self, began: bool) -> dict[str, Any]:
        """Return what the user lets change, and what the options do, for a checkpoint.

        Args:
            began: Whether the edit has begun; else nothing is returned until something else is chosen.
        """
        if not began and self.only == self._holds.only:
            return {}
        return {"only": {"now": self.only.plain, "given": self._holds.only.plain}}

    def take_up_choice(self, state: dict[str, Any]) -> SelectionConfig:
        """Let change what was chosen in a run that goes on, unless the options say something else than they did.

        Returns what that is.

        Args:
            state: Of the pipeline, of a checkpoint to resume from.
        """
        chosen = state.get("only")
        if chosen is not None and (not self.only.selects or self.only.plain == chosen["given"]):
            self.only = SelectionConfig().changed(chosen["now"])
        return self.only

    def state_dict(self) -> dict[str, Any]:
        """Return which Gaussians may change, for a checkpoint; nothing if all may."""
        free = self._model.free
        return {} if free is None else {"free": free.cpu(), "looked_for": self._looked_for}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a run that goes on: of an edit that had begun, or of the scene before it.

        Args:
            state: Of the pipeline, with this state in it.
        """
        began = "guidance" in state
        self._resumed = {name: state.get(name) for name in ("free", "looked_for", "only")} if began else None


def _as_first_rank(free: Bool[Tensor, " gaussians"]) -> Bool[Tensor, " gaussians"]:
    """Return what the first of several GPUs holds, and say how much that is."""
    take_from_first_rank([free])
    if get_rank() == 0:
        _say_how_many(free)
    return free


def _say_how_many(free: Bool[Tensor, " gaussians"]) -> None:
    n = int(free.sum())
    if n == len(free):
        say("The edit is about all of the scene: all Gaussians may change.")
    elif n:
        say(f"The edit is about {n} of {len(free)} Gaussians; the others keep every bit (see --pipeline.hold-below).")
    else:
        say("The prompts ask for no change of the scene, or of what is selected: all of it keeps every bit.", "yellow")
