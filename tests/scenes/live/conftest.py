"""Runs of which something is asked while they go on."""

from collections.abc import Callable
from typing import Any

import pytest

from pds_nerfstudio.scenes.live.session import Request
from pds_nerfstudio.scenes.trainer import EditTrainer, EditTrainerConfig

Asked = dict[int, list[Request]]


@pytest.fixture
def run_asking(prepare: Any, watch: Any) -> Callable[..., EditTrainer]:
    """Trains, and asks before the first step (-1), or while calls of the guidance, counted from 0, are made."""

    def ran(
        config: EditTrainerConfig, asked: Asked, look: Callable[[EditTrainer, int], None] = lambda trainer, call: None
    ) -> EditTrainer:
        trainer = prepare(config)
        watch.progress.clear()

        def before(call: int) -> None:
            look(trainer, call)
            for request in asked.get(call, []):
                trainer.session.ask(request)

        watch.before = before
        for request in asked.get(-1, []):
            trainer.session.ask(request)
        trainer.train()
        watch.before = lambda call: None
        return trainer

    return ran
