"""A run that is resumed anywhere goes on as if it had not been interrupted, to the last bit."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from pds_nerfstudio.scenes.trainer import EditTrainer

RECONSTRUCT, EDIT = 6, 4


@pytest.fixture(scope="module", params=["splat", "nerf"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def options(kind: str) -> dict[str, Any]:
    """Splats grow at every other step, so what they count in between decides how."""
    if kind == "nerf":
        return {"steps": EDIT, "reconstruct": RECONSTRUCT}
    growing: dict[str, Any] = {
        "refine_every": 4,
        "warmup_length": 1,
        "densify_grad_thresh": 0.0,
        "edit_densify_grad_thresh": 0.0,
    }
    growing |= {"edit_refine_every": 3, "background_color": "random"}
    return {
        "steps": EDIT,
        "reconstruct": RECONSTRUCT,
        **{f"pipeline__model__{name}": value for name, value in growing.items()},
    }


@pytest.fixture(scope="module")
def straight(
    kind: str, options: Any, tmp_path_factory: pytest.TempPathFactory, config_in: Any, run: Any, last_state: Any
) -> dict[str, Any]:
    return last_state(run(config_in(tmp_path_factory.mktemp("straight"), kind, **options)))


@pytest.fixture
def stopped_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], EditTrainer]], EditTrainer]:
    """Ends a run after a step."""

    def stopped(last: int, ran: Callable[[], EditTrainer]) -> EditTrainer:
        usual = EditTrainer.train_iteration

        def interrupted(self: EditTrainer, step: int) -> Any:
            if step == last:
                os.kill(os.getpid(), signal.SIGINT)
            return usual(self, step)

        with monkeypatch.context() as patched:
            patched.setattr(EditTrainer, "train_iteration", interrupted)
            return ran()

    return stopped


@pytest.mark.parametrize("last", [2, RECONSTRUCT - 1, RECONSTRUCT, RECONSTRUCT + 1])
def test_resumed_after(
    last: int,
    kind: str,
    options: Any,
    straight: dict[str, Any],
    make_config: Any,
    run: Any,
    stopped_after: Any,
    last_state: Any,
    differences: Any,
) -> None:
    trainer = stopped_after(last, lambda: run(make_config(kind, **options)))
    assert last_state(trainer)["step"] == last
    resumed = run(make_config(kind, "resumed", **options, load_dir=trainer.checkpoint_dir))
    assert differences(straight, last_state(resumed)) == []


def test_resumed_where_the_refinement_begins_with_the_source(
    kind: str, options: Any, make_config: Any, run: Any, stopped_after: Any, last_state: Any, differences: Any
) -> None:
    refined = {**options, "pipeline__refine_steps": 2, "pipeline__refine_from": "source"}
    straight = last_state(run(make_config(kind, "straight", **refined)))
    last = RECONSTRUCT + EDIT - 1
    trainer = stopped_after(last, lambda: run(make_config(kind, **refined)))
    assert last_state(trainer)["step"] == last
    resumed = run(make_config(kind, "resumed", **refined, load_dir=trainer.checkpoint_dir))
    assert differences(straight, last_state(resumed)) == []
