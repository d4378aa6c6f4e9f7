"""Ways in which a run ends before its last step: none loses work, and each says how to go on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.optimizers import EditOptimizers
from pds_nerfstudio.scenes.output.history import History
from pds_nerfstudio.scenes.run_folder import LOCK
from pds_nerfstudio.scenes.signals import stopped_by_signals
from pds_nerfstudio.scenes.terminal import lasting_output
from pds_nerfstudio.scenes.trainer import EditTrainer

STEPS = 5


def steps_saved(trainer: EditTrainer) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in trainer.checkpoint_dir.glob("*"))


def send(signum: int, at: int) -> Callable[[int], None]:
    def sent(call: int) -> None:
        if call == at:
            os.kill(os.getpid(), signum)

    return sent


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, config_in: Any, run: Any, last_state: Any) -> dict[str, Any]:
    """The checkpoint that a run leaves which nothing has ended."""
    return last_state(run(config_in(tmp_path_factory.mktemp("straight"), "splat", steps=STEPS)))


@pytest.fixture
def goes_on(
    straight: dict[str, Any], make_config: Any, run: Any, watch: Any, last_state: Any, differences: Any
) -> Callable[[Path], None]:
    """Resumes a run, and sees that it ends as if nothing had ended it."""

    def resumed(folder: Path) -> None:
        watch.before = lambda call: None
        trainer = run(make_config("splat", "resumed", steps=STEPS, load_dir=folder))
        assert differences(straight, last_state(trainer)) == []

    return resumed


class TestSignals:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU])
    def test_the_step_is_finished_and_saved(
        self, signum: int, make_config: Any, prepare: Any, watch: Any, goes_on: Any, capsys: Any
    ) -> None:
        watch.before = send(signum, at=1)
        trainer = prepare(make_config("splat", steps=STEPS))
        with pytest.raises(SystemExit) as ended:
            trainer.train()
        assert ended.value.code == 128 + signum
        assert steps_saved(trainer) == [3]
        assert f"--load-dir {trainer.checkpoint_dir}" in capsys.readouterr().out
        assert signal.getsignal(signum) == signal.SIG_DFL
        goes_on(trainer.checkpoint_dir)

    def test_what_nohup_ignores_is_ignored(self, make_config: Any, run: Any, watch: Any) -> None:
        watch.before = send(signal.SIGHUP, at=1)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            trainer = run(make_config("splat"))
        finally:
            signal.signal(signal.SIGHUP, before)
        assert watch.calls == 3 and steps_saved(trainer) == [4]

    def test_a_queue_may_say_it_several_times(self) -> None:
        stops: list[int] = []
        with stopped_by_signals(stops.append):
            for signum in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(signum)
        assert stops == [signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM]

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_while_loading_they_end_it_with_one_line(
        self, signum: int, make_config: Any, prepare: Any, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
    ) -> None:
        config = make_config("splat")
        monkeypatch.setattr(EditTrainer, "_read_start", lambda self: signal.raise_signal(signum))
        with pytest.raises(SystemExit) as ended:
            prepare(config)
        assert ended.value.code == 128 + signum
        assert "Stopped while loading" in capfd.readouterr().err
        assert not config.get_base_dir().exists()


_PARENT = """
import multiprocessing, signal, sys, time
from pathlib import Path
from pds_nerfstudio.scenes.signals import hand_on_signals

