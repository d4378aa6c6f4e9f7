"""again.sh: a shell gets the words of the run, quoted, and further ones where they belong."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from pds_nerfstudio.again import FURTHER_OPTIONS, NAME, OWN_FOLDER, Start, command_in, printed, write_again

ODD = ["a 'cat'", '"$HOME" `id`', "two\nlines", "", "*", "-x", "ü \\ $(id) ; #", "\udcff"]


def words(script: Path, *further: str, cwd: Path | None = None) -> list[str]:
    """What a shell hands to the command of a script that says printf."""
    done = subprocess.run(["sh", script, *further], capture_output=True, check=True, cwd=cwd)
    return os.fsdecode(done.stdout).split("\0")[:-1]


def script(folder: Path, *command: str, start: Start | None = None) -> Path:
    return write_again(folder, [["printf", "%s\\0"], [*command]], start or Start())


def test_words_come_through_as_they_are(tmp_path: Path) -> None:
    again = script(tmp_path, *ODD, FURTHER_OPTIONS, "end")
    assert words(again) == [*ODD, "end"]
    assert words(again, *ODD) == [*ODD, *ODD, "end"]


def test_anyone_may_run_it(tmp_path: Path) -> None:
    again = script(tmp_path, "x")
    assert again.name == NAME and again.stat().st_mode & stat.S_IXUSR
    assert subprocess.run([again], capture_output=True, check=True).stdout == b"x\0"


def test_its_own_folder_is_where_it_lies_and_paths_are_those_of_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (then := tmp_path / "the 'then'").mkdir()
    monkeypatch.chdir(then)
    (run := tmp_path / "run").mkdir()
    write_again(run, [["printf", "%s %s", f"{OWN_FOLDER}/config.json"], ["x"]])
    moved = run.rename(tmp_path / "it's moved")
    done = subprocess.run(["sh", NAME], capture_output=True, check=True, cwd=moved, text=True)
    assert done.stdout == f"{moved}/config.json x"
    write_again(moved, [["pwd"]])
    assert subprocess.run(["sh", moved / NAME], capture_output=True, text=True, cwd="/").stdout == f"{then}\n"


@pytest.mark.parametrize("other", [["--load-dir", "b"], ["--load_ply=b"], ["--x", "--load-checkpoint", "b"]])
def test_another_start_takes_the_place_of_its_own(other: list[str], tmp_path: Path) -> None:
    again = script(tmp_path, FURTHER_OPTIONS, "end", start=Start(["--load-ply", "a b"], ["--data", f"{OWN_FOLDER}/c"]))
    assert words(again) == ["--load-ply", "a b", "end"]
    assert words(again, "--seed", "1") == ["--load-ply", "a b", "--seed", "1", "end"]
    assert words(again, *other) == ["--data", f"{tmp_path}/c", *other, "end"]


def test_a_note_is_no_command(tmp_path: Path) -> None:
    again = write_again(tmp_path, [["true"]], notes=["one\nexit 1", "\x1b[31m"])
    assert words(again) == []


def test_it_can_be_shown_as_one_would_type_it(tmp_path: Path) -> None:
    write_again(tmp_path, [["ns-train", "a b"], ["--x", "y"], [FURTHER_OPTIONS, "colmap"]])
    assert command_in(tmp_path) == ["ns-train 'a b' \\", "    --x y colmap"]
    write_again(tmp_path, [["pds-svg", "--repeat", f"{OWN_FOLDER}/config.json", FURTHER_OPTIONS]])
    assert command_in(tmp_path) == ["pds-svg --repeat config.json"]
    assert command_in(tmp_path / "none") == []


def test_the_printed_command_runs(tmp_path: Path) -> None:
    again = script(tmp_path / "a 'b'", FURTHER_OPTIONS)
    done = subprocess.run(printed(again.parent, *ODD[:-1]), shell=True, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ODD[:-1]
