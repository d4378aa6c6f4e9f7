"""A finished run, loaded for looking at."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.toyworld.dataset import walk_around


@pytest.fixture(scope="module", params=["splat", "nerf"])
def pair(request: pytest.FixtureRequest, finished: Any) -> tuple[Any, FinishedEdit]:
    """A finished run, and the same loaded without a diffusion model."""
    trainer = finished(request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Guidance, "from_config", lambda *_: pytest.fail("loaded a diffusion model"))
        return trainer, FinishedEdit(trainer.base_dir / "config.yml")


def test_what_it_is(pair: tuple[Any, FinishedEdit], scene: Path) -> None:
    trainer, loaded = pair
    assert loaded.data == scene
    assert loaded.checkpoint == max(trainer.checkpoint_dir.iterdir())
    assert loaded.config.method_name == trainer.config.method_name


def test_cameras_of_the_data_set_see_what_the_training_views_see(pair: tuple[Any, FinishedEdit]) -> None:
    trainer, loaded = pair
    trainer.pipeline.eval()
    cameras = walk_around(10, 0, 48, 32)  # those that the scene was written with
    poses = loaded.to_scene(cameras.camera_to_world[:, :3])
    views = trainer.pipeline.views
    chosen = [int(path.stem.removeprefix("frame_")) - 1 for path in views.outputs.image_filenames]
    assert torch.allclose(poses[chosen], views.cameras.camera_to_worlds, atol=1e-5)
    rendered = loaded.render(cameras.camera_to_world[chosen[2:4], :3], cameras.focal[chosen[2:4]], 48, 32)
    assert rendered.shape == (2, 3, 32, 48)
    for image, index in zip(rendered, (2, 3), strict=True):
        expected = render(trainer.pipeline.model, views.full_size_camera(index)).permute(2, 0, 1)
        assert (image - expected).abs().max() < 0.01


def test_views_are_spread_over_all_and_are_all_if_there_are_no_more(pair: tuple[Any, FinishedEdit]) -> None:
    trainer, loaded = pair
    assert loaded.spread_views(3) == [0, 4, 8]
    assert loaded.spread_views(1) == [0]
    assert loaded.spread_views(100) == list(range(9))
    assert torch.equal(loaded.views.full_size_image(4), trainer.pipeline.views.full_size_image(4))


def test_the_reconstruction_is_the_scene_that_the_run_has_kept(pair: tuple[Any, FinishedEdit]) -> None:
    trainer, loaded = pair
    (kept,) = trainer.source_folder.glob("step-*.ckpt")
    weights = read_checkpoint(kept).model_weights
    model = loaded.reconstruction
    assert model is not None
    ours = model.state_dict()
    assert ours.keys() == weights.keys() and all(torch.equal(ours[name], weights[name]) for name in ours)
    camera = loaded.views.full_size_camera(4)
    assert not torch.equal(render(model, camera), render(loaded.pipeline.model, camera))


def test_a_run_that_has_kept_no_reconstruction_has_none(pair: tuple[Any, FinishedEdit], tmp_path: Path) -> None:
    trainer, _ = pair
    folder = shutil.copytree(trainer.base_dir, tmp_path / trainer.base_dir.name)
    shutil.rmtree(folder / "reconstruction")
    assert FinishedEdit(folder / "config.yml").reconstruction is None


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yml"):
        FinishedEdit(tmp_path / "config.yml")


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_a_run_of_another_method(kind: str, plain_run: Any) -> None:
    """Found out before the model is built, which splatfacto's can't be without a GPU."""
    with pytest.raises(UserError, match="give one of pds-splat or pds-nerf"):
        FinishedEdit(plain_run(kind).parent / "config.yml")