def work(folder, number):
    def save(signum, frame):
        time.sleep(0.3)
        (folder / f"saved-{number}-{signum}").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    (folder / f"working-{number}").touch()
    time.sleep(60)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    hand_on_signals()
    processes = [multiprocessing.get_context("spawn").Process(target=work, args=(folder, n)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
"""


@pytest.mark.slow
def test_the_process_that_waits_for_those_of_several_gpus_hands_signals_on(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(_PARENT)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path], stderr=subprocess.PIPE)
    try:
        while len(list(tmp_path.glob("working-*"))) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGTERM)
        _, errors = parent.communicate(timeout=60)
    finally:
        parent.kill()
    assert parent.returncode == 128 + signal.SIGTERM
    assert {path.name for path in tmp_path.glob("saved-*")} == {f"saved-{n}-{signal.SIGTERM}" for n in range(2)}
    assert b"Traceback" not in errors


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (RuntimeError("[/x] is odd\nvery"), "RuntimeError: [/x] is odd"),
            (UserError("No."), "No."),
            (OSError(5, "Broken", "x"), "x: Broken."),
        ],
    )
    def test_before_a_step_changes_anything_the_last_one_is_saved(
        self, error: Exception, says: str, make_config: Any, prepare: Any, watch: Any, fails: Any
    ) -> None:
        def raised(call: int) -> None:
            if call == 2:
                raise error

        watch.before = raised
        trainer = prepare(make_config("splat", steps=STEPS))
        message = fails(trainer.train)
        assert f"--load-dir {trainer.checkpoint_dir}" in message and says in message
        assert steps_saved(trainer) == [3]

    def test_between_two_steps_it_is_saved_to_the_bit(
        self, make_config: Any, prepare: Any, watch: Any, fails: Any, monkeypatch: Any, goes_on: Any
    ) -> None:
        def raised(self: History, moment: Any) -> None:
            if moment.step == 3:
                raise OSError(28, "No space left on device")
            usual(self, moment)

        usual = History.add
        trainer = prepare(make_config("splat", steps=STEPS))
        with monkeypatch.context() as patched:
            patched.setattr(History, "add", raised)
            assert "The disk is full" in fails(trainer.train)
        assert steps_saved(trainer) == [3]
        goes_on(trainer.checkpoint_dir)

    def test_a_step_that_has_changed_something_is_not_saved(
        self, make_config: Any, prepare: Any, watch: Any, fails: Any, monkeypatch: Any, goes_on: Any
    ) -> None:
        def raised(self: EditOptimizers, step: int) -> None:
            if step == 4:
                raise RuntimeError("out of memory")
            usual(self, step)

        usual = EditOptimizers.scheduler_step_all
        trainer = prepare(make_config("splat", steps=STEPS, steps_per_save=3))
        with monkeypatch.context() as patched:
            patched.setattr(EditOptimizers, "scheduler_step_all", raised)
            assert "Step 3 is saved" in fails(trainer.train)
        assert steps_saved(trainer) == [3]
        goes_on(trainer.checkpoint_dir)

    def test_in_the_first_edit_step_the_reconstruction_is_the_way_on(
        self, make_config: Any, prepare: Any, watch: Any, fails: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr("pds_nerfstudio.scenes.pipeline.Rates.share", lambda *_: 1 / 0)
        trainer = prepare(make_config("splat", steps=STEPS))
        assert f"--load-dir {trainer.source_folder}" in fails(trainer.train)


class TestNumbersThatAreNotFinite:
    @pytest.mark.parametrize(("rate", "steps"), [(1e38, 4), (1e38, 40)])
    def test_they_replace_no_checkpoint(
        self, rate: float, steps: int, make_config: Any, prepare: Any, watch: Any, fails: Any, last_state: Any
    ) -> None:
        trainer = prepare(make_config("splat", steps=steps, steps_per_save=2, pipeline__lr_mult=rate))
        message = fails(trainer.train)
        assert "finite" in message and "--pipeline.lr-mult" in message
        for path in [*trainer.checkpoint_dir.glob("*"), *trainer.source_folder.glob("*")]:
            state = torch.load(path, weights_only=True)["pipeline"]
            assert all(p.isfinite().all() for name, p in state.items() if "gauss_params" in name)

    @pytest.mark.parametrize("option", ["lr_mult", "lr_final_mult", "refine_lr_mult"])
    def test_rates_that_are_none_are_refused(self, option: str, make_config: Any, prepare: Any, fails: Any) -> None:
        config = make_config("splat", **{f"pipeline__{option}": float("nan")})
        assert option in fails(lambda: prepare(config)).replace("-", "_")

    def test_those_that_a_scene_had_before_are_kept(
        self, make_config: Any, run: Any, plain_run: Any, last_state: Any
    ) -> None:
        (path,) = plain_run("splat").iterdir()
        state = torch.load(path, weights_only=True)
        state["pipeline"]["_model.gauss_params.means"][0] = float("nan")
        torch.save(state, path)
        assert steps_saved(run(make_config("splat", load_checkpoint=path))) == [10]


class TestResults:
    @pytest.mark.parametrize("ends_at", ["write_results", "write_report"])
    def test_a_run_that_was_killed_while_it_wrote_them_writes_them_when_it_is_resumed(
        self, ends_at: str, make_config: Any, run: Any, prepare: Any, monkeypatch: Any, fails: Any, watch: Any
    ) -> None:
        def ended(*_: Any) -> None:
            raise KeyboardInterrupt

        trainer = prepare(make_config("splat", show_edit=True))
        with monkeypatch.context() as patched:
            patched.setattr(f"pds_nerfstudio.scenes.trainer.{ends_at}", ended)
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        resumed = run(make_config("splat", "resumed", show_edit=True, load_dir=trainer.checkpoint_dir))
        assert watch.calls == 3 and steps_saved(resumed) == [4]
        written = {path.name for path in resumed.base_dir.iterdir()}
        assert {"edited_views", "before_after.png", "splat.ply", "report.html", "reconstruction"} <= written
        again = make_config("splat", "again", show_edit=True, load_dir=resumed.checkpoint_dir)
        assert "has run its 3 steps" in fails(lambda: prepare(again))


class TestFolder:
    def test_no_run_goes_into_the_folder_of_another(self, make_config: Any, capsys: Any) -> None:
        names = []
        for _ in range(3):
            config = make_config("splat")
            config.set_timestamp()
            config.save_config()
            names.append(config.get_base_dir().name)
        assert names == ["run", "run-2", "run-3"]
        assert "holds a run already" in capsys.readouterr().out

    def test_but_that_of_one_killed_before_its_first_checkpoint_is_taken_again(self, make_config: Any) -> None:
        """By a queue that runs the same command again; what is at work keeps its own, and so does what has work."""
        folder = make_config("splat").get_base_dir()
        (folder / "history").mkdir(parents=True)
        (folder / "events.out.tfevents.1.host").touch()
        (folder / "config.yml").write_text("half")
        (folder / LOCK).touch()  # a kill leaves it
        first, second = make_config("splat"), make_config("splat")
        first.set_timestamp()
        second.set_timestamp()
        assert [first.get_base_dir().name, second.get_base_dir().name] == ["run", "run-2"]
        assert [path.name for path in folder.iterdir()] == [LOCK]

    @pytest.mark.parametrize("name", ["nerfstudio_models/step-1.ckpt", "report.html", "reconstruction/a", "mine.txt"])
    def test_nothing_is_removed_that_may_be_wanted(self, name: str, make_config: Any) -> None:
        folder = make_config("splat").get_base_dir()
        (folder / name).parent.mkdir(parents=True)
        for file in (name, "config.yml"):
            (folder / file).write_text("work")
        config = make_config("splat")
        config.set_timestamp()
        assert config.get_base_dir().name == "run-2"
        assert (folder / name).read_text() == "work"

    def test_words_of_other_methods_are_refused_before_there_is_one(self, make_config: Any, fails: Any) -> None:
        config = make_config("splat", prompt="a dog")
        message = fails(config.set_timestamp)
        assert "--pipeline.src-prompt" in message and "--pipeline.tgt-prompt" in message
        assert not config.output_dir.exists()

    @pytest.mark.parametrize("by_file", [False, True])
    def test_but_a_run_may_go_on_in_its_own(self, by_file: bool, make_config: Any, run: Any, watch: Any) -> None:
        watch.before = send(signal.SIGINT, at=1)
        stopped = run(make_config("splat", steps=STEPS))
        (path,) = stopped.checkpoint_dir.iterdir()
        start = {"load_checkpoint": path} if by_file else {"load_dir": path.parent}
        config = make_config("splat", steps=STEPS, **start)
        config.set_timestamp()
        assert config.get_base_dir() == stopped.base_dir
        assert steps_saved(run(config)) == [6]

    def test_nor_does_one_that_goes_on_from_a_finished_edit_replace_it(self, make_config: Any) -> None:
        config = make_config("splat")
        folder = config.get_base_dir()
        (folder / config.relative_model_dir).mkdir(parents=True)
        (folder / "report.html").write_text("finished")
        again = make_config("splat", steps=STEPS, load_dir=folder / config.relative_model_dir)
        again.set_timestamp()
        assert again.get_base_dir().name == "run-2"


@contextmanager
def unread(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """Gives the program streams whose reader has ended. Not a fixture, after which pytest sets up its own."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as patched:
        for name in names:
            patched.setattr(sys, name, stream)
        yield


def test_a_run_goes_on_when_the_reader_of_its_output_has_ended(
    make_config: Any, prepare: Any, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = prepare(make_config("splat"))
    with unread(monkeypatch, "stdout"):
        trainer.train()
    assert steps_saved(trainer) == [4]
    assert capfd.readouterr().err.count("The output can't be written any more") == 1


def test_where_the_terminal_is_gone_nothing_is_left_to_fail(monkeypatch: Any) -> None:
    with unread(monkeypatch, "stdout", "stderr"):
        with lasting_output():
            print("x" * 100_000, flush=True)
            print("x" * 100_000, file=sys.stderr, flush=True)
        print("afterwards, too", flush=True)


def test_markup_in_a_request_is_text(make_config: Any, run: Any, tmp_path: Path, capsys: Any) -> None:
    record = tmp_path / "session.jsonl"
    record.write_text('{"step": 3, "action": "set", "settings": {"objective": "[/x]"}}\n')
    assert steps_saved(run(make_config("splat", replay=record))) == [4]
    assert "[/x]" in capsys.readouterr().out


def test_seed_points_in_one_place_are_no_explosion(make_config: Any, prepare: Any) -> None:
    trainer = prepare(make_config("splat", steps=1, reconstruct=1))
    with torch.no_grad():
        trainer.pipeline.model.gauss_params["scales"][:2] = -torch.inf  # as splatfacto has it
    trainer.train()
    assert len(list(trainer.checkpoint_dir.iterdir())) == 1
