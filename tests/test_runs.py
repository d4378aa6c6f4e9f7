"""Folders that are never written over, configurations that come back, results, and the frame of a command."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.editing import EditLoop, StepReport
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.runs import (
    EditCommand,
    Results,
    Saved,
    load_config,
    new_folder,
    read_command,
    save_config,
)


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
        with pytest.raises(UserError, match=r"c\.json"):
            load_config(Outer, tmp_path / "c.json")
        with pytest.raises(UserError, match=r"none\.json"):
            load_config(Outer, tmp_path / "none.json")

    @pytest.mark.parametrize(
        "inner", [{"rate": "1"}, {"rate": True}, {"rate": None}, {"names": 3}, {"names": ["x"]}, {"rate": [1.0]}]
    )
    def test_values_of_other_types_are_refused_and_named(self, inner: dict[str, object], tmp_path: Path) -> None:
        (tmp_path / "c.json").write_text(json.dumps({"file": "a", "inner": inner}))
        (value,) = inner.values()
        with pytest.raises(UserError, match=re.escape(repr(value))):
            load_config(Outer, tmp_path / "c.json")

    def test_from_the_command_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        about = CommandHelp("edit", "Edit a file.", (FirstOption("--inner.rate", "how fast"),), ("edit --file a",))
        monkeypatch.setattr("sys.argv", ["edit", "--file", "a", "--inner.rate", "2"])
        config = read_command(about, Outer(Path()))
        assert config == Outer(Path("a"), inner=Inner(2.0))
        save_config(config, tmp_path / "c.json")
        file = str(tmp_path / "c.json")
        monkeypatch.setattr("sys.argv", ["edit", "--repeat", file])
        assert read_command(about, Outer(Path())) == config
        for words in (["--repeat", file, "--inner.names", "y"], ["--inner.names", "y", "--repeat", file]):
            monkeypatch.setattr("sys.argv", ["edit", *words])
            assert read_command(about, Outer(Path())) == Outer(Path("a"), inner=Inner(2.0, "y"))
        for words, said in ((["--repeat"], "--repeat FOLDER"), (["light", "--repeat", file], "leave out the recipe")):
            monkeypatch.setattr("sys.argv", ["edit", *words])
            with pytest.raises(UserError, match=said):
                read_command(about, Outer(Path()))


class Fade(EditLoop):
    """Takes a tenth of the brightness away in each of five steps."""

    def __init__(self) -> None:
        super().__init__([])
        self.steps, self.image = 5, torch.full((3, 4, 4), 1.0)

    def step(self) -> StepReport:
        self.done += 1
        self.image = self.image - 0.1
        return StepReport(self.done, self.steps, {"brightness": 1.0}, skipped=self.done == 2)


class Kept(Results):
    """Notes when it was asked to save."""

    command = "fade"

    def __init__(self, loop: Fade, folder: Path) -> None:
        super().__init__(Outer(Path("a")), folder, save_every=2)
        self.loop, self.before, self.saved = loop, loop.image, list[int]()

    def save_progress(self) -> None:
        self.saved.append(self.loop.done)

    def save(self) -> Saved:
        return Saved(self.folder / "a.png", self.before, self.loop.image, {"more": 3.0})


class TestResults:
    def test_what_is_left(self, tmp_path: Path) -> None:
        results = Kept(loop := Fade(), tmp_path)
        assert load_config(Outer, tmp_path / "config.json") == Outer(Path("a"))
        assert results.leave(loop) == tmp_path / "a.png" and results.saved == [2, 4]
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert list(metrics) == ["complete", "seconds", "psnr_to_source", "more", "steps"]
        assert (
            metrics["complete"] and metrics["more"] == 3 and metrics["psnr_to_source"] == pytest.approx(6.02, abs=0.01)
        )
        assert metrics["steps"][1] == {"step": 2, "skipped": True, "brightness": 1.0} and len(metrics["steps"]) == 5

    def test_ctrl_c_leaves_what_there_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        results = Kept(loop := Fade(), tmp_path)

        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(results, "save_progress", interrupt)
        assert results.leave(loop) == tmp_path / "a.png"
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert not metrics["complete"] and len(metrics["steps"]) == 2

    def test_metrics_are_json_whatever_a_step_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Fade, "step", lambda self: StepReport(self.steps, self.steps, {"loss": float("nan")}))
        loop = Fade()
        loop.done = loop.steps - 1
        results = Kept(loop, tmp_path)
        results._record(loop.step())
        loop.done = loop.steps
        results.leave(loop)
        metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
        assert metrics["steps"][0]["loss"] is None

    def test_the_same_is_a_finite_distance_away(self, tmp_path: Path) -> None:
        loop = Fade()
        loop.done = loop.steps
        Kept(loop, tmp_path).leave(loop)
        assert json.loads((tmp_path / "metrics.json").read_text())["psnr_to_source"] == pytest.approx(120)


@dataclass
class Asked:
    """What a small command is told."""

    file: Path
    """What to edit."""
    src_prompt: str = "a man"
    """What it shows."""
    tgt_prompt: str = "a robot"
    """What it should show."""
    device: str = "cpu"
    """Where to work."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    """The diffusion model."""

    @property
    def prompts(self) -> tuple[str, str]:
        return self.src_prompt, self.tgt_prompt

    def check(self) -> None:
        if self.file.suffix != ".txt":
            raise UserError(f"{self.file} is no text.")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> EditCommand[Asked, str]:
    """A command that notes what it does, whose guidance is a list of what was said to it."""
    said: list[object] = []

    def load(config: GuidanceConfig, device: torch.device) -> Any:
        said.extend(["load", device.type])
        return SimpleNamespace(set_prompts=lambda *prompts: said.extend(prompts), said=said)

    def read(config: Asked) -> str:
        said.append("read")
        return config.file.name

    def edit(config: Asked, source: str, guidance: Any) -> Path:
        guidance.said.append(f"edit {source}")
        return Path(*map(str, guidance.said))

    monkeypatch.setattr(Guidance, "from_config", load)
    about = CommandHelp("pds-text", "Edit a text.", (FirstOption("--file", "what", required=True),), ("pds-text",))
    return EditCommand(about, Asked(Path()), read, edit, hint=" (and more)")


class TestCommand:
    def test_it_checks_reads_loads_and_edits(self, command: EditCommand[Asked, str]) -> None:
        expected = "read", "load", "cpu", "a man", "a robot", "edit a.txt"
        assert command.run(Asked(Path("a.txt"))).parts == expected

    def test_nothing_is_read_or_loaded_if_something_is_wrong(self, command: EditCommand[Asked, str]) -> None:
        with pytest.raises(UserError, match="no text"):
            command.run(Asked(Path("a.png")))
        assert command.run(Asked(Path("a.txt"))).parts[0] == "read"

    def test_it_ends_with_one_line(
        self,
        command: EditCommand[Asked, str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("sys.argv", ["pds-text", "--file", "a.txt", "--tgt-prompt", "a cat"])
        command.main()
        assert capsys.readouterr().out == "Wrote read/load/cpu/a man/a cat/edit a.txt (and more)\n"
        monkeypatch.setattr("sys.argv", ["pds-text", "--file", "a.png"])
        with pytest.raises(SystemExit) as stopped:
            command.main()
        assert stopped.value.code == "a.png is no text."
