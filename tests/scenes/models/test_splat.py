"""pds-splat's model: growing and culling during the edit, and the Gaussians strewn where it begins."""

from typing import Any

import pytest
import torch

from pds_nerfstudio.guidance.latents import resize
from pds_nerfstudio.scenes import views as source_views
from pds_nerfstudio.scenes.models.ball import looked_at_ball
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.models.seeds import Seeds
from pds_nerfstudio.scenes.models.splat import EditSplatModel, EditSplatModelConfig
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.scenes.views import SourceViews

RED = torch.tensor([0.95, 0.05, 0.05])  # of which nothing in the scene is
NAMES = {"means", "scales", "quats", "features_dc", "features_rest", "opacities"}


def model_of(trainer: EditTrainer) -> EditSplatModel:
    model = trainer.pipeline.model
    assert isinstance(model, EditSplatModel)
    return model


def assert_consistent(trainer: EditTrainer) -> None:
    """Every parameter is owned by its optimiser, whose moments have its shape, and all are of the same Gaussians."""
    model = model_of(trainer)
    assert set(model.gauss_params) == NAMES
    for name, parameter in model.gauss_params.items():
        optimizer = trainer.optimizers.optimizers[name]
        assert len(parameter) == model.num_points
        assert [group["params"] for group in optimizer.param_groups] == [[parameter]]
        assert set(optimizer.state) <= {parameter}
        state = optimizer.state[parameter]
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
        assert parameter.isfinite().all() and parameter.requires_grad


def test_a_fresh_models_parameters_suit_a_fused_optimizer(make_config: Any, prepare: Any) -> None:
    parameters = prepare(make_config("splat")).pipeline.model.gauss_params
    assert all(parameter.is_contiguous() for parameter in parameters.values())


@pytest.fixture
def coarsely_seen(make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch) -> EditTrainer:
    """Ready to refine views of 48×32 that the guidance sees at a sixteenth of their pixels: so many has a tile."""
    monkeypatch.setattr(source_views, "FINE", 1)
    monkeypatch.setattr(source_views, "FINE_PIXELS", 0)
    trainer = prepare(make_config("splat", reconstruct=0))
    pipeline = trainer.pipeline
    pipeline.views = SourceViews(pipeline.datamanager, 10, pipeline.model.edit_background, "cpu")
    pipeline.model.begin_edit(first=False, cameras=pipeline.views.cameras)
    pipeline.model.step_cb(trainer.optimizers, 0)
    return trainer


def test_large_views_are_fitted_in_tiles_at_full_size(coarsely_seen: EditTrainer) -> None:
    model, views = model_of(coarsely_seen), coarsely_seen.pipeline.views
    redrawn = RedrawnViews(views)
    redrawn[1] = RED.expand(8, 12, 3)
    for turn in range(3):
        losses = model.fit_redrawn(views[1], redrawn, turn)
        sides = model.info["width"], model.info["height"]
        tile = redrawn.tile(1, turn)
        torch.testing.assert_close(tile.target, RED.expand(8, 12, 3), atol=0.5 / 255, rtol=0)
        assert tile.target.shape == (8, 12, 3) and tile.share == 1 / 16
        rgb = model.render_part(views, 1, tile.part)
        torch.testing.assert_close(losses, {"photometric_loss": (rgb - tile.target).abs().mean()})
        assert sides == (12 / 4, 8 / 4)


def test_positional_gradients_are_as_large_in_a_tile_as_in_the_view(
    coarsely_seen: EditTrainer,
) -> None:
    """As the strategy measures them, in halves of a view's sides; else parts of views would grow more Gaussians."""
    model, views = model_of(coarsely_seen), coarsely_seen.pipeline.views
    with torch.no_grad():
        model.scales.sub_(2)

    def measured(losses: torch.Tensor) -> torch.Tensor:
        losses.backward()
        sides = torch.tensor([model.info["width"], model.info["height"]]) / 2
        gradient = model.info["means2d"].grad
        assert gradient is not None
        return gradient[0] * sides

    whole = measured((model.render_edit_view(views.full_size_camera(1), 1)[0] - RED).abs().mean())
    redrawn = RedrawnViews(views)
    redrawn[1] = RED.expand(8, 12, 3)
    sums = sum(measured(model.fit_redrawn(views[1], redrawn, turn)["photometric_loss"]) for turn in range(16))
    torch.testing.assert_close(sums, whole, atol=0.02 * whole.abs().max().item(), rtol=0)


