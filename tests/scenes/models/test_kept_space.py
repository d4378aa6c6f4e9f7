"""A NeRF that may change in a box alone: what rays that miss it show stays, to the bit, wherever it is looked at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image, ImageFilter
from torch import Tensor

from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.selection.config import SelectionConfig
from pds_nerfstudio.scenes.trainer import EditTrainer

ONLY = SelectionConfig(obb_scale=(0.5, 0.5, 0.5), obb_rotation=(0.0, 0.0, 0.4))
FREE_AND_BUSY = {"pipeline__only": ONLY, "pipeline__lr_warmup_steps": 0, "pipeline__photometric_loss_mult": 1.0}


def nerf(pipeline: Any) -> EditNerfModel:
    model = pipeline.model
    assert isinstance(model, EditNerfModel)
    model.proposal_sampler.set_anneal(1.0)  # which a run of a few steps has only begun with, and no checkpoint holds
    return model


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory, config_in: Any, run: Any) -> EditTrainer:
    """A run with a box, from nothing to its end."""
    return run(config_in(tmp_path_factory.mktemp("box"), "nerf", steps=4, reconstruct=2, **FREE_AND_BUSY))


def hits(rays: RayBundle) -> Tensor:
    """Whether rays, from a millimetre to far away, meet the box grown a little; by the slab method."""
    region = ONLY.region("cpu")
    start, along = (rays.origins - region.center) @ region.axes, rays.directions @ region.axes
    reach = 1.02 * region.sides / 2
    near, far = (-reach - start) / along, (reach - start) / along
    return torch.minimum(near, far).amax(-1) < torch.maximum(near, far).amin(-1)


def compare(edited: EditNerfModel, source: Any, pipeline: Any) -> tuple[Tensor, Tensor]:
    """Differences of all views' renders, of rays that miss the box and of those that meet it."""
    missing, meeting = [], []
    for index in range(len(pipeline.views)):
        camera = pipeline.views.full_size_camera(index)
        difference = (render(edited, camera) - render(source, camera)).abs()
        met = hits(camera.generate_rays(camera_indices=0, keep_shape=True))
        missing.append(difference[~met])
        meeting.append(difference[met])
    return torch.cat(missing), torch.cat(meeting)


def test_rays_that_miss_the_box_show_what_they_showed(edited: EditTrainer) -> None:
    finished = FinishedEdit(edited.base_dir / "config.yml")
    edited.pipeline.eval()
    missing, meeting = compare(nerf(edited.pipeline), finished.reconstruction, edited.pipeline)
    assert len(missing) > 1000 and len(meeting) > 1000
    assert (missing == 0).all()
    assert meeting.max() > 1e-3  # what is inside has been edited


@pytest.mark.parametrize("mode", ["test", "inference"])
def test_it_looks_the_same_when_it_is_opened_again(edited: EditTrainer, mode: Any) -> None:
    """As ns-viewer, ns-render and ns-export open it."""
    _, pipeline, _, _ = eval_setup(edited.base_dir / "config.yml", test_mode=mode)
    assert isinstance(pipeline, EditPipeline) and nerf(pipeline).holds
    camera = edited.pipeline.views.full_size_camera(2)
    edited.pipeline.eval()
    assert torch.equal(render(nerf(pipeline), camera), render(nerf(edited.pipeline), camera))


def test_colours_alone_are_those_of_the_whole_model(edited: EditTrainer) -> None:
    model = nerf(edited.pipeline).eval()
    rays = edited.pipeline.views.full_size_camera(2).generate_rays(camera_indices=0, keep_shape=True)[10:13].flatten()
    rays.camera_indices = torch.full((len(rays), 1), 2)
    with torch.no_grad():
        whole = model.forward(rays[:])["rgb"]
    torch.testing.assert_close(model._render_colors(rays), whole)


def test_no_gradient_comes_from_outside(edited: EditTrainer) -> None:
    """In training mode, where samples are placed at random: only samples inside reach the field."""
    pipeline = edited.pipeline
    model = nerf(pipeline)
    pipeline.train()
    camera = pipeline.views.full_size_camera(2)
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    rays.camera_indices = torch.full((*rays.shape, 1), 2)
    flat, met = rays.flatten(), hits(rays).flatten()

    def reached(some: Tensor) -> bool:
        model.zero_grad()
        colors, interlevel, distortion = model._render_rays(flat[some])
        (colors.sum() + interlevel.sum() + distortion.sum()).backward()
        return any(p.grad is not None and bool(p.grad.any()) for p in model.field.parameters())

    assert reached(met) and not reached(~met)
    pipeline.eval()


