"""A splat's colours are fitted first where an edit changes all that is seen: by least squares, and nothing else is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.models import recolor as recoloring
from pds_nerfstudio.scenes.models.recolor import recolor
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.trainer import EditTrainer
from tests.scenes.splats import splat

SHAPES = "means", "scales", "quats", "opacities", "features_rest"


@pytest.fixture(params=[3, 0], ids=["harmonics", "plain colours"])
def trainer(request: Any, make_config: Any, prepare: Any) -> EditTrainer:
    """Of a splat in the middle of an edit, of colours that depend on where one looks from, or do not."""
    options = {"pipeline__model__sh_degree": request.param, "pipeline__model__strewn_gaussians": 0}
    trainer: EditTrainer = prepare(make_config("splat", reconstruct=0, **options))
    model = splat(trainer)
    torch.manual_seed(0)
    with torch.no_grad():
        model.opacities.normal_(0.5)
        model.features_dc.normal_(1.2, 0.1)  # by day
        model.features_rest.normal_(0, 0.02)
    model.step_cb(trainer.optimizers, 0)
    model.begin_edit(first=True, cameras=trainer.pipeline.views.cameras)
    return trainer


def seen(trainer: EditTrainer) -> list[Tensor]:
    """What the scene shows of its views."""
    views = trainer.pipeline.views
    return [splat(trainer).see(views[index]).rgb.detach() for index in range(len(views))]


def redrawn(trainer: EditTrainer, pictures: list[Tensor]) -> RedrawnViews:
    """Views that were redrawn so, and that the model sees as the scene shows them."""
    kept = RedrawnViews(trainer.pipeline.views)
    for index, (before, after) in enumerate(zip(seen(trainer), pictures, strict=True)):
        kept.see(index, before)
        kept[index] = after
    return kept


def by_night(trainer: EditTrainer) -> RedrawnViews:
    return redrawn(trainer, [0.3 * picture + torch.tensor([0.0, 0.0, 0.1]) for picture in seen(trainer)])


def left(trainer: EditTrainer, views: RedrawnViews) -> float:
    """The mean square of what the scene does not show of redrawn views."""
    pictures = enumerate(seen(trainer))
    return sum((shown - views.picture(index)).square().mean().item() for index, shown in pictures) / len(views)


def bits(model: EditSplatModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.gauss_params.items()}


def test_what_is_left_is_the_mean_over_the_pixels_by_their_weights(trainer: EditTrainer) -> None:
    model, views = splat(trainer), trainer.pipeline.views
    night, shown = by_night(trainer), seen(trainer)
    residuals, weights = [], []
    for index in range(len(views)):
        residual = night.picture(index) - shown[index]
        of_each = model.picture_of(torch.eye(model.num_points), views[index].camera, *residual.shape[:2]).detach()
        weights.append(torch.cat([of_each, 1 - of_each.sum(-1, keepdim=True)], -1).flatten(0, 1))
        residuals.append(residual.flatten(0, 1))
    w, r = torch.cat(weights), torch.cat(residuals)
    expected = (w.T @ r) / w.sum(0)[:, None]
    known = w.sum(0) > 0.01
    means = recoloring._mean_left(model, views, night, list(range(len(views))))
    assert known.sum() > 100
    torch.testing.assert_close(means[known], expected[known], rtol=1e-3, atol=1e-4)


def test_colours_alone_take_up_a_night(trainer: EditTrainer) -> None:
    model, night = splat(trainer), by_night(trainer)
    before, error = bits(model), left(trainer, night)
    assert recolor(model, trainer.pipeline.views, night)
    assert left(trainer, night) < 0.1 * error
    after = bits(model)
    assert all(torch.equal(before[name], after[name]) for name in SHAPES)
    assert not torch.equal(before["features_dc"], after["features_dc"])
    assert model.edited_background is not None


def test_colours_move_by_what_is_left(trainer: EditTrainer) -> None:
    model = splat(trainer)
    before, background = model.colors.detach().clone(), model.edit_background
    move = torch.linspace(-0.2, 0.1, 3 * (model.num_points + 1)).view(-1, 3)
    recoloring._move(model, move)
    torch.testing.assert_close(model.colors.detach() - before, move[:-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.edited_background, (background + move[-1]).clamp(0, 1))


def test_a_change_of_less_than_half_is_left_to_the_fit(trainer: EditTrainer) -> None:
    model, pictures = splat(trainer), seen(trainer)
    for picture in pictures:
        picture[: int(0.4 * len(picture))] *= 0.3
    before = bits(model)
    assert not recolor(model, trainer.pipeline.views, redrawn(trainer, pictures))
    assert all(torch.equal(before[name], after) for name, after in bits(model).items())
    assert model.edited_background is None


def test_nothing_redrawn_is_no_change(trainer: EditTrainer) -> None:
    assert not recolor(splat(trainer), trainer.pipeline.views, RedrawnViews(trainer.pipeline.views))


def test_what_is_held_keeps_its_colours_and_so_does_the_background(trainer: EditTrainer) -> None:
    model = splat(trainer)
    free = torch.arange(model.num_points) % 2 == 0
    model.hold(lambda _: free)
    before = bits(model)
    assert recolor(model, trainer.pipeline.views, by_night(trainer))
    after = bits(model)
    assert torch.equal(before["features_dc"][~free], after["features_dc"][~free])
    assert not torch.equal(before["features_dc"][free], after["features_dc"][free])
    assert model.edited_background is None


def test_the_background_is_part_of_the_edit_and_of_its_checkpoints(
    trainer: EditTrainer, make_config: Any, prepare: Any
) -> None:
    model = splat(trainer)
    source = {name: value.clone() for name, value in model.state_dict().items()}
    recolor(model, trainer.pipeline.views, by_night(trainer))
    state, background = model.held_state(), model.edited_background
    assert state is not None and background is not None
    assert torch.equal(model._get_background_color(), background)

    other = splat(prepare(make_config("splat", "other", reconstruct=0)))
    other.load_held_state(state)
    other.eval()  # as nerfstudio's commands render it
    assert torch.equal(other._get_background_color(), background)
    other.load_held_state(None)
    assert not torch.equal(other._get_background_color(), background)

    model.load_state_dict(source)
    assert model.edited_background is None, "what goes back to the source has its background"


def test_a_night_is_taken_up_before_the_first_step(make_config: Any, run: Any, monkeypatch: Any, capsys: Any) -> None:
    from pds_nerfstudio.guidance.guidance import Guidance

    monkeypatch.setattr(Guidance, "redraw", lambda self, image, *others: 0.1 * torch.ones_like(image))
    trainer = run(make_config("splat", steps=1, reconstruct=1, pipeline__strategy="together", pipeline__lr_mult=1e-9))
    assert "colours were fitted first" in capsys.readouterr().out
    rgb = splat(trainer).see(trainer.pipeline.views[0]).rgb
    assert (rgb - 0.1).abs().mean() < 0.05
