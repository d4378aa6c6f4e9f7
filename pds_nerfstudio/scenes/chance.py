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
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.utils.comms import get_rank

from pds_nerfstudio.scenes.models.scene_model import SceneModel

_KEY = "chance"
_TO_COME = "train_unseen_cameras"
_GROWTH = ("grad2d", "count", "radii")
_PROPOSALS = ("_step", "_steps_since_update")


class Chance:
    """Keeps it in checkpoints, and takes it up before the first step of a resumed run.

    Args:
        model: Of the scene.
        datamanager: Of nerfstudio, which says what the next step sees.
        seed: Of what is drawn anew at each step.
    """

    def __init__(self, model: SceneModel, datamanager: DataManager, seed: int) -> None:
        self._model, self._datamanager, self._seed = model, datamanager, seed
        self._kept: Mapping[str, Any] | None = None
        self._proposals: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        growth, shuffler = getattr(self._model, "strategy_state", {}), self._shuffler
        state = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "shuffler": shuffler and shuffler.getstate(),
            "to_come": [*getattr(self._datamanager, _TO_COME, ())],
            "growth": {name: growth[name].clone() for name in _GROWTH if growth.get(name) is not None},
            "proposals": self._proposals,
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
            torch.set_rng_state(state["torch"])
            if state["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"])
            if state["shuffler"] is not None and self._shuffler is not None:
                self._shuffler.setstate(state["shuffler"])
                setattr(self._datamanager, _TO_COME, list(state["to_come"]))
        self._proposals = dict(state["proposals"])
        if grown:  # other words may have let more Gaussians in since: then all are counted anew
            n, growth = getattr(self._model, "num_points", 0), state["growth"]
            fitting = {name: counts.to(self._model.device) for name, counts in growth.items() if len(counts) == n}
            getattr(self._model, "strategy_state", {}).update(fitting)

    def begin_step(self, step: int, grown: bool) -> None:
        """Let a step depend neither on a resumption nor on what was rendered since the last one, such as for a viewer.

        Args:
            step: The next one.
            grown: Whether the model goes on to grow as it did.
        """
        self.take_up(grown)
        random.seed(f"{self._seed}/{get_rank()}/{step}")
        np.random.seed((self._seed + get_rank() + step) % 2**32)
        for name, value in self._proposals.items():
            setattr(self._sampler, name, value)

    def callback(self) -> TrainingCallback:
        """Return what notes at the end of each step what the model has counted."""
        return TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._end_step)

    def _end_step(self, step: int) -> None:
        self._proposals = {name: getattr(self._sampler, name) for name in _PROPOSALS if hasattr(self._sampler, name)}

    @property
    def _sampler(self) -> Any:
        return getattr(self._model, "proposal_sampler", None)

    @property
    def _shuffler(self) -> Any:
        return getattr(self._datamanager, "random_generator", None)
