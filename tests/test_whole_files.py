import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pds_nerfstudio.whole_files import (
    append_line,
    as_json,
    whole_file,
    whole_folder,
    whole_lines,
    write_bytes,
    write_text,
)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_a_file_is_there_when_it_is_whole_and_nothing_else_is(tmp_path: Path) -> None:
    with whole_file(tmp_path / "new" / "picture.png") as unfinished:
        unfinished.write_bytes(b"half")
        assert unfinished.suffix == ".png"  # by which libraries choose a format
        assert not (tmp_path / "new" / "picture.png").exists()
    assert (tmp_path / "new" / "picture.png").read_bytes() == b"half"
    assert _names(tmp_path) == {"new", "picture.png"}


def test_what_json_does_not_know_becomes_null() -> None:
    value = {"a": float("nan"), "b": [1.5, (float("inf"), {"c": -float("inf")})], "d": "NaN", "e": True, "f": 3}
    assert json.loads(as_json(value), parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.5, [None, {"c": None}]],
        "d": "NaN",
        "e": True,
        "f": 3,
    }


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_what_fails_leaves_the_file_that_was_there(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / "file", "before")

    def fail() -> None:
        with whole_file(tmp_path / "file") as unfinished:
            unfinished.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "file").read_text() == "before"
    assert _names(tmp_path) == {"file"}


def test_a_folder_takes_the_place_of_the_one_before_as_a_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "views") as unfinished:
        write_bytes(unfinished / "images" / "a.png", b"a")

    def fail() -> None:
        with whole_folder(tmp_path / "views") as unfinished:
            write_bytes(unfinished / "b.png", b"b")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert _names(tmp_path) == {"views", "images", "a.png"}
    with whole_folder(tmp_path / "views") as unfinished:
        write_bytes(unfinished / "c.png", b"c")
    assert _names(tmp_path) == {"views", "c.png"}


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.mkdir()
    (usual / "file").write_text("as others write it")
    with whole_folder(tmp_path / "folder") as unfinished:
        write_text(unfinished / "file", "as we do")
    assert (tmp_path / "folder").stat().st_mode == usual.stat().st_mode
    assert (tmp_path / "folder" / "file").stat().st_mode == (usual / "file").stat().st_mode


def test_a_link_still_leads_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_text() == "text"


def test_a_name_as_long_as_the_disk_allows_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 255), "text")
    assert _names(tmp_path) == {"n" * 255}


def test_a_killed_process_leaves_no_half_file_under_its_name(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from pds_nerfstudio.whole_files import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])) as file: file.write_text('half'); os.kill(os.getpid(), 9)"
    )
    write_text(tmp_path / "file", "before")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], env=os.environ).returncode == -9
    assert (tmp_path / "file").read_text() == "before"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", []),
        ('{"a": 1}\n', ['{"a": 1}']),
        ('{"a": 1}\n{"b": ', ['{"a": 1}']),
        ('{"a": 1}\n{"b": 2}', ['{"a": 1}', '{"b": 2}']),
        ('{"b": "\udcc3', []),  # half a letter
    ],
)
def test_half_a_line_is_not_read_and_not_written_behind(tmp_path: Path, written: str, read: list[str]) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(written, encoding="utf-8", errors="surrogateescape")
    assert whole_lines(file) == read
    append_line(file, '{"c": 3}')
    assert whole_lines(file) == [*read, '{"c": 3}']
    assert file.read_text("utf-8") == "".join(f"{line}\n" for line in [*read, '{"c": 3}'])
