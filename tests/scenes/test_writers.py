"""Numbers and pictures of an edit in tensorboard and Weights & Biases, through nerfstudio's writers."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from nerfstudio.utils import writer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pds_nerfstudio.scenes.live.session import Request

NUMBERS = {"Train Loss", "Train Loss Dict/guidance_loss", "Train Metrics Dict/gradient_rms"}
PICTURES = {"Edit/view", "Edit/triptych"}


class Wandb(SimpleNamespace):
    """What nerfstudio's writer uses of wandb. Like wandb, it forgets what comes with an earlier step than the last."""

    def __init__(self) -> None:
        super().__init__(config=SimpleNamespace(update=lambda *_, **__: None), Image=lambda image: image.shape)
        self.kept: list[tuple[int, str]] = []
        self.lost: list[tuple[int, str]] = []

    def init(self, **_: Any) -> None:
        pass

    def log(self, values: dict[str, Any], step: int) -> None:
        late = self.kept and step < self.kept[-1][0]
        (self.lost if late else self.kept).extend((step, name) for name in values)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    stub = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    return stub


def test_wandb_loses_nothing_of_a_run_that_is_steered(make_config: Any, prepare: Any, watch: Any, wandb: Wandb) -> None:
    config = make_config("splat", steps=6, reconstruct=3, vis="wandb", steps_per_picture=2, logging__steps_per_log=1)
    trainer = prepare(config)
    asked = {1: Request("set", {"guidance_scale": 3.0}), 3: Request("edit", {"steps_left": 4})}
    watch.before = lambda call: trainer.session.ask(asked[call]) if call in asked else None
    trainer.train()
    assert trainer.next_step == 3 + 4 + 4 and not wandb.lost
    steps = {name: [step for step, of in wandb.kept if of == name] for name in NUMBERS | PICTURES}
    assert steps["Train Loss"] == list(range(11))
    assert steps["Train Loss Dict/guidance_loss"] == steps["Train Metrics Dict/gradient_rms"] == list(range(3, 11))
    assert steps["Edit/view"] == steps["Edit/triptych"] == [3, 5, 7, 9]


def test_tensorboard_has_them_on_file(make_config: Any, run: Any) -> None:
    config = make_config("splat", steps=3, vis="tensorboard", steps_per_picture=2, logging__steps_per_log=1)
    trainer = run(config)
    for one in writer.EVENT_WRITERS:
        one.tb_writer.flush()
    events = EventAccumulator(str(trainer.base_dir)).Reload()
    assert NUMBERS <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("Train Loss Dict/guidance_loss")] == [2, 3, 4]
    for name in PICTURES:
        assert [event.step for event in events.Images(name)] == [2, 4]
