"""pds-eval: by what an edit is scored, and what is left of that; with scenes that need no training."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation import cli
from pds_nerfstudio.evaluation.cli import WORDS, Evaluation, main, run
from pds_nerfstudio.evaluation.edited_region import EditedRegion, NothingKnown
from pds_nerfstudio.evaluation.scene_scores import MOST_DECIBELS, SceneScores, Seen, StateScores
from pds_nerfstudio.evaluation.toyworld import pictures
from pds_nerfstudio.evaluation.view_agreement import true_looks
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes, edit
from pds_nerfstudio.toyworld.renderer import Cameras

MAN = Attributes()
RED = edit(MAN, "color", "red")


class Views:
    """The photos of a run: each of one shade, all of one size."""

    outputs = SimpleNamespace(image_filenames=[f"images/frame_{i}.jpg" for i in range(8)])


class Judge:
    """Sees photos that are black and edits that are white, and scores them in a way that is easy to tell."""

    seen: ClassVar[list[int]] = []

    def __init__(self, views: Any, edit: Any, reconstruction: Any, region: EditedRegion) -> None:
        self.source = reconstruction
        self.seen.clear()

    def see(self, index: int) -> Seen:
        self.seen.append(index)
        return Seen(torch.zeros(3, 20, 30), torch.ones(3, 20, 30))

    def scores(self) -> SceneScores:
        edit = StateScores(28.25, 31.5, 0.25, 0.125, 0.75, math.nan, 0.02)
        return SceneScores(edit, self.source and StateScores(psnr_to_photos=29.5, view_difference=0.01), 0.625)


class AnyEdit(FinishedEdit):
    """A finished run without a scene."""

    prompts = ("a man", "a clown")
    reconstruction: Any = "the scene before the edit"
    selection = None

    def __init__(self, config_path: Path) -> None:
        self.views: Any = Views()
        config: Any = SimpleNamespace(src_prompt=self.prompts[0], tgt_prompt=self.prompts[1])
        self.pipeline: Any = SimpleNamespace(device="cpu", config=config, model=None)

    def spread_views(self, n: int) -> list[int]:
        return list(range(n))


@pytest.fixture
def red_edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluation:
    """Return an edit that was to raise the man's arms, and turned him red."""
    scene = tmp_path / "scene"
    for _ in write_scene(scene, MAN, edit(MAN, "arms", "raised"), views=1, width=16, height=16):
        pass

    class RedEdit(AnyEdit):
        data = scene

        def render(self, camera_to_world: Tensor, focal: Tensor, width: int, height: int) -> Tensor:
            return pictures(RED, Cameras(camera_to_world, focal, width, height))

    monkeypatch.setattr(cli, "FinishedEdit", RedEdit)
    monkeypatch.setattr(cli, "looks_of", lambda _, cameras: true_looks(RED, cameras))
    monkeypatch.setattr(cli.scene_scores, "SceneJudge", Judge)
    return Evaluation(tmp_path / "run" / "config.yml", views=2)


@pytest.fixture
def real_edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluation:
    """Return an edit of a scene whose true edit nobody knows."""
    monkeypatch.setattr(AnyEdit, "data", tmp_path)
    monkeypatch.setattr(cli, "FinishedEdit", AnyEdit)
    monkeypatch.setattr(cli.scene_scores, "SceneJudge", Judge)
    return Evaluation(tmp_path / "run" / "config.yml", views=2)


