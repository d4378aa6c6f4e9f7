"""What a selection lets change: all else keeps every bit."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.selection.config import SelectionConfig
from pds_nerfstudio.scenes.selection.masks import read_masks
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.selection.select import select, select_gaussians, shares_inside
from pds_nerfstudio.scenes.trainer import EditTrainer
from tests.scenes.splats import BOX, GROWING, numbers, splat

BUSY = {**GROWING, "pipeline__model__edit_cull_alpha_thresh": 0.1}
"""Growth and culling at every second step, wherever they are let."""


@pytest.fixture
def prepared(make_config: Any, prepare: Any) -> EditTrainer:
    trainer: EditTrainer = prepare(make_config("splat", reconstruct=0))
    return trainer


class Discs:
    """Gaussians that each fill some pixels of the only view by themselves."""

    def __init__(self, *pixels: list[tuple[int, int]]) -> None:
        self.means = torch.zeros(len(pixels), 3)
        self.pixels = pixels

    def contributions(self, camera: Cameras, weights: Tensor) -> Tensor:
        seen = [[weights[y, x] for y, x in own] or [weights.new_zeros(weights.shape[-1])] for own in self.pixels]
        return torch.stack([torch.stack(own).sum(0) for own in seen])


class TestShares:
    def test_they_are_of_the_light_that_lies_inside(self, prepared: EditTrainer) -> None:
        mask = torch.tensor([[1.0, 0.5, 0.0]])
        discs = Discs([(0, 0)], [(0, 0), (0, 2)], [(0, 1)], [(0, 2)], [])
        shares = shares_inside(discs, prepared.pipeline.views.view_cameras, {0: mask})
        assert shares.tolist() == [1, 0.5, 0.5, 0, 0]

    def test_contributions_make_the_picture(self, prepared: EditTrainer) -> None:
        """Colours times contributions, summed over Gaussians, are the picture summed over pixels."""
        model, camera = splat(prepared), prepared.pipeline.views.view_cameras[0:1]
        height, width = int(camera.height), int(camera.width)
        weights = torch.rand(height, width, 2, generator=torch.Generator().manual_seed(0))
        sums = model.contributions(camera, weights)
        assert sums.shape == (model.num_points, 2) and (sums >= 0).all()
        model.eval()
        seen = model.get_outputs(camera)["accumulation"]
        assert isinstance(seen, Tensor)
        torch.testing.assert_close(sums.sum(0), (seen * weights).sum((0, 1)), rtol=1e-4, atol=1e-4)

    def test_each_of_two_overlapping_gaussians_adds_its_own(self, prepared: EditTrainer) -> None:
        """The one behind adds what is left of a unit: its opacity times the other's transmittance."""
        model, camera = splat(prepared), prepared.pipeline.views.view_cameras[0:1]
        eye, forward = camera.camera_to_worlds[0, :, 3], -camera.camera_to_worlds[0, :, 2]
        for name, values in {
            "means": torch.stack([eye + 0.5 * forward, eye + 1.0 * forward]),
            "scales": torch.full((2, 3), 3.0),  # so large that both are even over the view
            "opacities": torch.tensor([[0.25], [0.5]]).logit(),
            "quats": torch.tensor([[1.0, 0, 0, 0]] * 2),
            "features_dc": torch.zeros(2, 3),
            "features_rest": torch.zeros(2, *model.features_rest.shape[1:]),
        }.items():
            model.gauss_params[name] = torch.nn.Parameter(values)
        one = torch.zeros(int(camera.height), int(camera.width), 1)
        one[int(camera.height) // 2, int(camera.width) // 2] = 1
        front, behind = model.contributions(camera, one)[:, 0].tolist()
        assert (front, behind) == pytest.approx((0.25, 0.75 * 0.5), rel=1e-3)


class TestHolding:
    def test_what_is_outside_a_box_keeps_every_bit(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat", steps=7, reconstruct=0, **BUSY, **BOX))
        model = splat(trainer)
        outside = ~SelectionConfig(obb_scale=(0.6, 0.6, 0.6)).region("cpu").contains(model.means.detach())
        assert outside.any() and not outside.all()
        before = numbers(model, outside)
        trainer.train()
        assert model.free is not None
        after = numbers(model, ~model.free)
        for name, values in before.items():
            assert torch.equal(values, after[name]), name

    def test_what_is_inside_is_edited_grows_and_goes(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat", steps=7, reconstruct=0, **BUSY, **BOX))
        model = splat(trainer)
        inside = SelectionConfig(obb_scale=(0.6, 0.6, 0.6)).region("cpu").contains(model.means.detach())
        before = numbers(model, inside)
        trainer.train()
        assert model.free is not None
        assert int(model.free.sum()) != int(inside.sum())
        assert not any(torch.equal(values, numbers(model, model.free)[name]) for name, values in before.items())

    def test_nothing_is_strewn_outside(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat", reconstruct=0, pipeline__model__strewn_gaussians=500, **BOX))
        model, n = splat(trainer), splat(trainer).num_points
        model.step_cb(trainer.optimizers, 0)
        trainer.pipeline._before_step(trainer.optimizers, 0)
        assert n < model.num_points < n + 500
        assert SelectionConfig(obb_scale=(0.6, 0.6, 0.6)).region("cpu").contains(model.means[n:].detach()).all()

    @pytest.mark.usefixtures("unchecked")
    def test_a_resumed_run_holds_the_same_to_the_same_bits(
        self, make_config: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        whole = run(make_config("splat", "whole", steps=6, reconstruct=1, **BUSY, **BOX))
        first = run(
            make_config(
                "splat",
                "first",
                steps=6,
                reconstruct=1,
                steps_per_save=4,
                save_only_latest_checkpoint=False,
                **BUSY,
                **BOX,
            )
        )
        cut = next(path for path in first.checkpoint_dir.glob("step-*.ckpt") if "4" in path.stem)
        second = run(make_config("splat", "second", steps=6, reconstruct=1, load_checkpoint=cut, **BUSY, **BOX))
        assert not differences(last_state(whole)["pipeline"], last_state(second)["pipeline"])

    def test_without_a_selection_nothing_is_held(self, finished: Any) -> None:
        assert splat(finished("splat")).free is None


class TestMasks:
    def write(self, folder: Path, name: str, mask: np.ndarray) -> None:
        folder.mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / name)

    def test_they_are_found_by_the_names_of_images_and_resized(self, prepared: EditTrainer, tmp_path: Path) -> None:
        views = prepared.pipeline.views
        names = [path.stem for path in views.outputs.image_filenames]
        half = np.zeros((64, 96), np.uint8)
        half[:, :48] = 255
        self.write(tmp_path / "masks", f"{names[1]}.png", half)
        self.write(tmp_path / "masks", "another.png", half)
        masks = read_masks(tmp_path / "masks", views)
        camera = views.view_cameras[1]
        assert list(masks) == [1] and masks[1].shape == (int(camera.height), int(camera.width))
        assert masks[1].mean().item() == pytest.approx(0.5, abs=0.01)
        assert masks[1][:, 0].min() > 0.999 and masks[1][:, -1].max() < 0.001

    def test_opacity_counts_before_brightness(self, prepared: EditTrainer, tmp_path: Path) -> None:
        views = prepared.pipeline.views
        picture = np.zeros((8, 8, 4), np.uint8)
        picture[:4, :, 3] = 255
        self.write(tmp_path / "masks", f"{views.outputs.image_filenames[0].stem}.png", picture)
        mask = read_masks(tmp_path / "masks", views)[0]
        assert mask[0].min() > 0.999 and mask[-1].max() < 0.001

    def test_those_of_photographs_are_undistorted_with_them(self, prepared: EditTrainer, tmp_path: Path) -> None:
        """A straight edge in a picture of a lens that bends lines is bent back, as nerfstudio bends the picture."""
        views = prepared.pipeline.views
        views.outputs.cameras.distortion_params = torch.zeros(len(views), 6)
        edge = np.zeros((32, 48), np.uint8)
        edge[:6] = 255
        self.write(tmp_path / "masks", f"{views.outputs.image_filenames[0].stem}.png", edge)
        straight = read_masks(tmp_path / "masks", views)[0]
        views.outputs.cameras.distortion_params[:, 0] = -0.4
        bent = read_masks(tmp_path / "masks", views)[0]
        assert straight.sum(0).std() < 1e-3 < 0.3 < bent.sum(0).std()

    def test_what_no_view_shows_inside_is_not_chosen(self, prepared: EditTrainer, tmp_path: Path) -> None:
        views, model = prepared.pipeline.views, splat(prepared)
        for path in views.outputs.image_filenames:
            self.write(tmp_path / "masks", f"{path.stem}.png", np.full((32, 48), 255, np.uint8))
        config = SelectionConfig(masks=tmp_path / "masks")
        seen = [model.contributions(views.view_cameras[i : i + 1], torch.ones(32, 48, 1)) for i in range(len(views))]
        assert torch.equal(select_gaussians(config, model, views), torch.cat(seen, 1).sum(1) > 0)

    @pytest.mark.parametrize("kind", ["no mask named", "all black", "no picture"])
    def test_useless_folders_are_refused(self, kind: str, prepared: EditTrainer, tmp_path: Path) -> None:
        views, folder = prepared.pipeline.views, tmp_path / "masks"
        name = views.outputs.image_filenames[0].stem
        if kind == "no picture":
            folder.mkdir()
            (folder / f"{name}.png").write_text("nothing")
        else:
            self.write(folder, "x.png" if kind == "no mask named" else f"{name}.png", np.zeros((8, 8), np.uint8))
        with pytest.raises(UserError, match=kind):
            read_masks(folder, views)


class TestBalls:
    BALLS = (0.0, 0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.25)

    def test_a_point_has_to_lie_in_one_of_them_and_in_the_box(self) -> None:
        points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
        near, far = points.norm(dim=-1), (points - torch.tensor([1.0, 0.0, 0.0])).norm(dim=-1)
        region = SelectionConfig(balls=self.BALLS).region("cpu")
        assert torch.equal(region.contains(points), (near < 0.5) | (far < 0.25))
        both = SelectionConfig(obb_center=(0.0, 0.0, 1.0), obb_scale=(4.0, 4.0, 2.0), balls=self.BALLS).region("cpu")
        assert torch.equal(both.contains(points), region.contains(points) & (points[:, 2] > 0))
        assert torch.equal(Region.from_state(both.state_dict(), "cpu").contains(points), both.contains(points))

    @pytest.mark.parametrize(
        ("larger", "smaller", "covers"),
        [
            ({}, {"balls": BALLS}, True),
            ({"balls": BALLS}, {}, False),
            ({"balls": BALLS}, {"balls": BALLS[4:]}, True),
            ({"balls": BALLS[:4]}, {"balls": BALLS}, False),
            ({"balls": BALLS}, {"balls": BALLS, "obb_scale": (1.0, 1.0, 1.0)}, True),
            ({"balls": BALLS, "obb_scale": (1.0, 1.0, 1.0)}, {"balls": BALLS}, False),
        ],
    )
    def test_what_a_region_covers(self, larger: dict[str, Any], smaller: dict[str, Any], covers: bool) -> None:
        one, other = SelectionConfig(**larger).region("cpu"), SelectionConfig(**smaller).region("cpu")
        assert one.covers(other) == covers

    def test_it_says_all_of_itself_in_plain_values(self, tmp_path: Path) -> None:
        config = SelectionConfig((0.5, 0.0, 0.0), (0.0, 0.1, 0.0), (1.0, 1.0, 2.0), self.BALLS, tmp_path, "a hat")
        assert SelectionConfig().changed(json.loads(json.dumps(config.plain))) == config


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"obb_scale": (1.0, 0.0, 1.0)}, "obb_scale"),
            ({"obb_scale": (1.0, float("nan"), 1.0)}, "obb_scale"),
            ({"balls": (0.0, 0.0, 0.0)}, "balls"),
            ({"balls": (0.0, 0.0, 0.0, 0.0)}, "balls"),
            ({"threshold": 0.0}, "threshold"),
            ({"masks": Path("nowhere")}, "nowhere is no folder"),
        ],
    )
    def test_options_that_select_nothing(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(UserError, match=says):
            SelectionConfig(**options).check()

    def test_a_turned_box(self) -> None:
        """Its axes are turned by roll, pitch and yaw, as nerfstudio turns an OrientedBox."""
        numbers = (0.3, -0.2, 0.1), (0.4, -0.3, 0.9), (1.0, 0.5, 0.2)
        points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
        config = SelectionConfig(*numbers)
        assert 0 < config.region("cpu").contains(points).sum() < 2000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nerfstudio's own, about how it copies tensors
            theirs = OrientedBox.from_params(*numbers).within(points.double())
        assert torch.equal(config.region("cpu").contains(points), theirs)

    def test_a_box_with_nothing_in_it(self, prepared: EditTrainer) -> None:
        config = SelectionConfig(obb_center=(50.0, 0.0, 0.0), obb_scale=(1.0, 1.0, 1.0))
        with pytest.raises(UserError, match="nothing of the scene"):
            select(config, splat(prepared), prepared.pipeline.views)
