"""The photometric anchor: parts of full-size views and rays of all, against whole pictures; and what it leaves out."""

from typing import Any

import gsplat.rendering
import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes import views as source_views
from pds_nerfstudio.scenes.anchor import Anchor, parts_of
from pds_nerfstudio.scenes.models.drawing_part import drawing_part
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.scenes.views import Part, tile_of

SIDE = 24
"""What the guidance of these tests would look at; views are 32 × 48."""


@pytest.fixture(scope="module", params=["splat", "nerf"])
def trainer(request: Any, tmp_path_factory: pytest.TempPathFactory, config_in: Any, prepare: Any) -> EditTrainer:
    trainer = prepare(config_in(tmp_path_factory.mktemp("anchor"), request.param, reconstruct=0, steps=10))
    if request.param == "splat":
        trainer.pipeline.model.step_cb(trainer.optimizers, 0)
    trainer.pipeline._before_step(trainer.optimizers, 0)
    trainer.pipeline.train()
    trainer.pipeline.views.fine_side = float(SIDE)
    return trainer


@pytest.fixture
def splat(trainer: EditTrainer) -> EditSplatModel:
    model = trainer.pipeline.model
    if not isinstance(model, EditSplatModel):
        pytest.skip("of splats")
    return model


def anchor_of(trainer: EditTrainer) -> Anchor:
    return Anchor(trainer.pipeline.views, "7", "cpu")


def gradients(trainer: EditTrainer, loss: Tensor) -> dict[str, Tensor]:
    trainer.optimizers.zero_grad_all()
    loss.backward()
    model: Any = trainer.pipeline.model
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys() and first
    largest = max(float(g.abs().max()) for g in second.values())
    for name in first:
        size = float(second[name].abs().max())
        assert (first[name] - second[name]).abs().max() <= tolerance * size + 1e-6 * largest, name


class TestParts:
    @pytest.mark.parametrize(
        ("height", "width", "side"), [(1080, 1920, 512), (960, 540, 160), (33, 47, 24), (16, 90, 8)]
    )
    def test_together_they_are_the_picture(self, height: int, width: int, side: int) -> None:
        counts = torch.zeros(height, width, dtype=torch.long)
        for part in parts_of(height, width, side):
            counts[part.rows, part.columns] += 1
            assert part.rows.start % 16 == part.columns.start % 16 == 0
        assert (counts == 1).all()

    def test_each_has_about_half_as_many_pixels_as_a_step_renders(self) -> None:
        sizes = [(p.rows.stop - p.rows.start) * (p.columns.stop - p.columns.start) for p in parts_of(1080, 1920, 512)]
        assert max(sizes) < 0.6 * 512**2 and min(sizes) > 0.4 * 512**2

    def test_a_picture_no_larger_than_a_step_renders_is_one(self) -> None:
        assert parts_of(400, 600, 490) == [Part(slice(0, 400), slice(0, 600))]

    def test_the_camera_of_one_sees_it(self, trainer: EditTrainer) -> None:
        whole = trainer.pipeline.views.full_size_camera(3)
        part = Part(slice(16, 32), slice(32, 45))
        rays, wanted = (
            camera.generate_rays(camera_indices=0, keep_shape=True)
            for camera in (tile_of(whole, part.rows, part.columns), whole)
        )
        assert rays.shape == (16, 13)
        torch.testing.assert_close(rays.directions, wanted.directions[16:32, 32:45], rtol=0, atol=1e-6)
        assert whole.width.item() == 48  # it is as it was


