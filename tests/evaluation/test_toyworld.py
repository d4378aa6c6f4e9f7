"""The judge of edits in the embedded world: what it counts, and that the truth itself gets the best marks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from pds_nerfstudio.evaluation import metrics
from pds_nerfstudio.evaluation.toyworld import _sharpness, held_out_cameras, is_toyworld_scene, judge, score
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.dataset import photograph, walk_around, write_scene
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, edit
from pds_nerfstudio.toyworld.renderer import Cameras, render

MAN = Attributes()
RAISED = edit(MAN, "arms", "raised")


def true_pictures(thing: Attributes, cameras: Cameras) -> Tensor:
    images = [torch.from_numpy(image) for image, _ in photograph(thing, cameras)]
    return torch.stack(images).permute(0, 3, 1, 2).float() / 255


class Reader:
    """A classifier that reads what it was told, and whose features are the picture."""

    def __init__(self, things: list[Attributes]) -> None:
        self.things = things

    def read(self, image: Tensor) -> dict[str, Tensor]:
        assert len(image) == len(self.things)
        return {
            name: torch.tensor([values.index(getattr(thing, name)) for thing in self.things])
            for name, values in VALUES.items()
        }

    def features(self, image: Tensor) -> list[Tensor]:
        return [image]


def judge_as_read(
    monkeypatch: pytest.MonkeyPatch, source: Attributes, target: Attributes, read: list[Attributes]
) -> tuple[float, float]:
    """Return success and kept, if the classifier reads `read` in the views."""
    monkeypatch.setattr(AttributeClassifier, "load", lambda: Reader(read))
    cameras = held_out_cameras(len(read), 16, 16)
    scores = judge(source, target, cameras, lambda c: true_pictures(target, c)).scores
    return scores.success, scores.kept


class TestWhatCounts:
    def test_success_is_the_share_of_views(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = [RAISED, RAISED, MAN, RAISED]
        assert judge_as_read(monkeypatch, MAN, RAISED, read) == pytest.approx((0.75, 1))

    def test_kept_counts_what_shows_and_was_not_to_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # a man without hat and balloon shows subject, colour, arms, hat, balloon, ground, sky and style
        lost_shirt = replace(RAISED, color="red")
        assert judge_as_read(monkeypatch, MAN, RAISED, [RAISED, lost_shirt]) == pytest.approx((1, 1 - 1 / 14))
        unseen = replace(RAISED, hat_color="green", balloon_color="white")
        assert judge_as_read(monkeypatch, MAN, RAISED, [unseen]) == pytest.approx((1, 1))

    def test_what_the_target_no_longer_shows_is_not_to_be_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cube = edit(MAN, "subject", "cube")
        odd = replace(MAN, arms="raised", balloon="held")  # as a classifier may read a cube's arms
        success, kept = judge_as_read(monkeypatch, MAN, cube, [odd])
        assert success == 0
        assert kept == 1

    def test_an_edit_of_two_attributes_needs_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = edit(RAISED, "color", "red")
        assert judge_as_read(monkeypatch, MAN, both, [RAISED, both])[0] == pytest.approx(0.5)

    def test_what_comes_along_is_counted_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hatted = edit(MAN, "hat", "top")  # its hat is red
        brown = replace(hatted, hat_color="brown")
        monkeypatch.setattr(AttributeClassifier, "load", lambda: Reader([hatted, brown]))
        cameras = held_out_cameras(2, 16, 16)
        scores = judge(MAN, hatted, cameras, lambda c: true_pictures(hatted, c)).scores
        assert (scores.success, scores.kept, scores.details) == pytest.approx((1, 1, 0.5))
        monkeypatch.setattr(AttributeClassifier, "load", lambda: Reader([RAISED, RAISED]))
        assert math.isnan(judge(MAN, RAISED, cameras, lambda c: true_pictures(RAISED, c)).scores.details)


class TestPictures:
    @pytest.fixture(autouse=True)
    def no_classifier(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(AttributeClassifier, "load", lambda: Reader([RAISED] * 2))

    def test_the_true_edit(self) -> None:
        judgement = judge(MAN, RAISED, held_out_cameras(2, 48, 48), lambda c: true_pictures(RAISED, c))
        scores = judgement.scores
        assert scores.psnr_true == math.inf
        assert scores.ssim_true == pytest.approx(1, abs=1e-5)
        assert scores.perceptual_true == pytest.approx(0, abs=1e-9)
        assert scores.psnr_inside == math.inf
        assert 10 < scores.psnr_source < 40
        assert scores.psnr_source == scores.psnr_true_unedited
        assert scores.psnr_outside > 40
        assert scores.perceptual_source > 0
        assert torch.equal(judgement.edited, judgement.truth)

    def test_nothing_done(self) -> None:
        judgement = judge(MAN, RAISED, held_out_cameras(2, 48, 48), lambda c: true_pictures(MAN, c))
        scores = judgement.scores
        assert scores.psnr_true == scores.psnr_true_unedited
        assert scores.psnr_source == scores.psnr_outside == math.inf
        assert scores.perceptual_source == pytest.approx(0, abs=1e-9)
        assert scores.perceptual_outside == pytest.approx(0, abs=1e-9)
        assert scores.psnr_inside < scores.psnr_true_unedited
        assert scores.perceptual_true > 1e-3
        assert scores.ssim_true < 1
        assert torch.equal(judgement.source, judgement.edited)

    def test_sharpness_is_that_of_the_true_edit_and_of_the_source(self) -> None:
        cameras = held_out_cameras(2, 48, 48)

        def sharpness(render: Callable[[Cameras], Tensor]) -> tuple[float, float]:
            scores = judge(MAN, RAISED, cameras, render).scores
            return scores.sharpness_inside, scores.sharpness_outside

        assert sharpness(lambda c: true_pictures(RAISED, c)) == pytest.approx((1, 1), abs=0.02)
        # Half the contrast is half of each difference, and a quarter of the energy.
        assert sharpness(lambda c: true_pictures(RAISED, c) / 2 + 0.25) == pytest.approx((0.25, 0.25), abs=0.005)
        bordered = pad(true_pictures(RAISED, cameras), (2, 2, 2, 2), "replicate")
        inside, outside = sharpness(lambda _: avg_pool2d(bordered, 5, 1))
        assert inside < 0.5 and outside < 0.5

    def test_where_nothing_should_be_seen_no_detail_is_a_multiple_of_it(self) -> None:
        before = torch.full((1, 3, 16, 16), 0.5)
        before[..., ::4] += 1 / 255  # rounded
        truth, edited = before.clone(), torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        truth[..., :8, :8] = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        scores = _sharpness(before, truth, edited)
        assert scores["sharpness_inside"] > 0 and math.isnan(scores["sharpness_outside"])

    def test_damage_outside_the_change_is_seen(self) -> None:
        cameras = held_out_cameras(2, 48, 48)

        def tinted(c: Cameras) -> Tensor:
            return true_pictures(RAISED, c) - 0.1

        before, truth = true_pictures(MAN, cameras), true_pictures(RAISED, cameras)
        outside = metrics.psnr(truth - 0.1, before, ~metrics.changed_region(before, truth))
        scores = judge(MAN, RAISED, cameras, tinted).scores
        assert scores.psnr_outside == pytest.approx(outside.mean().item())
        assert scores.psnr_outside == pytest.approx(20, abs=0.2)
        assert scores.psnr_true == pytest.approx(20, abs=1e-3)


class TestWithTheClassifier:
    """With the trained weights that the package holds."""

    @pytest.mark.parametrize(
        ("source", "name", "value"),
        [
            (MAN, "arms", "raised"),
            (replace(MAN, subject="robot"), "color", "red"),
            (replace(MAN, subject="bear", color="brown"), "subject", "snowman"),
        ],
    )
    def test_the_true_edit_succeeds(self, source: Attributes, name: str, value: str) -> None:
        target = edit(source, name, value)
        cameras = held_out_cameras(3, 48, 48)
        done = judge(source, target, cameras, lambda c: render(build([target]), c).rgb).scores
        assert done.success == 1
        assert done.kept >= 0.9
        assert done.psnr_true > 50
        assert done.psnr_true > done.psnr_true_unedited + 20
        assert done.psnr_outside > 40
        assert done.perceptual_true < 0.01 * done.perceptual_source

    def test_an_edit_that_every_other_view_lacks_is_inconsistent(self) -> None:
        hatted, cameras = edit(MAN, "hat", "top"), held_out_cameras(4, 48, 48)
        before, truth = (render(build([thing]), cameras).rgb for thing in (MAN, hatted))
        flickers = torch.where((torch.arange(4) % 2 == 0)[:, None, None, None], truth, before)
        done, flickering = (score(MAN, hatted, before, truth, edited) for edited in (truth, flickers))
        assert done.consistency == done.consistency_true > 0.8
        assert abs(flickering.consistency) < 0.1
        assert flickering.consistency_true == done.consistency_true

    def test_nothing_done_keeps_all_and_does_not_succeed(self) -> None:
        idle = judge(MAN, RAISED, held_out_cameras(3, 48, 48), lambda c: true_pictures(MAN, c)).scores
        assert idle.success == 0
        assert idle.kept >= 0.9

    def test_noise_is_no_edit(self) -> None:
        cameras = held_out_cameras(2, 32, 32)
        rng = torch.Generator().manual_seed(0)
        scores = judge(MAN, RAISED, cameras, lambda c: torch.rand(len(c), 3, 32, 32, generator=rng)).scores
        assert scores.psnr_true < 12
        assert scores.psnr_outside < 12
        assert scores.perceptual_true > 0.1
        assert scores.kept < 0.8


def test_held_out_cameras_are_none_of_a_scene_s() -> None:
    judged = held_out_cameras(12).camera_to_world[:, :, 3]
    for seed in range(5):
        trained = walk_around(48, seed).camera_to_world[:, :, 3]
        assert torch.cdist(judged, trained).min() > 1e-3
    assert torch.equal(held_out_cameras(12).camera_to_world[:, :, 3], judged)
    assert not torch.equal(held_out_cameras(12, seed=7).camera_to_world[:, :, 3], judged)


def test_scenes_of_the_world_are_known_by_their_record(tmp_path: Path) -> None:
    assert not is_toyworld_scene(tmp_path)
    list(write_scene(tmp_path, MAN, RAISED, views=1, width=8, height=8, seed_points=8))
    assert is_toyworld_scene(tmp_path)