def test_what_is_kept_is_in_the_checkpoint_and_not_among_the_weights(edited: EditTrainer, last_state: Any) -> None:
    state = last_state(edited)["pipeline"]
    weights = {name for name in state if name.startswith("_model.")}
    assert weights == {f"_model.{name}" for name in nerf(edited.pipeline).state_dict()}
    kept = state["_extra_state"]["held"]["weights"]
    (path,) = (edited.base_dir / "reconstruction").iterdir()
    before = read_checkpoint(path).model_weights
    assert kept and all(torch.equal(value, before[name]) for name, value in kept.items())
    assert not torch.equal(before["field.mlp_head.layers.0.weight"], state["_model.field.mlp_head.layers.0.weight"])


def test_undo_lets_the_next_edit_keep_the_source_again(make_config: Any, run: Any) -> None:
    trainer = run(make_config("nerf", steps=2, reconstruct=1, **FREE_AND_BUSY))
    model = nerf(trainer.pipeline)
    trainer.restore_source()
    assert not model.holds
    camera = trainer.pipeline.views.full_size_camera(2)
    trainer.pipeline.eval()
    reconstruction = FinishedEdit(trainer.base_dir / "config.yml").reconstruction
    assert reconstruction is not None
    assert torch.equal(render(model, camera), render(reconstruction, camera))
    trainer.pipeline.train()
    trainer.pipeline._before_step(trainer.optimizers, trainer.pipeline.plan.start)
    assert model.holds
    trainer.pipeline.eval()
    missing, _ = compare(model, reconstruction, trainer.pipeline)
    assert (missing == 0).all()


def test_a_resumed_run_keeps_what_the_first_one_kept(make_config: Any, run: Any, last_state: Any) -> None:
    first = run(make_config("nerf", "first", steps=2, reconstruct=1, **FREE_AND_BUSY))
    second = run(make_config("nerf", "second", steps=3, reconstruct=1, load_dir=first.checkpoint_dir, **FREE_AND_BUSY))
    kept, still = (last_state(trainer)["pipeline"]["_extra_state"]["held"] for trainer in (first, second))
    for part in ("region", "weights"):
        assert all(torch.equal(kept[part][name], still[part][name]) for name in kept[part])
    assert Path(first.base_dir) != Path(second.base_dir)


def test_from_a_plain_nerfacto_and_refined_from_the_source(plain_run: Any, make_config: Any, run: Any) -> None:
    """Refining begins with the source again, which is kept outside the box there, too."""
    options = {"pipeline__refine_steps": 3, "pipeline__refine_from": "source", **FREE_AND_BUSY}
    trainer = run(make_config("nerf", steps=2, load_dir=plain_run("nerf"), **options))
    trainer.pipeline.eval()
    reconstruction = FinishedEdit(trainer.base_dir / "config.yml").reconstruction
    missing, meeting = compare(nerf(trainer.pipeline), reconstruction, trainer.pipeline)
    assert (missing == 0).all() and meeting.max() > 0


def test_masks_leave_alone_what_they_show_outside(scene: Path, make_config: Any, run: Any, tmp_path: Path) -> None:
    """In every view, to the bit, but for a rim of the masks; also when it is opened again without them."""
    masks = tmp_path / "masks"
    masks.mkdir()
    inside = np.zeros((32, 48), np.uint8)
    inside[8:24, 18:30] = 255
    names = sorted(path.stem for path in (scene / "images").iterdir())
    for name in names:
        Image.fromarray(inside).save(masks / f"{name}.png")
    options = {**FREE_AND_BUSY, "pipeline__only": SelectionConfig(masks=masks, threshold=1.0)}
    trainer = run(make_config("nerf", steps=4, reconstruct=2, **options))
    for path in masks.iterdir():
        path.unlink()
    finished = FinishedEdit(trainer.base_dir / "config.yml")
    rim = np.asarray(Image.fromarray(inside).filter(ImageFilter.MaxFilter(5)))
    for index in range(len(finished.views)):
        camera = finished.views.full_size_camera(index)
        assert finished.reconstruction is not None
        before, after = render(finished.reconstruction, camera), render(nerf(finished.pipeline), camera)
        difference = (after - before).abs().amax(-1)
        assert (difference[torch.from_numpy(rim == 0)] == 0).all()
        assert difference[torch.from_numpy(inside > 0)].max() > 1e-4