class TestDrawingOfParts:
    @pytest.fixture
    def whole(self, splat: EditSplatModel, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch) -> Tensor:
        """A full-size picture of Gaussians so large that many reach into a part from far beside it."""
        with torch.no_grad():
            for parameter, offset in ((splat.scales, 1.2), (splat.opacities, 1.5)):
                monkeypatch.setattr(parameter, "data", parameter.data + offset)
        return splat.get_outputs(trainer.pipeline.views.full_size_camera(3))["rgb"]  # type: ignore[return-value]

    def test_it_is_that_part_of_the_whole(self, splat: EditSplatModel, trainer: EditTrainer, whole: Tensor) -> None:
        views = trainer.pipeline.views
        for part in parts_of(32, 48, SIDE):
            torch.testing.assert_close(
                splat.render_part(views, 3, part),
                whole[part.rows, part.columns],
                rtol=0,
                atol=2e-6,
            )

    def test_a_camera_of_the_part_alone_would_not_do(
        self, splat: EditSplatModel, trainer: EditTrainer, whole: Tensor
    ) -> None:
        part = Part(slice(16, 32), slice(32, 48))
        alone = splat.get_outputs(tile_of(trainer.pipeline.views.full_size_camera(3), part.rows, part.columns))["rgb"]
        assert (alone - whole[16:32, 32:48]).abs().max() > 1e-3  # type: ignore[operator]

    def test_densification_does_not_see_it(self, splat: EditSplatModel, trainer: EditTrainer) -> None:
        view = trainer.pipeline.views[3]
        splat.render_edit_view(view.camera, view.index)
        info, size = splat.info, splat.last_size
        splat.render_part(trainer.pipeline.views, 3, Part(slice(0, 16), slice(16, 32)))
        assert splat.info is info and splat.last_size == size

    def test_colours_are_corrected_by_their_place_in_the_whole(
        self, splat: EditSplatModel, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of a splatfacto with bilateral grids; here one that multiplies by the place."""
        from nerfstudio.models.splatfacto import SplatfactoModel

        def corrected(self: Any, rgb: Tensor, cam_idx: int, H: int, W: int) -> Tensor:
            assert rgb.shape == (1, H, W, 3) and cam_idx == 3
            return rgb * torch.cartesian_prod(torch.arange(H) / H, torch.arange(W) / W).sum(-1).view(1, H, W, 1)

        monkeypatch.setattr(SplatfactoModel, "_apply_bilateral_grid", corrected)
        monkeypatch.setattr(splat.config, "use_bilateral_grid", True)
        views = trainer.pipeline.views
        whole: Any = splat.get_outputs(views.full_size_camera(3))["rgb"]
        shown = splat.render_part(views, 3, Part(slice(16, 32), slice(32, 45)))
        torch.testing.assert_close(shown, whole[16:32, 32:45], rtol=0, atol=1e-5)

    def test_gsplat_is_asked_for_the_whole_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stand-in with the arguments and the results of the kernel, which needs a GPU."""
        asked: list[tuple[Tensor, int, int]] = []
        kept = torch.ones(1, 2)

        def projection(
            means: Tensor,
            covars: Any,
            quats: Any,
            scales: Any,
            viewmats: Any,
            Ks: Tensor,
            width: int,
            height: int,
            **_: Any,
        ) -> tuple[Any, ...]:
            asked.append((Ks, width, height))
            return (
                torch.ones(1, 2),
                torch.tensor([[[50.0, 30.0], [10.0, 5.0]]]),
                torch.ones(1, 2),
                torch.ones(1, 3),
                kept,
            )

        monkeypatch.setattr(gsplat.rendering, "fully_fused_projection", projection)
        of_part = torch.tensor([[[9.0, 0, 4.0], [0, 8.0, 2.0], [0, 0, 1]]])
        with drawing_part(Part(slice(16, 32), slice(32, 45)), 40, 60):
            _, means, *_, last = gsplat.rendering.fully_fused_projection(
                *[torch.zeros(2, 3)] * 5, of_part, 13, 16, eps2d=0.3
            )
        ((whole, width, height),) = asked
        assert (width, height) == (60, 40) and last is kept
        assert whole[0, :2, 2].tolist() == [36.0, 18.0] and of_part[0, 0, 2] == 4
        assert means[0].tolist() == [[18.0, 14.0], [-22.0, -11.0]]
        assert gsplat.rendering.fully_fused_projection is projection


class TestDistance:
    def test_the_mean_over_all_parts_is_that_of_the_whole(self, splat: EditSplatModel, trainer: EditTrainer) -> None:
        """The gradient too, against a slow reference that renders the whole view."""
        anchor, views = anchor_of(trainer), trainer.pipeline.views
        mask = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(1)).round()
        anchor.learn(3, mask)
        parts = parts_of(32, 48, SIDE)
        assert len(parts) > 3
        drawn = [anchor.distance([anchor.pixels(3, part, splat.render_part(views, 3, part), 1.0)]) for part in parts]
        shown: Any = splat.get_outputs(views.full_size_camera(3))["rgb"]
        fine = torch.nn.functional.interpolate(mask[None], (128, 128), mode="bilinear")[0, 0]
        rows, columns = ((torch.arange(n) + 0.5) * 128 / n for n in (32, 48))
        outside = 1 - fine[rows.long()][:, columns.long()]
        reference = (outside[..., None] * (shown - views.full_size_image(3)).abs()).mean()
        torch.testing.assert_close(torch.stack(drawn).sum(), reference, rtol=1e-4, atol=0)
        slow = gradients(trainer, reference)
        assert_close(
            gradients(
                trainer,
                torch.stack(
                    [
                        anchor.distance([anchor.pixels(3, part, splat.render_part(views, 3, part), 1.0)])
                        for part in parts
                    ]
                ).sum(),
            ),
            slow,
            1e-3,
        )

    def test_each_part_is_drawn_alike_and_again_when_the_step_is(self, trainer: EditTrainer) -> None:
        anchor = anchor_of(trainer)
        drawn = [anchor.part(2, step) for step in range(600)]
        assert drawn == [anchor_of(trainer).part(2, step) for step in range(600)]
        parts = parts_of(32, 48, SIDE)
        counts = [drawn.count(one) for one in parts]
        assert sum(counts) == 600 and min(counts) > 0.7 * 600 / len(parts)

    def test_rays_are_of_full_size_and_of_all_views(self, trainer: EditTrainer) -> None:
        if isinstance(trainer.pipeline.model, EditSplatModel):
            pytest.skip("of NeRFs")
        views = trainer.pipeline.views
        rays, colors, indices = views.random_rays(0)
        assert set(indices[:, 0].tolist()) == set(range(9))
        assert indices[:, 1].max() > 28 and indices[:, 2].max() > 43
        for k, (view, row, column) in enumerate(indices.tolist()):
            ray, color = rays[k], colors[k]
            torch.testing.assert_close(color, views.full_size_image(view)[row, column])
            camera = views.full_size_camera(view)
            same = camera.generate_rays(camera_indices=0, coords=torch.tensor([row + 0.5, column + 0.5]))
            torch.testing.assert_close(ray.directions, same.directions)

    def test_what_the_edit_is_about_counts_for_nothing(self, trainer: EditTrainer) -> None:
        """A pixel's gradient, in closed form: its weight in the mean where it lies outside, else 0."""
        anchor = anchor_of(trainer)
        mask = torch.zeros(1, 4, 4)
        mask[:, :, :2] = 1
        for index in range(9):
            anchor.learn(index, mask)
        shown = torch.full((32, 48, 3), 2.0, requires_grad=True)  # brighter than any source
        whole = anchor.pixels(3, Part(slice(0, 32), slice(0, 48)), shown, 1.0)
        (gradient,) = torch.autograd.grad(anchor.distance([whole]), shown)
        assert (gradient[:, :12] == 0).all()
        torch.testing.assert_close(gradient[:, 36:], torch.full((32, 12, 3), 1 / (32 * 48 * 3)))
        indices = torch.tensor([[3, 5, 2], [4, 5, 45], [4, 31, 47], [0, 0, 11]])
        seen = torch.full((4, 3), 2.0, requires_grad=True)
        (gradient,) = torch.autograd.grad(anchor.distance([anchor.rays(indices, torch.zeros(4, 3), seen)]), seen)
        assert gradient[:, 0].tolist() == pytest.approx([0, 2 * 2 / 12, 2 * 2 / 12, 0])  # of squares

    def test_views_of_which_nothing_is_known_count_for_nothing(self, trainer: EditTrainer) -> None:
        anchor = anchor_of(trainer)
        indices = torch.tensor([[3, 5, 2], [4, 5, 45]])

        def distance() -> float:
            seen = torch.ones(2, 3)
            return float(anchor.distance([anchor.rays(indices, torch.zeros(2, 3), seen)]))

        assert distance() == 0
        anchor.learn(3, None)
        # One of two rays, which stands for all views, since of the others nothing is known.
        assert distance() == pytest.approx(9 / 2)
        anchor.learn(4, torch.full((1, 3, 3), torch.nan))  # of which nothing finite is known
        assert distance() == pytest.approx(9 / 4)
        kept = anchor.state_dict()
        anchor.forget()
        assert distance() == 0
        anchor.load_state_dict(kept)
        assert distance() == pytest.approx(9 / 4)


