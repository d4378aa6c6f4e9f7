"""Folders that are never written over, configurations that come back, and Ctrl-C."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.runs import StepReport, load_config, new_folder, read_command, save_config, take_steps


@dataclass
class Inner:
    rate: float = 0.5
    names: str = "x"


@dataclass
class Outer:
    file: Path
    mask: Path | None = None
    inner: Inner = field(default_factory=Inner)


class TestFolders:
    def test_each_is_new(self, tmp_path: Path) -> None:
        folders = [new_folder(tmp_path / "a" / "b", "man") for _ in range(3)]
        assert [folder.name for folder in folders] == ["man", "man-2", "man-3"]
        assert all(folder.is_dir() for folder in folders)

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("")
        with pytest.raises(UserError, match="--output-dir"):
            new_folder(tmp_path / "f", "man")
        (tmp_path / "man").write_text("")
        assert new_folder(tmp_path, "man").name == "man-2"


class TestConfigs:
    @pytest.mark.parametrize("config", [Outer(Path("a/b")), Outer(Path("a"), Path("m"), Inner(1.5, "y"))])
    def test_they_come_back(self, config: Outer, tmp_path: Path) -> None:
        save_config(config, tmp_path / "c.json")
        assert load_config(Outer, tmp_path / "c.json") == config

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"file": "a", "other": 1}', '{"file": "a", "inner": 3}'])
    def test_what_is_none_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match="c.json"):
            load_config(Outer, tmp_path / "c.json")
        with pytest.raises(UserError, match="none.json"):
            load_config(Outer, tmp_path / "none.json")

    def test_from_the_command_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        about = CommandHelp("edit", "Edit a file.", (FirstOption("--inner.rate", "how fast"),), ("edit --file a",))
        monkeypatch.setattr("sys.argv", ["edit", "--file", "a", "--inner.rate", "2"])
        config = read_command(about, Outer(Path()))
        assert config == Outer(Path("a"), inner=Inner(2.0))
        save_config(config, tmp_path / "c.json")
        monkeypatch.setattr("sys.argv", ["edit", "--repeat", str(tmp_path / "c.json")])
        assert read_command(about, Outer(Path())) == config


class TestSteps:
    def test_all_are_taken_and_reported(self) -> None:
        numbers = iter(range(1, 10))
        seen: list[int] = []
        assert take_steps(lambda: StepReport(next(numbers), 3), 3, lambda report: seen.append(report.step))
        assert seen == [1, 2, 3]

    def test_ctrl_c_ends_them(self) -> None:
        seen: list[int] = []

        def step() -> StepReport:
            if len(seen) == 2:
                raise KeyboardInterrupt
            return StepReport(len(seen) + 1, 5)

        assert not take_steps(step, 5, lambda report: seen.append(report.step))
        assert seen == [1, 2]

    def test_errors_are_not_hidden(self) -> None:
        def step() -> StepReport:
            raise ValueError("bug")

        with pytest.raises(ValueError, match="bug"):
            take_steps(step, 5, lambda report: None)
