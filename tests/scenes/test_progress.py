"""What a run says of itself in the terminal."""

import shlex
from typing import Any

import pytest

from pds_nerfstudio.scenes.pace import TimeLeft
from pds_nerfstudio.scenes.progress import clock, export_needs, progress_text
from pds_nerfstudio.scenes.run import Status


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_an_edit() -> None:
    numbers: dict[str, Any] = {"seconds_per_step": 2.04, "time_left": TimeLeft(61.2), "loss": 0.123456}
    status = Status("editing", edit_step=10, edit_steps=40, **numbers)
    assert progress_text(status) == "Editing: edit step 10 of 40, 2 s a step, 1:01 left, loss 0.1235"


def test_a_reconstruction() -> None:
    left = TimeLeft(10, guessed=True)
    status = Status("reconstructing", 3, reconstruct_steps=10, edit_steps=4, seconds_per_step=1, time_left=left)
    assert progress_text(status) == "Reconstructing: step 4 of 10, 1 s a step, about 0:10 left"


def test_a_pause_has_no_time_left() -> None:
    assert progress_text(Status("paused", edit_steps=4)) == "Paused: edit step 0 of 4"


def test_a_run_prints_few_lines_and_says_what_to_type_next(
    make_config: Any, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = run(make_config("splat", "a [red]run", steps=4))
    printed = capsys.readouterr().out
    assert printed.count("s a step") <= 2
    end = printed[printed.index("The edit is done: 4 steps") :]
    assert f"ns-viewer --load-config '{trainer.base_dir}/config.yml'" in end
    assert "ns-export gaussian-splat" in end
    said = dict(line.strip().split(" sh ", 1) for line in end.splitlines() if " sh " in line)
    commands = {title.strip(): shlex.split(words) for title, words in said.items()}
    assert {words[0] for words in commands.values()} == {f"{trainer.base_dir}/again.sh"}
    assert commands["the same again"][1:] == []
    assert commands["other words"][1:] == [
        *("--load-dir", f"{trainer.base_dir}/reconstruction"),
        *("--pipeline.tgt-prompt", "a dog"),
    ]
    edited = ["--load-dir", f"{trainer.base_dir}/nerfstudio_models"]
    assert commands["more steps"][1:] == [*edited, "--max-num-iterations", "8"]
    assert commands["steer it"][1:3] == edited and "viewer" in commands["steer it"]


def test_what_ns_export_lacks_is_said_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("ctypes.CDLL", lambda name: asked.append(name))
    assert export_needs() == ""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert "apt-get install libusb-1.0-0" in export_needs()
    assert asked == ["libusb-1.0.so.0"]


def test_the_settings_are_printed_in_a_few_lines(make_config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_config("splat").print_to_terminal()
    printed = capsys.readouterr().out
    assert "a cat" in printed and "a dog" in printed and "config.yml" in printed
    assert len(printed) < 1000


def test_prompts_and_paths_are_printed_as_they_stand(make_config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    written = "a [red]fox[/] :cat: \\ in\n\x1b[31m[link=http://x]\x07 a hat"
    config = make_config("splat", "[bold]run", pipeline__src_prompt=written, pipeline__tgt_prompt="[/]")
    config.print_to_terminal()
    printed = capsys.readouterr().out
    assert "pds-splat: 'a [red]fox[/] :cat: \\ in [link=http://x] a hat' -> '[/]'\n" in printed
    assert "/[bold]run/config.yml\n" in printed and printed.count("\n") == 3
