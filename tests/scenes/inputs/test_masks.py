"""Masks of a data set: where they hide the scene, nothing is asked of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.scenes.losses import guide
from pds_nerfstudio.scenes.refining import Refining
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.scenes.views import SourceView
from tests.scenes.inputs import folders
from tests.scenes.inputs.shots import WIDTH, shoot

METHODS = ["splat", "nerf"]
LENS = (("k1", 0.08), ("k2", -0.02))


@pytest.fixture
def masked(make_config: Any, prepare: Any, tmp_path: Path) -> Any:
    """A run on pictures whose right halves are masked out."""

    def prepared(method: str, lens: tuple[tuple[str, float], ...] = ()) -> EditTrainer:
        folders.with_masks(tmp_path / "scene", shoot(lens=lens))
        data = tmp_path / "scene"
        config = make_config(method, data=data, pipeline__datamanager__data=data, pipeline__photometric_loss_mult=1.0)
        trainer: EditTrainer = prepare(config)
        return trainer

    return prepared


@pytest.mark.parametrize("method", METHODS)
def test_views_have_them(method: str, masked: Any) -> None:
    views = masked(method).pipeline.views
    for k in range(len(views)):
        mask = views[k].mask
        assert mask is not None and mask.shape == (1, 1, *views[k].image.shape[2:])
        assert bool((mask[..., : WIDTH // 2] == 1).all()) and bool((mask[..., WIDTH // 2 :] == 0).all())


def test_they_go_through_the_lens_with_their_images(masked: Any) -> None:
    views = masked("splat", LENS).pipeline.views
    mask = views[0].mask
    assert mask is not None and mask.shape[2:] == views[0].image.shape[2:]
    assert 0.4 < float(mask.mean()) < 0.6


def test_without_them_a_picture_is_as_it_is() -> None:
    picture = torch.rand(3, 4, 3)
    cameras = shoot(1).cameras
    view: Any = SourceView(0, cameras, torch.rand(1, 3, 3, 4), cameras)
    assert view.where_shown(picture, torch.zeros(3, 4, 3)) is picture


@pytest.mark.parametrize("method", METHODS)
def test_what_they_hide_is_as_in_the_source_and_has_no_gradient(method: str, masked: Any, watch: Any) -> None:
    pipeline = masked(method).pipeline
    view = pipeline.views[1]
    height, width = view.image.shape[2:]
    rgb = torch.rand(height, width, 3, requires_grad=True)
    seen: list[torch.Tensor] = []
    assert pipeline.guidance is not None
    usual = pipeline.guidance.image_gradient

    def watched(images: torch.Tensor, *args: Any) -> Any:
        seen.append(images.detach())
        return usual(images, *args)

    pipeline.guidance.image_gradient = watched
    guided = guide(pipeline.guidance, [view], [rgb], 0.0, 1.0)
    torch.stack(list(guided.losses[0].values())).sum().backward()
    hidden = (..., slice(width // 2, None))
    assert torch.equal(seen[0][hidden], view.image[hidden])
    assert torch.equal(seen[0][..., : width // 2], rgb.detach().permute(2, 0, 1)[None, ..., : width // 2])
    assert rgb.grad is not None
    assert not rgb.grad[:, width // 2 :].any() and bool((rgb.grad[:, : width // 2] != 0).any())


@pytest.mark.parametrize("method", METHODS)
def test_what_they_hide_is_not_redrawn(method: str, masked: Any) -> None:
    pipeline = masked(method).pipeline
    if method == "splat":
        pipeline.eval()  # of a run that has not begun
    refining: Refining = pipeline._refining
    view = pipeline.views[0]
    refining.redraw(view)
    rgb, tile = pipeline.model.see(view).rgb.detach(), refining._redrawn.tile(0, 0)
    assert not tile.shown[:, WIDTH // 2 :].any() and bool((tile.shown[:, : WIDTH // 2] == 1).all())
    change = (tile.target - rgb.clamp(0, 1)).abs().amax(-1)
    assert float(change[:, : WIDTH // 2].mean()) > 0.01


def test_of_what_they_hide_a_refining_step_asks_nothing(masked: Any) -> None:
    pipeline = masked("splat").pipeline
    pipeline.eval()
    model, view, refining = pipeline.model, pipeline.views[0], pipeline._refining
    refining.redraw(view)
    drawn: list[torch.Tensor] = []
    usual = model.draw_part

    def watched(*args: Any) -> torch.Tensor:
        drawn.append(usual(*args).detach().requires_grad_())
        return drawn[-1]

    model.draw_part = watched
    model.fit_redrawn(view, refining._redrawn, 0)["photometric_loss"].backward()
    assert drawn[0].grad is not None
    assert not drawn[0].grad[:, WIDTH // 2 :].any() and bool(drawn[0].grad[:, : WIDTH // 2].any())
