"""Where an edit may act: by masks, and by the Gaussians that it might change."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.edited_region import (
    MaskFolder,
    NothingKnown,
    Selection,
    State,
    rows_among,
    share_of_light,
)
from tests.evaluation.few_gaussians import splat

WIDTH, HEIGHT = 24, 16


@pytest.fixture
def camera() -> Cameras:
    """A camera at the origin that looks along −z."""
    return Cameras(torch.eye(4)[None, :3], 20.0, 20.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)


class TestMasks:
    def test_white_is_inside_whatever_the_size_of_the_file(self, camera: Cameras, tmp_path: Path) -> None:
        mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
        mask[2:5, 3:9] = 255
        Image.fromarray(mask).save(tmp_path / "frame_2.png")
        masks = MaskFolder(tmp_path, [Path("images/frame_1.jpg"), Path("images/frame_2.jpg")])
        expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        expected[4:10, 6:18] = True
        inside = masks.inside(1, camera)
        assert inside is not None and torch.equal(inside, expected)
        assert masks.inside(0, camera) is None
        assert "1 of 2 views" in masks.words

    def test_masks_of_other_pictures_are_none(self, tmp_path: Path) -> None:
        Image.new("L", (4, 4)).save(tmp_path / "other.png")
        with pytest.raises(UserError, match=r"has a mask for none of the views: .*like frame_1\.png"):
            MaskFolder(tmp_path, [Path("frame_1.jpg")])

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"--masks .*nowhere: there is no such folder"):
            MaskFolder(tmp_path / "nowhere", [Path("frame_1.jpg")])

    def test_a_broken_file_is_named(self, camera: Cameras, tmp_path: Path) -> None:
        (tmp_path / "frame_1.png").write_text("no picture")
        with pytest.raises(UserError, match=r"frame_1\.png can't be read"):
            MaskFolder(tmp_path, [Path("frame_1.jpg")]).inside(0, camera)


def test_where_nothing_is_known_all_is_outside(camera: Cameras) -> None:
    inside = NothingKnown().inside(0, camera)
    assert inside.shape == (HEIGHT, WIDTH) and not inside.any()


def test_rows_are_among_others_by_their_bits() -> None:
    rows = torch.tensor([[0.1, 0.2], [0.3, 0.4], [-0.0, 0.5]])
    others = torch.tensor([[0.3, 0.4], [0.1, 0.2 + 1e-7], [0.0, 0.5]])
    assert rows_among(rows, others).tolist() == [False, True, False]
    assert rows_among(rows, others[:0]).tolist() == [False, False, False]


class TestLight:
    @pytest.mark.parametrize("sh_degree", [0, 2])
    def test_it_is_what_the_gaussian_covers_times_what_is_let_through(self, sh_degree: int, camera: Cameras) -> None:
        model = splat([[0, 0, -2], [0, 0, -4]], opacity=0.6, sh_degree=sh_degree)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        shares = [share_of_light(model, camera, torch.tensor(chosen)) for chosen in ([True, False], [False, True])]
        opacity = model.get_outputs_for_camera(camera)["accumulation"][..., 0]
        torch.testing.assert_close(shares[0] + shares[1], opacity, atol=1e-5, rtol=0)
        # Half a pixel right of the centres and below them, with the blur of .3 pixels².
        covered = [0.6 * math.exp(-0.5 / 2 / ((math.exp(-1.5) * 20 / depth) ** 2 + 0.3)) for depth in (2, 4)]
        middle = (HEIGHT // 2, WIDTH // 2)
        assert shares[0][middle].item() == pytest.approx(covered[0], abs=1e-3)
        assert shares[1][middle].item() == pytest.approx((1 - covered[0]) * covered[1], abs=1e-3)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_of_all_gaussians_it_is_the_opacity_and_of_none_nothing(self, camera: Cameras) -> None:
        model = splat([[0.3, 0.1, -2], [-0.4, 0, -3]])
        opacity = model.get_outputs_for_camera(camera)["accumulation"][..., 0]
        all_light, none = (share_of_light(model, camera, torch.full((2,), chosen)) for chosen in (True, False))
        torch.testing.assert_close(all_light, opacity, atol=1e-5, rtol=0)
        assert none.abs().max() < 1e-5


def test_a_selection_is_what_free_gaussians_light_before_or_after_the_edit(camera: Cameras) -> None:
    kept, moved_from, moved_to = [0.0, 0.5, -4.0], [-0.9, 0.0, -4.0], [0.9, 0.0, -4.0]
    before, after = splat([kept, moved_from]), splat([moved_to, kept])
    free = torch.tensor([True, False])
    both = Selection(State(after, free), before).inside(0, camera)
    expected = [
        share_of_light(model, camera, torch.tensor(chosen)) >= 0.01
        for model, chosen in ((after, [True, False]), (before, [False, True]))
    ]
    assert torch.equal(both, expected[0] | expected[1])
    assert all(0 < some.sum() < both.sum() for some in expected)
    assert torch.equal(Selection(State(after, free), None).inside(0, camera), expected[0])