def test_a_resumed_run_draws_the_same_parts(
    make_config: Any, run: Any, last_state: Any, differences: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_views, "FINE", 1)
    monkeypatch.setattr(source_views, "FINE_PIXELS", 0)
    """And knows of the views what it knew: the checkpoints are the same, to the bit."""
    options = {"reconstruct": 1, "pipeline__photometric_loss_mult": 1.0, "pipeline__guidance__localize": 1.0}
    whole = run(make_config("splat", "whole", steps=6, **options))
    first = run(make_config("splat", "first", steps=6, steps_per_save=4, save_only_latest_checkpoint=False, **options))
    cut = next(path for path in first.checkpoint_dir.glob("step-*.ckpt") if "4" in path.stem)
    second = run(make_config("splat", "second", steps=6, load_checkpoint=cut, **options))
    assert last_state(whole)["pipeline"]["_extra_state"]["anchor"]
    assert not differences(last_state(whole)["pipeline"], last_state(second)["pipeline"])


def test_what_the_data_set_masks_out_is_held_to_nothing(
    trainer: EditTrainer, splat: EditSplatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor, part = anchor_of(trainer), Part(slice(0, 16), slice(0, 48))
    anchor.learn(3, None)
    mask = torch.rand(16, 48, generator=torch.Generator().manual_seed(0)) < 0.5
    monkeypatch.setattr(anchor.views, "full_size_mask", lambda index, rows, columns: mask[rows, columns])
    shown = torch.full((16, 48, 3), 0.31, requires_grad=True)
    anchor.distance([anchor.pixels(3, part, shown, 1.0)]).backward()
    assert shown.grad is not None
    assert torch.equal(shown.grad.abs().sum(-1) > 0, mask)
