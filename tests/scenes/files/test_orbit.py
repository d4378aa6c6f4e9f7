"""Cameras around a splat that comes without data, and runs that look through them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.scenes.files.formats import read_splats, write_splats
from pds_nerfstudio.scenes.files.orbit import OrbitConfig, orbit, shown_ball
from pds_nerfstudio.scenes.models.scene_model import render

UPS: Any = {"x": (1, 0, 0), "-y": (0, -1, 0), "z": (0, 0, 1), "-z": (0, 0, -1)}


class TestCameras:
    @pytest.mark.parametrize("up", UPS)
    def test_they_are_upright_and_have_the_ball_in_view(self, up: Any) -> None:
        center, radius = torch.tensor([1.0, -2, 3]), 0.7
        poses = orbit(center, radius, OrbitConfig(up, views=9))
        turns = poses[:, :3, :3]
        torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(9, 3, 3), atol=1e-5, rtol=0)
        assert torch.linalg.det(turns).min() > 0.99
        axis = torch.tensor(UPS[up]).float()
        right, top, back = turns.unbind(-1)
        assert (right @ axis).abs().max() < 1e-5 and (top @ axis).min() > 0.7
        offsets = poses[:, :3, 3] - center
        distances = offsets.norm(dim=-1)
        torch.testing.assert_close(offsets / distances[:, None], back)
        assert (radius / distances).asin().mul(2).max() <= math.radians(50.001)
        assert torch.pdist(back).min() > 0.2  # from all around

    def test_what_is_shown_is_where_the_detail_is(self, make_splats: Any) -> None:
        splats = make_splats(1000, 0)
        splats.scales[:] = -4
        splats.means[:] = splats.means.clamp(-1, 1) + torch.tensor([5.0, 0, 0])
        splats.means[:20] = 1e4  # strays
        splats.means[20:320] *= 40  # a meadow of large Gaussians
        splats.scales[20:320] = 0
        splats.means[320:500] = -7  # mist
        splats.opacities[320:500], splats.opacities[500:] = -9, 3
        center, radius = shown_ball(splats)
        assert (center - torch.tensor([5.0, 0, 0])).norm() < 0.2 and 0.5 < radius < 1.7

    def test_they_look_down_a_little(self) -> None:
        _, _, back = orbit(torch.zeros(3), 1.0, OrbitConfig("z", views=5))[:, :3, :3].unbind(-1)
        angles = back[:, 2].asin().rad2deg()
        torch.testing.assert_close(angles, torch.tensor([10, 17.5, 25, 32.5, 40]), atol=1e-3, rtol=0)


class TestRun:
    @pytest.fixture
    def config(self, make_config: Any, make_splats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.chdir(tmp_path)  # the working folder is where nerfstudio looks for data that is not named
        ply = write_splats(tmp_path / "scene.ply", make_splats(200, 2), [])
        options: dict[str, Any] = {"data": None, "pipeline__datamanager__data": None, "orbit__views": 8}
        options |= {"orbit__side": 40, "pipeline__model__num_random": 50, "pipeline__model__strewn_gaussians": 0}
        return make_config("splat", load_ply=ply, **options)

    def test_the_views_are_the_splats_own_renders(self, config: Any, prepare: Any) -> None:
        pipeline = prepare(config).pipeline
        views = pipeline.views
        pipeline.eval()
        assert len(views) >= 7  # nerfstudio keeps some for evaluation
        for i in range(len(views)):
            image = views.full_size_image(i)
            assert image.shape == (40, 40, 3) and image.std() > 0.05
            assert psnr(render(pipeline.model, views.full_size_camera(i)), image) > 40

    def test_it_edits_and_is_written_back_where_it_lay(
        self, config: Any, run: Any, make_splats: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config.show_edit, config.pipeline.lr_mult = True, 1e-9
        config.pipeline.model.edit_refine_every = 0
        trainer = run(config)
        read, splats = read_splats(trainer.base_dir / "splat.ply"), make_splats(200, 2)
        torch.testing.assert_close(read.means, splats.means, atol=1e-4, rtol=0)
        torch.testing.assert_close(read.rest, splats.rest, atol=1e-4, rtol=0)
        said = " ".join(capsys.readouterr().out.split())
        assert "There is no --data: looking at" in said and "8 cameras around it, -y up" in said
        assert 'set -- --data "$here"/orbit "$@"' in (trainer.base_dir / "again.sh").read_text()
        config = dataclasses.replace(config, load_ply=None, timestamp="more", load_dir=trainer.checkpoint_dir)
        config.max_num_iterations = 5
        more = run(config)
        assert more.step == trainer.step + 2

    def test_views_of_no_size_are_refused(self, config: Any, prepare: Any) -> None:
        for name, views in ("views", OrbitConfig(views=1)), ("side", OrbitConfig(side=1)):
            with pytest.raises((UserError, SystemExit), match=f"--orbit.{name} is 1: give at least"):
                prepare(dataclasses.replace(config, orbit=views))

    def test_without_a_splat_missing_data_are_said_to_be_missing(self, config: Any, prepare: Any) -> None:
        with pytest.raises((UserError, SystemExit), match=r"--data \. holds no transforms\.json"):
            prepare(dataclasses.replace(config, load_ply=None))
