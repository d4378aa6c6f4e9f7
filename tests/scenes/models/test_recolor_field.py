"""A NeRF's colours are fitted first where an edit changes all that is seen, and its densities stay."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.models import recolor_field
from pds_nerfstudio.scenes.models.fog import log_density, surface_points
from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.recolor import recolor
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.trainer import EditTrainer


@pytest.fixture
def trainer(make_config: Any, prepare: Any) -> EditTrainer:
    """Of a NeRF in the middle of an edit."""
    trainer: EditTrainer = prepare(make_config("nerf", reconstruct=0, pipeline__model__edit_rays_per_step=512))
    nerf(trainer).begin_edit(first=False, cameras=trainer.pipeline.views.cameras)
    return trainer


def nerf(trainer: EditTrainer) -> EditNerfModel:
    return cast(EditNerfModel, trainer.pipeline.model)


def seen(trainer: EditTrainer) -> list[Tensor]:
    """What the scene shows of its views."""
    views = trainer.pipeline.views
    return [nerf(trainer).see(views[index]).rgb.detach() for index in range(len(views))]


def by_night(trainer: EditTrainer, share: float) -> RedrawnViews:
    """Views whose upper part was redrawn much darker, and that the model sees as the scene shows them."""
    kept = RedrawnViews(trainer.pipeline.views)
    for index, picture in enumerate(seen(trainer)):
        dark = picture.clone()
        dark[: round(share * len(dark))] *= 0.2
        kept.see(index, picture)
        kept[index] = dark
    return kept


def left(trainer: EditTrainer, views: RedrawnViews) -> float:
    """The mean of what the scene does not show of redrawn views."""
    pictures = enumerate(seen(trainer))
    return sum((shown - views.picture(index)).abs().mean().item() for index, shown in pictures) / len(views)


def bits(model: EditNerfModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def log_densities(trainer: EditTrainer) -> Tensor:
    """Logarithms of the densities where rays of the cameras end."""
    torch.manual_seed(0)
    with torch.no_grad():
        points = surface_points(nerf(trainer), trainer.pipeline.views.cameras)
        return log_density(nerf(trainer).field, points)


def test_colours_take_up_a_night_and_densities_stay(trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recolor_field, "_STEPS", 100)
    night, densities = by_night(trainer, 1.0), log_densities(trainer)
    before, error = bits(nerf(trainer)), left(trainer, night)
    assert recolor(nerf(trainer), trainer.pipeline.views, night)
    assert left(trainer, night) < 0.3 * error
    assert (log_densities(trainer) - densities).abs().mean() < 0.05, "within some percent"
    moved = {name for name, after in bits(nerf(trainer)).items() if not torch.equal(before[name], after)}
    assert moved and all(name.startswith("field.") for name in moved), "proposals of samples are of densities"
    assert all(parameter.grad is None for parameter in nerf(trainer).parameters())


def test_a_change_of_less_than_half_is_left_to_the_fit(trainer: EditTrainer) -> None:
    before = bits(nerf(trainer))
    assert not recolor(nerf(trainer), trainer.pipeline.views, by_night(trainer, 0.4))
    assert all(torch.equal(before[name], after) for name, after in bits(nerf(trainer)).items())
