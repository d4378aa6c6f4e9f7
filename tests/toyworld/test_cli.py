"""pds-toyworld: what it writes, and that mistakes are answered in one line."""

import shlex
from pathlib import Path

import pytest

from pds_nerfstudio.toyworld.cli import main
from pds_nerfstudio.toyworld.dataset import read_record, write_scene
from pds_nerfstudio.toyworld.drawing import drawing
from pds_nerfstudio.toyworld.grammar import Attributes, caption, edit


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Return the patch that gives the command its arguments; it runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def run(command: pytest.MonkeyPatch, line: str) -> None:
    command.setattr("sys.argv", shlex.split(line))
    main()


def command_in(output: str) -> list[str]:
    """Return the command at the end, as a shell reads it."""
    return shlex.split(output.split("To edit it:")[1].replace("\\\n", ""))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_scene_and_the_command_that_edits_it(
    command: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(
        command,
        "pds-toyworld scene --out bear --edit hat=party --thing.subject bear --views 2 --width 24 --height 16 --seed 3",
    )
    source = Attributes("bear")
    target = edit(source, "hat", "party")
    assert read_record(tmp_path / "bear") == (source, target)
    assert len(list(write_scene(tmp_path / "same", source, target, views=2, width=24, height=16, seed=3))) == 2
    assert contents(tmp_path / "bear") == contents(tmp_path / "same")
    words = command_in(capsys.readouterr().out)
    assert words[:4] == ["ns-train", "pds-splat-toyworld", "--data", "bear"]
    assert words[5::2] == [caption(source), caption(target)]


def test_a_drawing_is_one_whatever_style_was_asked_for(
    command: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(command, "pds-toyworld drawing --out cube --edit color=red --thing.subject cube --thing.style photo")
    source = Attributes("cube", style="drawing")
    target = edit(source, "color", "red")
    captions = f"{caption(source)}\n{caption(target)}\n"
    written = {"source.svg": drawing(source), "true_edit.svg": drawing(target), "captions.txt": captions}
    assert contents(tmp_path / "cube") == {name: text.encode() for name, text in written.items()}
    words = command_in(capsys.readouterr().out)
    assert words[:3] == ["pds-svg", "--svg", "cube/source.svg"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scene --out new --edit wings=two", "--edit wings=two: give attribute=value with one of subject, color"),
        ("scene --out new --edit arms", "--edit arms: arms='' is not of this world; it can be down, raised"),
        ("scene --out new --edit color=blue", "--edit color=blue: color is 'blue' already"),
        ("drawing --out new --edit sky=night", "--edit sky=night: nobody could see"),
        ("scene --out new --edit hat=top --views 0", "--views is 0: give at least 1"),
        ("scene --out used --edit hat=top", "used holds a scene already: give a new folder"),
        ("drawing --out used --edit hat=top", "used holds drawings already: give a new folder"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    command: pytest.MonkeyPatch, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "used").mkdir()
    for name in ("transforms.json", "source.svg"):
        (tmp_path / "used" / name).write_text("mine")
    with pytest.raises(SystemExit) as end:
        run(command, f"pds-toyworld {line}")
    assert str(end.value).startswith(f"Error: {message}")
    assert "\n" not in str(end.value)
    assert not (tmp_path / "new").exists()
    assert set(contents(tmp_path / "used").values()) == {b"mine"}
