"""pds-eval: by what an edit is scored, and what is left of that; with scenes that need no training."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation import cli
from pds_nerfstudio.evaluation.cli import Evaluation, main, run
from pds_nerfstudio.evaluation.clip import ClipScores
from pds_nerfstudio.evaluation.toyworld import pictures
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes, edit
from pds_nerfstudio.toyworld.renderer import Cameras

MAN = Attributes()
RED = edit(MAN, "color", "red")


@pytest.fixture
def red_edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluation:
    """Return an edit that was to raise the man's arms, and turned him red."""
    scene = tmp_path / "scene"
    for _ in write_scene(scene, MAN, edit(MAN, "arms", "raised"), views=1, width=16, height=16):
        pass

    class RedEdit(FinishedEdit):
        data = scene

        def __init__(self, config_path: Path) -> None:
            pass

        def render(self, camera_to_world: Tensor, focal: Tensor, width: int, height: int) -> Tensor:
            return pictures(RED, Cameras(camera_to_world, focal, width, height))

    monkeypatch.setattr(cli, "FinishedEdit", RedEdit)
    return Evaluation(tmp_path / "run" / "config.yml", views=2)


@pytest.fixture
def real_edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluation:
    """Return an edit of a scene whose true edit nobody knows."""

    class RealEdit(FinishedEdit):
        data = tmp_path

        def __init__(self, config_path: Path) -> None:
            config: Any = SimpleNamespace(src_prompt="a man", tgt_prompt="a clown")
            self.pipeline: Any = SimpleNamespace(device="cpu", config=config)

        def before_and_after(self, n: int) -> tuple[list[Tensor], list[Tensor]]:
            return [torch.zeros(3, 20, 30)], [torch.ones(3, 20, 30)]

    monkeypatch.setattr(cli, "FinishedEdit", RealEdit)
    return Evaluation(tmp_path / "run" / "config.yml", views=1)


def scores_in(folder: Path) -> dict[str, float]:
    return json.loads((folder / "scores.json").read_text())


def test_the_edit_on_record_is_what_counts(red_edit: Evaluation) -> None:
    folder = run(red_edit)
    assert folder == red_edit.load_config.parent / "evaluation"
    assert scores_in(folder)["success"] == 0
    with Image.open(folder / "pictures.png") as sheet:
        assert sheet.size == (2 * 256, 3 * (256 + 22))


def test_unless_another_is_named(red_edit: Evaluation, tmp_path: Path) -> None:
    red_edit.edit, red_edit.out = "color=red", tmp_path / "elsewhere"
    folder = run(red_edit)
    assert folder == tmp_path / "elsewhere"
    scores = scores_in(folder)
    assert scores["success"] == scores["kept"] == 1
    assert math.isinf(scores["psnr_true"])
    assert "details" not in scores  # nothing came along with the edit


def test_other_scenes_are_judged_by_clip(real_edit: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(model: str, before: list[Tensor], after: list[Tensor], source: str, target: str) -> ClipScores:
        assert (model, source, target) == ("some/clip on cpu", "a man", "a clown")
        assert [view.mean().item() for view in (*before, *after)] == [0, 1]
        return ClipScores(directional=0.25, score=0.3, score_unedited=0.2, consistency=math.nan)

    monkeypatch.setattr(cli.clip, "load_clip", lambda name, device: f"{name} on {device}")
    monkeypatch.setattr(cli.clip, "judge", judge)
    real_edit.clip = "some/clip"
    assert scores_in(run(real_edit)) == {"directional": 0.25, "score": 0.3, "score_unedited": 0.2}


def test_without_a_true_edit_and_clip_there_is_nothing_to_judge_by(real_edit: Evaluation) -> None:
    with pytest.raises(UserError, match="give one with --clip"):
        run(real_edit)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"views": 0}, "--views is 0: give at least one"), ({"edit": "wings=two"}, "--edit wings=two: give attribute=")],
)
def test_nonsense_is_refused(red_edit: Evaluation, change: dict[str, int | str], message: str) -> None:
    vars(red_edit).update(change)
    with pytest.raises(UserError, match=message):
        run(red_edit)


def test_a_missing_run_is_answered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pds-eval", "--load-config", "no/config.yml"])
    with pytest.raises(SystemExit) as end:
        main()
    assert str(end.value) == "Error: no/config.yml: there is no such file; give the config.yml of a finished run."
