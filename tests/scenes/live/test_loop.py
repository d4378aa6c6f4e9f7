"""What is asked of a running edit: when it takes effect, what it leaves, and that it can be repeated."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from plyfile import PlyData

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.live.fields import PRESETS
from pds_nerfstudio.scenes.live.session import Request, read_record
from pds_nerfstudio.scenes.output.history import History
from pds_nerfstudio.scenes.trainer import EditTrainer

KINDS = ["splat", "nerf"]


def recorded(trainer: EditTrainer) -> list[tuple[int, Request]]:
    return read_record(trainer.base_dir / "session.jsonl")


def edit(**settings: Any) -> Request:
    return Request("edit", settings)


class TestSettings:
    def test_they_count_from_the_next_step_on_and_are_written_down(
        self, make_config: Any, run_asking: Any, watch: Any
    ) -> None:
        seen: list[tuple[str, float]] = []

        def look(call: int, output: Any) -> Any:
            config = trainer_config.pipeline
            seen.append((config.tgt_prompt, config.guidance.guidance_scale))
            return output

        watch.after = look
        trainer_config = make_config("splat", steps=4)
        change = Request("set", {"guidance_scale": 3.5})
        trainer = run_asking(trainer_config, {1: [change, edit(tgt_prompt="a red dog")]})
        assert seen == [("a dog", 7.5), ("a dog", 7.5), ("a red dog", 3.5), ("a red dog", 3.5)]
        assert trainer.pipeline.guidance.prompts == (["a cat"], ["a red dog"])
        (begin, began), *rest = recorded(trainer)
        assert began.action == "set" and began.settings["steps_left"] == 4 and begin == 0
        assert rest == [(4, change), (4, edit(tgt_prompt="a red dog"))]
        saved = yaml.load((trainer.base_dir / "config.yml").read_text(), yaml.Loader)
        assert saved.pipeline.tgt_prompt == "a red dog" and saved.max_num_iterations == 4

    @pytest.mark.parametrize(
        "settings",
        [
            {"guidance_scale": -1.0},
            {"t_min": 0.9, "t_max": 0.1},
            {"objective": "sds", "localize": 0.5},
            {"tgt_prompt": "  ", "guidance_scale": 2.0},
            {"steps_left": 0, "guidance_scale": 2.0},
            {"photometric_loss_mult": -1.0, "guidance_scale": 2.0},
            {"redraw_strength": 0.0, "guidance_scale": 2.0},
            {"localize_by": "chance", "guidance_scale": 2.0},
        ],
    )
    def test_invalid_ones_change_nothing_and_are_said(
        self, settings: dict[str, Any], make_config: Any, run_asking: Any
    ) -> None:
        trainer = run_asking(make_config("splat", steps=2), {0: [Request("set", settings)]})
        guidance = trainer.config.pipeline.guidance
        assert (guidance.guidance_scale, guidance.t_min, guidance.objective) == (7.5, 0.02, "pds")
        assert len(recorded(trainer)) == 1

    def test_every_preset_and_what_a_refusal_names_can_be_set(self, make_config: Any, run_asking: Any) -> None:
        presets = [Request("set", preset) for preset in PRESETS.values()]
        other = Request("set", {"localize_by": "attention", "photometric_loss_mult": 0.5, "redraw_strength": 0.6})
        trainer = run_asking(make_config("splat", steps=2), {0: [*presets, other]})
        assert recorded(trainer)[1:] == [(3, request) for request in [*presets, other]]
        saved = yaml.load((trainer.base_dir / "config.yml").read_text(), yaml.Loader).pipeline
        assert saved.guidance.guidance_scale == 100 and saved.guidance.localize_by == "attention"
        assert (saved.photometric_loss_mult, saved.refinement.strength) == (0.5, 0.6)

    def test_steps_left(self, make_config: Any, run_asking: Any, watch: Any) -> None:
        run_asking(make_config("splat", steps=9), {1: [Request("set", {"steps_left": 2})]})
        assert watch.progress == pytest.approx([0, 1 / 8, 2 / 3, 1])


class TestUndo:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("start", ["nothing", "plain checkpoint"])
    def test_it_gives_the_source_back_to_the_last_bit(
        self, kind: str, start: str, make_config: Any, run_asking: Any, plain_run: Any, differences: Any
    ) -> None:
        options = {} if start == "nothing" else {"load_dir": plain_run(kind)}
        config = make_config(kind, steps=2, **options)
        trainer = run_asking(config, {1: [Request("undo"), Request("snapshot"), edit(steps_left=1)]})
        (source,) = trainer.source_folder.glob("*.ckpt")
        (snapshot,) = (config.get_base_dir() / "snapshots").glob("*.ckpt")
        before, after = read_checkpoint(source), read_checkpoint(snapshot)
        assert differences(before.model_weights, after.model_weights) == []
        if start == "nothing":
            assert differences(before.state["optimizers"], after.state["optimizers"]) == []
        else:
            assert not any(optimizer["state"] for optimizer in after.state["optimizers"].values())
            given = read_checkpoint(next(config.load_dir.glob("*.ckpt")))
            assert differences(given.model_weights, {**after.model_weights}) == []
        picture = snapshot.with_suffix(".jpg")
        assert picture.exists()

    def test_the_edit_begins_anew(self, make_config: Any, run_asking: Any, watch: Any) -> None:
        kept = {"pipeline__model__edit_refine_every": 0}  # of what was strewn in vain, too
        trainer = run_asking(make_config("splat", steps=3, **kept), {1: [Request("undo"), edit()]})
        assert watch.progress == pytest.approx([0, 0.5, 0, 0.5, 1])
        assert trainer.pipeline.model.num_points == 200 + 40  # strewn once

    def test_before_the_edit_there_is_nothing_to_undo(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat"))
        with pytest.raises(UserError, match="nothing to undo"):
            trainer.live._undo({})

    def test_of_a_resumed_edit(self, finished: Any, make_config: Any, run_asking: Any, differences: Any) -> None:
        folder = finished("splat").checkpoint_dir
        trainer = run_asking(
            make_config("splat", steps=5, load_dir=folder), {0: [Request("undo"), Request("snapshot"), edit()]}
        )
        source = read_checkpoint(next((finished("splat").base_dir / "reconstruction").glob("*.ckpt")))
        snapshot = read_checkpoint(next((trainer.base_dir / "snapshots").glob("*.ckpt")))
        assert differences(source.model_weights, snapshot.model_weights) == []


class TestReplay:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_repeats_a_session_to_the_last_bit(
        self, kind: str, make_config: Any, run_asking: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        asked = {
            0: [Request("set", {"guidance_scale": 3.0, "t_schedule": "annealed"})],
            1: [edit(tgt_prompt="a red dog")],
            2: [Request("undo"), edit(tgt_prompt="a bear", steps_left=3)],
        }
        live = run_asking(make_config(kind, "live", steps=4), asked)
        plain = run(make_config(kind, "plain", steps=4))
        replay = run(make_config(kind, "replay", steps=4, replay=live.base_dir / "session.jsonl"))
        assert differences(last_state(live), last_state(replay)) == []
        assert differences(last_state(live)["pipeline"], last_state(plain)["pipeline"])
        assert recorded(replay) == recorded(live)

    def test_it_ends_where_the_session_was_ended(
        self, make_config: Any, run_asking: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        live = run_asking(make_config("splat", "live", steps=6), {2: [Request("stop")]})
        assert live.next_step == 5
        replay = run(make_config("splat", "replay", steps=6, replay=live.base_dir / "session.jsonl"))
        assert differences(last_state(live), last_state(replay)) == []


class TestKeeping:
    def test_a_branch_is_a_run_of_its_own(
        self, make_config: Any, run_asking: Any, run: Any, differences: Any, last_state: Any
    ) -> None:
        trainer = run_asking(
            make_config("splat", steps=4), {1: [Request("branch"), edit(tgt_prompt="a bear"), Request("branch")]}
        )
        first, second = (trainer.base_dir.with_name(f"run_{name}") for name in ("a-dog", "a-bear"))
        config = yaml.load((first / "config.yml").read_text(), yaml.Loader)
        assert config.get_base_dir() == first and config.pipeline.tgt_prompt == "a dog"
        assert config.max_num_iterations == 4
        assert (first / "picture.jpg").exists() and (first / "dataparser_transforms.json").exists()
        assert len(History.read(first).moments) == 2 and len(read_record(first / "session.jsonl")) == 1
        states = [read_checkpoint(folder / "nerfstudio_models/step-000000003.ckpt").state for folder in (first, second)]
        for state in states:
            extra = state["pipeline"]["_extra_state"]
            extra.pop("anchor", None)  # what the words are about
            extra["guidance"].pop("masks")
        assert differences(*states) == []
        resumed = run(make_config("splat", "resumed", steps=4, load_dir=first / "nerfstudio_models"))
        assert resumed.next_step == 6 and (resumed.base_dir / "reconstruction").exists()

    def test_snapshots_do_not_take_each_others_place(self, make_config: Any, run_asking: Any) -> None:
        trainer = run_asking(make_config("splat", steps=2), {0: [Request("snapshot"), Request("snapshot")]})
        names = {path.name for path in (trainer.base_dir / "snapshots").iterdir()}
        assert names == {f"step-000000002{end}" for end in (".ckpt", ".jpg", "-2.ckpt", "-2.jpg")}

    def test_an_export(self, make_config: Any, run_asking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer = run_asking(make_config("splat", steps=2), {0: [Request("export")]})
        folder = trainer.base_dir / "export-000000002"
        assert {path.name for path in folder.iterdir()} >= {"edited_views", "report.html", "before_after.png"}
        vertices = PlyData.read(folder / "splat.ply")["vertex"]
        names = [p.name for p in vertices.properties]
        assert vertices.count == 240 and {"f_dc_0", "f_rest_8", "opacity", "scale_2", "rot_3"} <= set(names)


class TestWaiting:
    @staticmethod
    def later(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
        def wait() -> None:
            end = time.monotonic() + 60
            while not condition() and time.monotonic() < end:
                time.sleep(0.005)
            action()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    @pytest.mark.parametrize("button", ["ours", "nerfstudio's"])
    def test_requests_are_answered_while_it_is_paused(
        self, button: str, make_config: Any, prepare: Any, watch: Any
    ) -> None:
        trainer = prepare(make_config("splat", steps=3))
        session = trainer.session

        def pause(call: int) -> None:
            if call != 1:
                return
            if button == "ours":
                session.ask(Request("pause"))
            else:
                trainer.training_state = "paused"

        watch.before = pause
        snapshots = trainer.base_dir / "snapshots"
        self.later(lambda: session.status.state == "paused", lambda: session.ask(Request("snapshot")))
        self.later(lambda: any(snapshots.glob("*.jpg")), lambda: session.ask(edit()))
        trainer.train()
        assert watch.calls == 3 and len(list(snapshots.glob("*.ckpt"))) == 1

    def test_browsers_are_shown_where_it_paused_and_what_was_undone(
        self, make_config: Any, prepare: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = prepare(make_config("splat", steps=3))
        session, drawn = trainer.session, []
        monkeypatch.setattr(
            trainer.panel,
            "rerender",
            lambda: drawn.append((session.status.state, trainer.next_step, trainer.pipeline.editing)),
        )
        watch.before = lambda call: session.ask(Request("pause"))
        self.later(lambda: len(drawn) == 1, lambda: session.ask(Request("undo")))
        self.later(lambda: len(drawn) == 2, lambda: session.ask(Request("stop")))
        trainer.train()
        assert drawn == [("paused", 3, True), ("paused", 3, False)]

    def test_ctrl_c_while_it_is_paused_saves(self, make_config: Any, prepare: Any, watch: Any) -> None:
        trainer = prepare(make_config("splat", steps=3))
        watch.before = lambda call: trainer.session.ask(Request("pause"))

        def stop() -> None:
            trainer.interrupted = True

        self.later(lambda: trainer.session.status.state == "paused", stop)
        trainer.train()
        assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000002.ckpt"]
        assert recorded(trainer)[-1] == (3, Request("stop"))

    def test_a_finished_edit_goes_on_while_its_viewer_is_open(
        self, make_config: Any, prepare: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = prepare(make_config("splat", steps=2))
        monkeypatch.setattr(EditTrainer, "stays_open", property(lambda self: True))
        session = trainer.session
        self.later(lambda: session.status.state == "finished", lambda: session.ask(edit(tgt_prompt="a bear")))
        self.later(lambda: watch.calls == 4, lambda: session.ask(Request("stop")))
        trainer.train()
        assert watch.progress == pytest.approx([0, 1, 0, 1])
        assert trainer.pipeline.config.tgt_prompt == "a bear"


def test_the_viewers_background_stays_out_of_the_edit(make_config: Any, run: Any) -> None:
    trainer = run(make_config("splat", steps=1))
    model = trainer.pipeline.model.train()
    camera = trainer.pipeline.views[0].camera
    before = model.render_edit_view(camera, 0)[0]
    model.set_background(torch.tensor([0.0, 1.0, 0.0]))  # as nerfstudio's viewer does with every render
    assert torch.equal(before, model.render_edit_view(camera, 0)[0])


def test_a_replay_that_is_not_there_is_refused_before_any_step(
    make_config: Any, prepare: Any, fails: Any, tmp_path: Path
) -> None:
    assert "--replay" in fails(lambda: prepare(make_config("splat", replay=tmp_path / "none.jsonl")))
