"""A finished edit, and all that was left behind, whatever is clicked and in which order."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

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


def test_states_outlive_the_run_with_their_words_and_pictures(
    make_config: Any, run_asking: Any, prepare: Any, differences: Any
) -> None:
    """In the run's own folder, and in that of a run that starts from any of its folders."""
    first = run_asking(make_config("splat", steps=2, show_edit=True, pipeline__turntable_frames=0), {1: [BEAR]})
    was = [(state.name, state.checkpoint) for state in first.session.states]
    assert len(was) == 2 and first.base_dir.name == "run_a-bear"
    again = make_config("splat", "run_a-bear", steps=4, load_dir=first.checkpoint_dir)
    other = make_config("splat", "other", steps=4, load_dir=first.checkpoint_dir)
    for config in (again, other):
        trainer = prepare(config)
        states = trainer.session.states
        assert [(state.name, state.checkpoint) for state in states] == was
        for state in states:
            with Image.open(state.picture) as picture:
                assert max(picture.size) <= 320
        trainer.session.ask(Request("back", {"state": 1}))
        trainer.live._answer()
        weights = {name: value.clone() for name, value in trainer.pipeline.model.state_dict().items()}
        kept = read_checkpoint(states[0].checkpoint).model_weights
        assert differences({name: weights[name] for name in kept}, kept) == []
        assert trainer.pipeline.config.tgt_prompt == "a dog"


def test_states_of_a_session_over_several_folders_are_in_one_list(
    make_config: Any, run_asking: Any, prepare: Any
) -> None:
    first = run_asking(make_config("splat", steps=2), {1: [Request("undo"), Request("edit")]})
    first.session.ask(FROM_SOURCE)
    first.live._answer()
    first.train()
    assert first.base_dir.name == "run_a-fox"
    second = prepare(make_config("splat", "run_a-fox", steps=9, load_dir=first.checkpoint_dir))
    assert [s.name for s in second.session.states] == [s.name for s in first.session.states]
    assert second.live._kept.home == first.base_dir.with_name("run")


def test_a_state_whose_checkpoint_is_gone_is_not_offered(make_config: Any, run_asking: Any, prepare: Any) -> None:
    first = run_asking(make_config("splat", steps=3), {0: [Request("undo"), Request("redo"), BEAR]})
    one, *others = first.session.states
    one.checkpoint.unlink()
    (first.base_dir / "states" / "999.json").write_text("{}")
    second = prepare(make_config("splat", "second", steps=9, load_dir=first.checkpoint_dir))
    assert [s.number for s in second.session.states] == [s.number for s in others]


def test_undo_says_what_it_keeps_and_how_it_comes_back(make_config: Any, run_asking: Any) -> None:
    trainer = run_asking(make_config("splat", steps=2), {})
    trainer.session.ask(Request("undo"))
    trainer.live._answer()
    message = trainer.session.status.message
    assert "kept as 1: a dog (finished)" in message and "Redo brings it back" in message


def test_the_source_and_all_that_was_kept_are_set_side_by_side_on_a_page(make_config: Any, run_asking: Any) -> None:
    edit = Request("edit", {"tgt_prompt": "a bear", "round": "source"})
    trainer = run_asking(make_config("splat", steps=2), {0: [edit], 1: [Request("branch"), Request("compare")]})
    page = trainer.base_dir / "compare.html"
    heads = re.findall(r'<th scope="col">(.*?)</th>', page.read_text())
    assert heads == ["before the edit", "1: a dog (1 steps)", "2: a bear (1 steps)"]
    pictures = re.findall(r'<td><img src="(.*?)"', page.read_text())
    assert len(pictures) == len(set(pictures)) and len(pictures) % 3 == 0
    assert trainer.session.states[1].checkpoint.is_relative_to(trainer.base_dir.with_name("run_a-bear"))
