"""What decides the next steps of a run beside its numbers, so that a resumed run ends with the same bits.

Those are the states of the random generators, which views are still to come, and what models count between two steps.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nerfstudio.data.datamanagers.base_datamanager import DataManager
from nerfstudio.utils.comms import get_rank

from pds_nerfstudio.scenes.models.scene_model import SceneModel

_KEY = "chance"
_TO_COME = ("train_unseen_cameras", "eval_unseen_cameras")
_GROWTH = ("grad2d", "count", "radii")
_PROPOSALS = ("_step", "_steps_since_update")


class Chance:
    """Keeps it in checkpoints, and takes it up before the first step of a resumed run.

    Args:
        model: Of the scene.
        datamanager: Of nerfstudio, which says what the next step sees.
    """

    def __init__(self, model: SceneModel, datamanager: DataManager) -> None:
        self._model, self._datamanager = model, datamanager
        self._kept: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        name, keys, *numbers = np.random.get_state(legacy=True)
        growth = getattr(self._model, "strategy_state", {})
        sampler, shuffler = self._sampler, getattr(self._datamanager, "random_generator", None)
        state = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "python": random.getstate(),
            "numpy": [name, torch.from_numpy(np.array(keys, np.int64)), *numbers],
            "shuffler": shuffler and shuffler.getstate(),
            "to_come": {name: [*getattr(self._datamanager, name, ())] for name in _TO_COME},
            "growth": {name: growth[name].clone() for name in _GROWTH if growth.get(name) is not None},
            "proposals": {name: getattr(sampler, name) for name in _PROPOSALS if hasattr(sampler, name)},
        }
        return {_KEY: state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what a checkpoint holds of it before the next step; earlier versions kept nothing."""
        self._kept = state.get(_KEY)

    def take_up(self, grown: bool) -> None:
        """Go on as the run would have gone on from which a checkpoint has just been loaded, if one has.

        Args:
            grown: Whether the model goes on to grow as it did.
        """
        state, self._kept = self._kept, None
        if state is None:
            return
        if get_rank() == 0:  # whose random numbers they are
            self._draw_on(state)
        for name, value in state["proposals"].items():
            setattr(self._sampler, name, value)
        if grown:
            growth = {name: counts.to(self._model.device) for name, counts in state["growth"].items()}
            getattr(self._model, "strategy_state", {}).update(growth)

    def _draw_on(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
        random.setstate(state["python"])
        name, keys, *numbers = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *numbers))
        if state["shuffler"] is not None and hasattr(self._datamanager, "random_generator"):
            self._datamanager.random_generator.setstate(state["shuffler"])
        for name, views in state["to_come"].items():
            if hasattr(self._datamanager, name):
                setattr(self._datamanager, name, list(views))

    @property
    def _sampler(self) -> Any:
        return getattr(self._model, "proposal_sampler", None)