def scores_in(folder: Path) -> dict[str, Any]:
    """Read the scores as JSON, which knows neither NaN nor infinity."""
    return json.loads(
        (folder / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )


def test_the_edit_on_record_is_what_counts(red_edit: Evaluation) -> None:
    folder = run(red_edit)
    assert folder == red_edit.load_config.parent / "evaluation"
    assert scores_in(folder)["true_edit"]["success"] == 0
    with Image.open(folder / "pictures.png") as sheet:
        assert sheet.size == (2 * 256, 3 * (256 + 22))


def test_unless_another_is_named(red_edit: Evaluation, tmp_path: Path) -> None:
    red_edit.edit, red_edit.out = "color=red", tmp_path / "elsewhere"
    folder = run(red_edit)
    assert folder == tmp_path / "elsewhere"
    scores = scores_in(folder)["true_edit"]
    assert scores["success"] == scores["kept"] == 1
    assert scores["psnr_true"] == MOST_DECIBELS
    assert scores["details"] is None  # nothing came along with the edit
    assert scores["view_difference_ratio"] == 1


def test_some_scores_are_told_in_words(red_edit: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    red_edit.edit = "color=red"
    folder = run(red_edit)
    printed = capsys.readouterr().out
    told = printed[printed.index("Against the true edit") :].splitlines()[1:6]
    assert "seen in 100% of the views" in told[0] and "100.0 dB; doing nothing would score" in told[1]
    assert "Neighbouring views differ 1.0 times as much as those of the true edit." in told[3]
    assert f"All {len(scores_in(folder)['true_edit'])} scores are in scores.json" in told[4]
    assert "nan" not in printed and "ssim" not in printed


def test_a_scene_of_the_embedded_world_is_compared_with_its_source_too(red_edit: Evaluation) -> None:
    assert scores_in(run(red_edit))["scene"]["edit"]["psnr_to_photos"] == 28.25


def test_any_scene_is_compared_with_its_source(real_edit: Evaluation) -> None:
    folder = run(real_edit)
    scores = scores_in(folder)
    assert list(scores) == ["scene"] and Judge.seen == [0, 1]
    assert scores["scene"] == {
        "views": 2,
        "outside": NothingKnown.words,
        "outside_share": 0.625,
        "view_difference_ratio": 2.0,
        "edit": {
            "psnr_to_photos": 28.25,
            "psnr_to_reconstruction": 31.5,
            "perceptual_to_photos": 0.25,
            "perceptual_to_reconstruction": 0.125,
            "sharpness_outside": 0.75,
            "sharpness_inside": None,
            "view_difference": 0.02,
        },
        "reconstruction": dict.fromkeys(WORDS) | {"psnr_to_photos": 29.5, "view_difference": 0.01},
    }
    with Image.open(folder / "pictures.png") as sheet:
        assert sheet.size == (2 * 256, 2 * (256 + 22))


def test_the_table_says_in_words_what_was_measured(real_edit: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    run(real_edit)
    printed = capsys.readouterr().out
    rows = {
        parts[0].strip(): [p.strip() for p in parts[1:]]
        for line in printed.splitlines()
        if (parts := line.strip("│").split("│"))[1:]
    }
    assert rows["PSNR to the photos, outside"] == ["28.2 dB", "29.5 dB"]
    assert rows["PSNR to the reconstruction, outside"] == ["31.5 dB", "–"]
    assert rows["sharpness beside the photos, outside"] == ["0.75", "–"]
    assert rows["the same, as a multiple of the reconstruction's"] == ["2.00", "1"]
    assert "sharpness beside the photos, inside" not in rows  # there is no inside
    assert "whole pictures, as no region of the edit is known" in printed and "62% of the pixels" in printed
    assert "No CLIP scores: name a model with --clip" in printed
    assert "No VQAScore: its library t2v_metrics is not installed." in printed


def test_without_a_reconstruction_the_photos_are_left(
    real_edit: Evaluation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(AnyEdit, "reconstruction", None)
    scores = scores_in(run(real_edit))["scene"]
    assert scores["reconstruction"] is None and scores["view_difference_ratio"] is None
    assert "has not kept its reconstruction" in capsys.readouterr().out


def test_masks_say_what_is_outside(real_edit: Evaluation, tmp_path: Path) -> None:
    real_edit.masks = tmp_path / "masks"
    with pytest.raises(UserError, match=r"--masks .*masks: there is no such folder"):
        run(real_edit)
    real_edit.masks.mkdir()
    Image.new("L", (30, 20)).save(real_edit.masks / "frame_1.png")
    assert f"outside the masks in {real_edit.masks}" in scores_in(run(real_edit))["scene"]["outside"]


class WordsAlone:
    """Stands for a judge by words."""

    name = "CLIP (some/clip)"

    def __init__(self, model: str, device: str, source: str, target: str) -> None:
        assert (model, device, target) == ("some/clip", "cpu", "a clown")
        self.directional = 0.25 if source else None
        self.means: list[float] = []

    def see(self, photo: Tensor, edited: Tensor) -> None:
        self.means += [photo.mean().item(), edited.mean().item()]

    def scores(self) -> dict[str, Any]:
        assert self.means == [0, 1, 0, 1]
        return {"model": "some/clip", "directional": self.directional, "score": 0.5}


def test_clip_judges_where_it_is_named_and_says_which_it_was(
    real_edit: Evaluation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "ByClip", WordsAlone)
    real_edit.clip = "some/clip"
    scores = scores_in(run(real_edit))
    assert list(scores) == ["scene", "clip"]
    assert scores["clip"] == {"model": "some/clip", "directional": 0.25, "score": 0.5}
    printed = capsys.readouterr().out
    assert "By CLIP (some/clip)" in printed and "No CLIP scores" not in printed and "No direction" not in printed


def test_an_edit_by_an_instruction_has_no_direction(
    real_edit: Evaluation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "ByClip", WordsAlone)
    monkeypatch.setattr(AnyEdit, "prompts", ("", "a clown"))
    real_edit.clip = "some/clip"
    assert scores_in(run(real_edit))["clip"]["directional"] is None
    assert "No direction: the run has no source prompt." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [({"views": 0}, "views is 0: give at least 1"), ({"edit": "wings=two"}, "--edit wings=two: give attribute=")],
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
