"""A finished edit, and all that was left behind, whatever is clicked and in which order."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.live.session import Request, read_record
from pds_nerfstudio.scenes.trainer import EditTrainer

BEAR = Request("edit", {"tgt_prompt": "a bear", "round": "here"})
FROM_SOURCE = Request("edit", {"tgt_prompt": "a fox", "round": "source"})
ORDERS: dict[str, list[Request]] = {
    "edit": [BEAR],
    "undo": [Request("undo")],
    "undo, edit": [Request("undo"), BEAR],
    "undo, redo, edit": [Request("undo"), Request("redo"), BEAR],
    "set, branch, edit": [Request("set", {"guidance_scale": 2.0}), Request("branch"), BEAR],
    "edit, edit from the source": [BEAR, FROM_SOURCE],
    "edit, back": [BEAR, Request("back", {"state": 1})],
    "edit, back, undo, edit": [BEAR, Request("back", {"state": 1}), Request("undo"), FROM_SOURCE],
    "more steps": [Request("set", {"steps_left": 2})],
    "words that are refused": [Request("edit", {"tgt_prompt": " ", "round": "here"})],
}


def bits(folder: Path) -> dict[str, str]:
    """Return the content of what belongs together in a run's folder, by name."""
    parts = [folder / "config.yml", folder / "report.html", *folder.glob("nerfstudio_models/*")]
    parts += [folder / "session.jsonl", *folder.glob("history/*")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts if path.exists()}


def agrees(folder: Path) -> bool:
    """Return whether a finished run's config and report speak of the same words."""
    config = yaml.load((folder / "config.yml").read_text(), yaml.Loader)
    report = (folder / "report.html").read_text()
    return f"After: {config.pipeline.tgt_prompt}" in report or config.pipeline.tgt_prompt in report


@pytest.fixture
def clicks(make_config: Any, prepare: Any) -> Callable[..., tuple[EditTrainer, Path]]:
    """Runs an edit to its end, asks for something after it, and ends the run, as Ctrl-C does."""

    def made(requests: list[Request], kind: str = "splat", **options: Any) -> tuple[EditTrainer, Path]:
        trainer = prepare(make_config(kind, steps=2, reconstruct=1, pipeline__turntable_frames=0, **options))
        trainer.train()
        folder = trainer.base_dir
        before = bits(folder)
        for request in requests:
            trainer.session.ask(request)
            trainer.live._answer()
            if trainer.has_steps and trainer.training_state != "paused":
                trainer.train()
            assert bits(folder) == before, request
        return trainer, folder

    return made


@pytest.mark.parametrize(
    ("kind", "order"),
    [*(("splat", order) for order in ORDERS), ("nerf", "set, branch, edit"), ("nerf", "edit, back, undo, edit")],
)
def test_a_finished_edit_keeps_every_bit(kind: str, order: str, clicks: Any) -> None:
    trainer, folder = clicks(ORDERS[order], kind, show_edit=True)
    trainer.interrupted = True
    before = bits(folder)
    trainer._say_stopped()
    assert bits(folder) == before and agrees(folder)
    if "edit" in order:
        assert trainer.base_dir != folder or order == "edit, back"
    for other in folder.parent.iterdir():
        assert not (other / "report.html").exists() or agrees(other)


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_redo_and_back_give_the_edit_back_to_the_last_bit(
    kind: str, make_config: Any, run_asking: Any, differences: Any
) -> None:
    asked = {1: [Request("undo"), Request("redo"), Request("snapshot"), Request("undo"), Request("edit")]}
    trainer = run_asking(make_config(kind, steps=3), asked)
    state = trainer.session.states[0]
    kept = read_checkpoint(state.checkpoint)
    snapshot = read_checkpoint(next((state.picture.parent.parent / "snapshots").glob("*.ckpt")))
    assert differences(kept.model_weights, snapshot.model_weights) == []
    for name, optimizer in kept.state["optimizers"].items():  # each step sets the rates anew
        assert differences(optimizer["state"], snapshot.state["optimizers"][name]["state"]) == []
    assert state.name == "1: a dog (2 steps)" and state.picture.exists()


def test_new_words_begin_a_whole_round_from_here_or_from_the_source(
    make_config: Any, run_asking: Any, watch: Any
) -> None:
    trainer = run_asking(make_config("splat", steps=3), {1: [BEAR], 3: [FROM_SOURCE]})
    assert watch.progress == pytest.approx([0, 0.5, 0, 0.5, 0, 0.5, 1])
    assert [state.settings["tgt_prompt"] for state in trainer.session.states] == ["a dog", "a bear", "a fox"]


def test_edits_that_were_asked_for_run_one_after_the_other_and_are_kept(
    make_config: Any, run_asking: Any, watch: Any
) -> None:
    later = [Request("queue", {"tgt_prompt": words}) for words in ("a bear", "a fox")]
    trainer = run_asking(make_config("splat", steps=2, show_edit=True, pipeline__turntable_frames=0), {0: later})
    assert watch.progress == pytest.approx([0, 1, 0, 1, 0, 1])
    folders = [state.finished for state in trainer.session.states]
    assert [folder.name for folder in folders if folder] == ["run", "run_a-bear", "run_a-fox"]
    assert all(agrees(folder) for folder in folders if folder)


def test_a_session_over_several_folders_is_repeated(
    make_config: Any, run_asking: Any, run: Any, last_state: Any, differences: Any
) -> None:
    live = run_asking(make_config("splat", "live", steps=2), {1: [Request("undo"), Request("redo"), BEAR]})
    assert live.base_dir.name == "live_a-bear"
    record = live.base_dir / "session.jsonl"
    replay = run(make_config("splat", "replay", steps=2, replay=record))
    assert differences(last_state(live), last_state(replay)) == []
    assert read_record(replay.base_dir / "session.jsonl") == read_record(record)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UserError("No room [/x].")])
@pytest.mark.parametrize("action", ["export", "branch", "snapshot", "undo"])
def test_what_goes_wrong_in_a_request_becomes_a_message(
    action: Any, error: Exception, make_config: Any, run_asking: Any, monkeypatch: pytest.MonkeyPatch, watch: Any
) -> None:
    def fail(*_: Any) -> None:
        raise error

    said: list[str] = []

    def look(trainer: EditTrainer, call: int) -> None:
        said.append(trainer.session.status.message)
        for name in ("write_results", "write_branch", "write_checkpoint"):
            monkeypatch.setattr(trainer, name, fail)

    run_asking(make_config("splat", steps=3), {0: [Request(action)]}, look)
    assert watch.calls == 3 and str(error) in said[1]


def test_markup_in_a_setting_is_refused_in_words(make_config: Any, run_asking: Any, watch: Any) -> None:
    run_asking(make_config("splat", steps=2), {0: [Request("set", {"objective": "[/x]"})]})
    assert watch.calls == 2
