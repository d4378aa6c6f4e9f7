"""A NeRF's colours are fitted first where an edit changes all that is seen, by the one network that makes them."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.recolor import recolor
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.trainer import EditTrainer


@pytest.fixture
def trainer(make_config: Any, prepare: Any) -> EditTrainer:
    """Of a NeRF in the middle of an edit."""
    trainer: EditTrainer = prepare(make_config("nerf", reconstruct=0))
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


def test_the_network_of_colours_takes_up_a_night_and_nothing_else_moves(trainer: EditTrainer) -> None:
    night = by_night(trainer, 1.0)
    before, error = bits(nerf(trainer)), left(trainer, night)
    assert recolor(nerf(trainer), trainer.pipeline.views, night)
    assert left(trainer, night) < 0.3 * error
    moved = {name for name, after in bits(nerf(trainer)).items() if not torch.equal(before[name], after)}
    assert moved and all("mlp_head" in name for name in moved)
    assert all(parameter.grad is None for parameter in nerf(trainer).parameters())


def test_a_change_of_less_than_half_is_left_to_the_fit(trainer: EditTrainer) -> None:
    before = bits(nerf(trainer))
    assert not recolor(nerf(trainer), trainer.pipeline.views, by_night(trainer, 0.4))
    assert all(torch.equal(before[name], after) for name, after in bits(nerf(trainer)).items())