def test_what_the_guidance_looks_at_is_rendered_fine(
    coarsely_seen: EditTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Gaussian is blurred by a part of a pixel, which in a smaller picture is more."""
    monkeypatch.setattr(coarsely_seen.pipeline.views, "fine_side", 10 * 8**0.5)
    model, views = model_of(coarsely_seen), coarsely_seen.pipeline.views
    view = views[2]
    look = model.see(view)
    whole, _ = model.render_edit_view(view.fine, 2)
    assert torch.equal(look.fine, whole) and look.rgb.shape == (8, 12, 3)
    rgb, expected = look.rgb, resize(whole.permute(2, 0, 1)[None], (8, 12))[0].permute(1, 2, 0)
    torch.testing.assert_close(rgb, expected)
    exact = model.render_edit_view(views.full_size_camera(2), 2)[0].reshape(8, 4, 12, 4, 3).mean((1, 3))
    small, _ = model.render_edit_view(view.camera, 2)
    assert (rgb - exact).abs().mean() < 0.5 * (small - exact).abs().mean()


class TestGrowth:
    def test_gaussians_grow_where_gradients_are_large(self, make_config: Any, run: Any, watch: Any) -> None:
        options = {
            "pipeline__model__edit_refine_every": 2,
            "pipeline__model__edit_densify_grad_thresh": 1e-12,
            "pipeline__model__edit_cull_alpha_thresh": 0.0,
            "pipeline__model__strewn_gaussians": 0,
        }
        trainer = run(make_config("splat", steps=6, **options))
        assert trainer.pipeline.model.num_points > 250
        assert_consistent(trainer)

    def test_faint_gaussians_are_culled(self, make_config: Any, run: Any) -> None:
        options = {
            "pipeline__model__edit_refine_every": 2,
            "pipeline__model__edit_densify_grad_thresh": 1e9,
            "pipeline__model__edit_cull_alpha_thresh": 0.05,
            "pipeline__model__strewn_opacity": 0.02,
        }
        trainer = run(make_config("splat", steps=6, **options))
        assert 0 < trainer.pipeline.model.num_points <= 200  # the strewn ones are gone, at least
        assert trainer.pipeline.model.opacities.sigmoid().min() > 0.04
        assert_consistent(trainer)

    def test_it_can_be_turned_off(self, make_config: Any, run: Any) -> None:
        options = {
            "pipeline__model__edit_refine_every": 0,
            "pipeline__model__edit_densify_grad_thresh": 1e-12,
            "pipeline__model__edit_cull_alpha_thresh": 0.5,
            "pipeline__model__strewn_gaussians": 0,
        }
        trainer = run(make_config("splat", steps=4, **options))
        assert trainer.pipeline.model.num_points == 200
        assert_consistent(trainer)

    def test_a_checkpoint_of_a_changed_number_resumes(self, make_config: Any, run: Any) -> None:
        options = {"pipeline__model__edit_refine_every": 2, "pipeline__model__edit_densify_grad_thresh": 1e-12}
        grown = run(make_config("splat", steps=4, **options))
        points = grown.pipeline.model.num_points
        assert points > 240
        resumed = run(
            make_config(
                "splat", "resumed", steps=5, load_dir=grown.checkpoint_dir, pipeline__model__edit_refine_every=0
            )
        )
        assert resumed.pipeline.model.num_points == points
        assert_consistent(resumed)


class TestOpacities:
    def test_their_mean_is_a_loss_of_each_view(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat", reconstruct=0, pipeline__model__edit_opacity_loss_mult=0.3))
        model, view = trainer.pipeline.model, trainer.pipeline.views[1]
        model.step_cb(trainer.optimizers, 0)
        _, losses = model.render_edit_view(view.camera, view.index)
        opacities = torch.sigmoid(model.gauss_params["opacities"])
        torch.testing.assert_close(losses["opacity_loss"], 0.3 * opacities.mean())
        losses["opacity_loss"].backward()
        expected = 0.3 * opacities * (1 - opacities) / len(opacities)
        torch.testing.assert_close(model.gauss_params["opacities"].grad, expected)
        model.config.edit_opacity_loss_mult = 0.0
        assert model.render_edit_view(view.camera, view.index)[1] == {}

    def test_what_no_view_sees_fades(self, make_config: Any, prepare: Any, run: Any) -> None:
        """A Gaussian behind all cameras."""
        trainer = prepare(make_config("splat", steps=6, reconstruct=0, pipeline__model__strewn_gaussians=0))
        model = trainer.pipeline.model
        cameras = trainer.pipeline.views.cameras
        with torch.no_grad():
            model.gauss_params["means"][0] = 50 * cameras.camera_to_worlds[:, :, 3].mean(0)
            before = model.gauss_params["opacities"][0].clone()
        trainer.train()
        assert float(trainer.pipeline.model.gauss_params["opacities"][0].detach()) < float(before) - 0.05


class TestStrewing:
    @pytest.fixture
    def reconstructed(self, make_config: Any, prepare: Any, run: Any) -> EditTrainer:
        """A scene that has been reconstructed for some steps, with as many strewn Gaussians to come as by default."""
        default = EditSplatModelConfig()
        trainer = prepare(
            make_config(
                "splat",
                steps=1,
                reconstruct=60,
                pipeline__model__strewn_gaussians=default.strewn_gaussians,
                pipeline__model__background_color="white",
            )
        )
        for step in range(30):
            trainer.pipeline.model.step_cb(trainer.optimizers, step)
            trainer.train_iteration(step)
        return trainer

    def test_what_is_strewn(self, reconstructed: EditTrainer) -> None:
        model, cameras = model_of(reconstructed), reconstructed.pipeline.views.cameras
        before = {name: p.detach().clone() for name, p in model.gauss_params.items()}
        moments = {
            name: reconstructed.optimizers.optimizers[name].state[p]["exp_avg"].clone()
            for name, p in model.gauss_params.items()
        }
        model.eval()
        pictures = [render(model, cameras[i : i + 1]) for i in (0, 4, 8)]
        model.begin_edit(first=True, cameras=cameras)
        assert_consistent(reconstructed)

        n, strewn = len(before["means"]), model.config.strewn_gaussians
        assert model.num_points == n + strewn
        for name, parameter in model.gauss_params.items():
            assert torch.equal(parameter[:n], before[name])
            state = reconstructed.optimizers.optimizers[name].state[parameter]
            assert torch.equal(state["exp_avg"][:n], moments[name])
            assert not state["exp_avg"][n:].any() and not state["exp_avg_sq"][n:].any()
        center, radius = looked_at_ball(cameras, before["means"])
        distance = (model.means[n:] - center).norm(dim=-1) / radius
        assert distance.max() <= 1 + 1e-5
        # Evenly over the ball: an eighth of them are in the inner half of the radius.
        assert (distance < 0.5).float().mean().item() == pytest.approx(1 / 8, abs=0.03)
        assert ((model.means[n:] - center) / radius).mean(0).norm() < 0.05

        after = [render(model, cameras[i : i + 1]) for i in (0, 4, 8)]
        change = torch.stack([(x - y).abs().mean() for x, y in zip(pictures, after, strict=True)])
        assert 0 < change.max() < 0.05  # a veil that nobody takes for an edit

    def test_they_learn(self, reconstructed: EditTrainer) -> None:
        model = model_of(reconstructed)
        n = model.num_points
        model.begin_edit(first=True, cameras=reconstructed.pipeline.views.cameras)
        before = model.opacities[n:].detach().clone()
        reconstructed.train_iteration(60)
        assert (model.opacities[n:] != before).float().mean() > 0.5

    def test_a_resumed_edit_strews_none(self, reconstructed: EditTrainer) -> None:
        model = model_of(reconstructed)
        n = model.num_points
        model.begin_edit(first=False, cameras=reconstructed.pipeline.views.cameras)
        assert model.num_points == n and model.editing

    @pytest.mark.usefixtures("unchecked")
    def test_during_the_edit_the_background_keeps_still(self, make_config: Any, prepare: Any) -> None:
        model = prepare(make_config("splat", pipeline__model__background_color="random")).pipeline.model
        model.train()
        assert not torch.equal(model._get_background_color(), model._get_background_color())
        model.begin_edit(first=False, cameras=None)
        assert torch.equal(model._get_background_color(), model.edit_background)


class TestPlanting:
    """What redrawn views show of new surfaces, when an edit is fitted from the source."""

    def test_what_is_planted_may_change_and_what_is_held_does_not(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat", steps=2, reconstruct=2, pipeline__model__strewn_gaussians=0))
        model, cameras = model_of(trainer), trainer.pipeline.views.cameras
        for step in range(2):
            model.step_cb(trainer.optimizers, step)
            trainer.train_iteration(step)
        model.begin_edit(first=False, cameras=cameras)
        n = model.num_points
        model.hold(lambda gaussians: torch.arange(gaussians.num_points) < n // 2)
        before = {name: parameter.detach().clone() for name, parameter in model.gauss_params.items()}
        center, radius = looked_at_ball(cameras, model.means.detach())
        seeds = Seeds(center + 0.2 * radius * torch.rand(40, 3), RED.expand(40, 3))
        model.plant(seeds)
        assert_consistent(trainer)
        free = model.free
        assert free is not None and free.tolist() == [True] * (n // 2) + [False] * (n - n // 2) + [True] * 40
        redrawn = RedrawnViews(trainer.pipeline.views)
        view = trainer.pipeline.views[1]
        redrawn[1] = RED.expand(*view.image.shape[-2:], 3)
        trainer.optimizers.zero_grad_all()
        model.fit_redrawn(view, redrawn, 0)["photometric_loss"].backward()
        for optimizer in model.optimizers.values():
            optimizer.step()
        for name, parameter in model.gauss_params.items():
            assert torch.equal(parameter[n // 2 : n], before[name][n // 2 :])
        assert not torch.equal(model.means[n:], seeds.means)

    def test_too_few_points_are_not_worth_it(self, make_config: Any, prepare: Any) -> None:
        model = model_of(prepare(make_config("splat", reconstruct=0)))
        n = model.num_points
        model.plant(Seeds(torch.rand(3, 3), torch.rand(3, 3)))
        assert model.num_points == n
