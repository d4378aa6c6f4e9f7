"""pds-nerf's model: whole images with gradients, chunk by chunk, and what an edit must leave alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.losses import distortion_loss, interlevel_loss
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from pds_nerfstudio.scenes.kernels.checked import CheckedFunction
from pds_nerfstudio.scenes.kernels.nerfacto import PartsForColors
from pds_nerfstudio.scenes.models import nerf, ray_sampling
from pds_nerfstudio.scenes.models.nerf import EditNerfModel, ray_distortion_losses, ray_interlevel_losses
from pds_nerfstudio.scenes.models.ray_sampling import LastLosses
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.trainer import EditTrainer


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, config_in: Any, prepare: Any) -> EditTrainer:
    """Ready to edit, and in training mode."""
    trainer = prepare(config_in(tmp_path_factory.mktemp("nerf"), "nerf", reconstruct=0))
    trainer.pipeline.train()
    trainer.pipeline.model.begin_edit(first=True, cameras=trainer.pipeline.views.cameras)
    return trainer


@pytest.fixture
def model(trainer: EditTrainer) -> EditNerfModel:
    model = trainer.pipeline.model
    assert isinstance(model, EditNerfModel)
    return model


@pytest.fixture
def render(
    trainer: EditTrainer, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], tuple[dict, dict]]:
    """Renders a view in chunks of so many rays; returns values and all parameters' gradients of a random loss."""

    def rendered(rays_per_chunk: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        view = trainer.pipeline.views[3]
        monkeypatch.setattr(model.config, "edit_rays_per_chunk", rays_per_chunk)
        torch.manual_seed(0)
        rgb, losses = model.render_edit_view(view.camera, view.index)
        weight = torch.randn(rgb.shape, generator=torch.Generator().manual_seed(1))
        trainer.optimizers.zero_grad_all()
        ((rgb * weight).sum() + sum(losses.values(), torch.zeros(()))).backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {"rgb": rgb.detach()} | {name: loss.detach() for name, loss in losses.items()}, grads

    return rendered


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name in first:
        scale = float(second[name].abs().max())
        assert float((first[name] - second[name]).abs().max()) <= tolerance * scale, name


def test_chunks_make_no_difference(
    trainer: EditTrainer, model: EditNerfModel, render: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random sample positions off: which ray gets which depends on the chunks.
    sampler = model.proposal_sampler
    for one in (sampler.initial_sampler, sampler.pdf_sampler):
        monkeypatch.setattr(one, "train_stratified", False)
    pixels = trainer.pipeline.views[3].image[0, 0].numel()
    whole_values, whole_grads = render(pixels)
    for rays in (pixels // 2, 97):
        values, grads = render(rays)
        assert_close(values, whole_values, 1e-5)
        assert_close(grads, whole_grads, 1e-3)


def test_rendering_chunks_again_gives_the_very_same_gradients(render: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random sample positions, too: the backward pass draws those of the forward pass."""
    values, grads = render(200)
    monkeypatch.setattr(nerf, "checkpoint", lambda function, chunk, use_reentrant: function(chunk))
    kept_values, kept_grads = render(200)
    assert_close(values, kept_values, 0)
    assert_close(grads, kept_grads, 1e-6)


def test_refining_fits_rays_of_all_redrawn_views(
    trainer: EditTrainer, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = trainer.pipeline.views
    redrawn = RedrawnViews(views)
    black, white = (torch.full_like(views[i].image[0].permute(1, 2, 0), value) for i, value in ((2, 0.0), (5, 1.0)))
    redrawn[2], redrawn[5] = black, white
    asked: list[RayBundle] = []

    def render(rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
        asked.append(rays)
        assert rays.camera_indices is not None
        of_first = rays.camera_indices.eq(2).float()
        return (of_first * 0.25 + (1 - of_first)).expand(-1, 3), torch.full_like(of_first[:, 0], 3.0), of_first[:, 0]

    monkeypatch.setattr(model, "_render_rays", render)
    monkeypatch.setattr(model.config, "edit_rays_per_step", 50)
    monkeypatch.setattr(model.config, "edit_rays_per_chunk", 20)
    losses = model.fit_redrawn(views[2], redrawn, 0)
    assert [len(rays) for rays in asked] == [20, 20, 10]
    share = torch.cat([rays.camera_indices for rays in asked if rays.camera_indices is not None]).eq(2).float().mean()
    assert 0 < share < 1
    # Of a white picture next to nothing of the photograph's detail is left.
    torch.testing.assert_close(losses["photometric_loss"], 0.25 * share, atol=1e-3, rtol=0)
    torch.testing.assert_close(losses["interlevel_loss"], torch.tensor(3.0) * model.config.interlevel_loss_mult)
    torch.testing.assert_close(losses["distortion_loss"], share * model.config.distortion_loss_mult)


def test_colors_come_in_large_chunks_only_where_kernels_make_them(
    trainer: EditTrainer, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.config, "eval_num_rays_per_chunk", 100)
    monkeypatch.setattr(model.config, "edit_colors_per_chunk", 300)
    monkeypatch.setattr(model.config, "edit_rays_per_step", 64)
    sizes: list[int] = []
    usual = model._ray_colors

    def watched(rays: RayBundle) -> Tensor:
        sizes.append(len(rays))
        return usual(rays)

    monkeypatch.setattr(model, "_ray_colors", watched)
    view = trainer.pipeline.views[3]

    def largest() -> int:
        sizes.clear()
        model.render_edit_view(view.camera, view.index)
        assert sum(sizes) == view.image[0, 0].numel()
        return max(sizes)

    assert largest() == 100

    def kernel(plain: Callable[..., Any]) -> CheckedFunction:
        return CheckedFunction(
            lambda x: plain(x),
            plain,
            "",
            few=lambda x: x,
            numbers=lambda out: out.values() if isinstance(out, dict) else [out],
        )

    densities = [kernel(part) for part in model.density_fns]
    monkeypatch.setattr(model, "_for_colors", PartsForColors(densities, model.field.forward))
    assert largest() == 100
    monkeypatch.setattr(model, "_for_colors", PartsForColors(densities, kernel(model.field.forward)))
    assert largest() == 100  # not yet compared
    assert largest() == 300


def test_one_chunks_activations_are_held_at_a_time(
    model: EditNerfModel, render: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So memory does not grow with the image, neither before the backward pass nor during it."""
    usual = model.forward

    def most_at_a_time() -> int:
        chunks: list[StorageWeakRef] = []
        alive: list[int] = []

        def watched(rays: Any) -> Any:
            outputs = usual(rays)
            chunks.append(StorageWeakRef(outputs["weights_list"][-1].untyped_storage()))
            alive.append(sum(not chunk.expired() for chunk in chunks))
            return outputs

        monkeypatch.setattr(model, "forward", watched)
        render(200)
        return max(alive)

    assert most_at_a_time() <= 2
    monkeypatch.setattr(nerf, "checkpoint", lambda function, chunk, use_reentrant: function(chunk))
    assert most_at_a_time() >= 5  # as it would be if the whole graph were kept


def test_rendering_chunks_again_does_not_correct_their_pose_again(model: EditNerfModel, render: Any) -> None:
    """Nerfacto moves the rays that it is given; a pose that was learned must count once in the backward pass, too."""
    poses, sampler = model.camera_optimizer.pose_adjustment, model.proposal_sampler
    with torch.no_grad():
        poses[3] = torch.tensor([0.3, -0.2, 0.1, 0.05, 0.02, -0.1])
    try:
        with pytest.MonkeyPatch.context() as patch:
            for one in (sampler.initial_sampler, sampler.pdf_sampler):
                patch.setattr(one, "train_stratified", False)
            _, grads = render(200)
            patch.setattr(nerf, "checkpoint", lambda function, chunk, use_reentrant: function(chunk))
            _, kept_grads = render(200)
    finally:
        with torch.no_grad():
            poses.zero_()
    assert_close(grads, kept_grads, 1e-5)


def test_losses_of_rays_have_nerfactos_losses_as_their_means(trainer: EditTrainer, model: EditNerfModel) -> None:
    view = trainer.pipeline.views[3]
    rays = view.camera.generate_rays(camera_indices=0, keep_shape=True).flatten()[:50]
    rays.camera_indices = torch.full((50, 1), 3)
    outputs = model(rays)
    weights, samples = outputs["weights_list"], outputs["ray_samples_list"]
    for ours, theirs in ((ray_interlevel_losses, interlevel_loss), (ray_distortion_losses, distortion_loss)):
        losses = ours(weights, samples)
        assert losses.shape == (50,)
        torch.testing.assert_close(losses.mean(), theirs(weights, samples))


class TestSampledRays:
    """An edit step that is back-propagated through some of its rays."""

    @pytest.fixture
    def small(
        self, trainer: EditTrainer, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[int], tuple[dict, dict]]:
        """As `render`, of a view of few pixels, with sample positions that are not drawn at random."""
        view = trainer.pipeline.views[3]
        view.camera.rescale_output_resolution(1 / 6)
        for one in (model.proposal_sampler.initial_sampler, model.proposal_sampler.pdf_sampler):
            monkeypatch.setattr(one, "train_stratified", False)
        monkeypatch.setattr(model.config, "edit_rays_per_chunk", 16)

        def rendered(rays_per_step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            monkeypatch.setattr(model.config, "edit_rays_per_step", rays_per_step)
            rgb, losses = model.render_edit_view(view.camera, view.index)
            y, x = torch.meshgrid(*map(torch.arange, rgb.shape[:2]), indexing="ij")
            weight = (0.1 * torch.sin(0.9 * x + y) + (x - y).abs().lt(1))[..., None] * torch.tensor([1.0, -2, 0.5])
            trainer.optimizers.zero_grad_all()
            # The regularisers' share is made as large as the image's, so that it can't be lost in it.
            ((rgb * weight).sum() + 1e4 * sum(losses.values(), torch.zeros(()))).backward()
            grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            return {"rgb": rgb.detach()} | {name: loss.detach() for name, loss in losses.items()}, grads

        return rendered

    def test_first_values_are_those_of_all_rays(
        self, small: Any, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(model, "_last_losses", LastLosses())
        torch.manual_seed(0)
        first = small(7)[0]
        drawn = torch.rand(1)
        assert_close(first, small(0)[0], 1e-6)
        torch.manual_seed(0)
        small(7)
        assert torch.equal(torch.rand(1), drawn)  # the first step's random numbers are those of any other

    def test_later_values_are_those_of_the_rays_before(self, small: Any, model: EditNerfModel) -> None:
        small(7)
        assert model._last_losses.values is not None
        noted = model._last_losses.values.clone()
        values, _ = small(7)
        mults = model.config.interlevel_loss_mult, model.config.distortion_loss_mult
        for name, mult, value in zip(("interlevel_loss", "distortion_loss"), mults, noted, strict=True):
            torch.testing.assert_close(values[name], mult * value)

    def test_the_mean_over_all_draws_is_that_of_all_rays(
        self, small: Any, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In closed form: one random number decides a draw, and between its break points the draw is the same."""
        values, whole = small(0)
        seen: list[Tensor] = []
        usual = ray_sampling.ray_probabilities

        def watched(gradient: Tensor) -> Tensor:
            seen.append(usual(gradient))
            return seen[-1]

        monkeypatch.setattr(ray_sampling, "ray_probabilities", watched)
        small(5)
        breaks = (5 * seen[0].cumsum(0)).frac().sort().values
        edges = torch.cat([breaks.new_zeros(1), breaks, breaks.new_ones(1)])
        lengths, middles = edges.diff(), (edges[1:] + edges[:-1]) / 2
        total = {name: torch.zeros_like(gradient) for name, gradient in whole.items()}
        losses, spread = torch.zeros(2), 0.0
        for length, middle in zip(lengths, middles, strict=True):
            if length < 1e-12:
                continue
            monkeypatch.setattr(ray_sampling.torch, "rand", lambda *_, middle=middle, **__: middle)
            _, grads = small(5)
            losses += length * model._last_losses.values
            for name, gradient in grads.items():
                total[name] += length * gradient
            name = "field.mlp_head.layers.0.weight"
            spread = max(spread, float((grads[name] - whole[name]).norm() / whole[name].norm()))
        assert_close(total, whole, 1e-4)
        mults = torch.tensor([model.config.interlevel_loss_mult, model.config.distortion_loss_mult])
        expected = torch.stack([values["interlevel_loss"], values["distortion_loss"]])
        torch.testing.assert_close(mults * losses, expected, rtol=1e-4, atol=0)
        assert spread > 0.1  # single draws are far from it

    def test_a_number_that_is_not_finite_is_never_missed(self, trainer: EditTrainer, model: EditNerfModel) -> None:
        view = trainer.pipeline.views[3]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model.config, "edit_rays_per_step", 8)
            rgb, _ = model.render_edit_view(view.camera, view.index)
            weight = torch.zeros_like(rgb)
            weight[5, 7, 1] = torch.nan
            trainer.optimizers.zero_grad_all()
            (rgb * weight).sum().backward()
        assert any(not p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    def test_no_more_than_a_chunk_is_held_at_a_time(
        self, trainer: EditTrainer, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        view = trainer.pipeline.views[3]
        usual, rays_with_graph, most, alive = model.forward, [], [], []
        held: list[StorageWeakRef] = []

        def watched(rays: Any) -> Any:
            outputs = usual(rays)
            most.append(len(rays))
            if torch.is_grad_enabled():
                rays_with_graph.append(len(rays))
                held.append(StorageWeakRef(outputs["weights_list"][-1].untyped_storage()))
                alive.append(sum(not one.expired() for one in held))
            return outputs

        monkeypatch.setattr(model, "forward", watched)
        monkeypatch.setattr(model, "_last_losses", LastLosses())
        monkeypatch.setattr(model.config, "edit_rays_per_chunk", 64)
        monkeypatch.setattr(model.config, "edit_rays_per_step", 300)
        rgb, losses = model.render_edit_view(view.camera, view.index)
        assert not rays_with_graph and max(most) == 64
        (rgb.sum() + sum(losses.values(), torch.zeros(()))).backward()
        assert rays_with_graph == [64] * 4 + [44] and max(alive) <= 2

    def test_an_edit_runs_and_repeats(self, make_config: Any, run: Any, last_state: Any, differences: Any) -> None:
        options = {"pipeline__model__edit_rays_per_step": 200, "pipeline__photometric_loss_mult": 1.0}
        states = [last_state(run(make_config("nerf", name, **options))) for name in ("one", "two")]
        assert not differences(*states)


def test_proposal_networks_learn_in_every_step(render: Any) -> None:
    for _ in range(3):
        _, grads = render(200)
        for network in ("proposal_networks.0.", "proposal_networks.1."):
            mine = [g for name, g in grads.items() if name.startswith(network)]
            assert mine and all(g.isfinite().all() for g in mine) and any(g.any() for g in mine)


def test_an_edit_leaves_poses_and_appearance_alone(finished: Any, last_state: Any) -> None:
    run = finished("nerf")
    (path,) = (run.base_dir / "reconstruction").iterdir()
    before = torch.load(path, weights_only=True)["pipeline"]
    after = last_state(run)["pipeline"]
    kept = ["_model.camera_optimizer.pose_adjustment", "_model.field.embedding_appearance.embedding.weight"]
    for name in kept:
        assert torch.equal(before[name], after[name]), name
    assert before[kept[0]].any()  # the reconstruction had moved them
    moved = {
        name.split(".")[1]
        for name in before
        if name not in kept and name != "_extra_state" and not torch.equal(before[name], after[name])
    }
    assert {"field", "proposal_networks"} <= moved


def test_the_view_is_rendered_with_its_own_pose_and_appearance(trainer: EditTrainer, model: EditNerfModel) -> None:
    view = trainer.pipeline.views[3]

    def rendered(index: int) -> Tensor:
        torch.manual_seed(0)
        with torch.no_grad():
            return model.render_edit_view(view.camera, index)[0]

    embedding, poses = model.field.embedding_appearance.embedding.weight, model.camera_optimizer.pose_adjustment
    before = embedding.detach().clone(), poses.detach().clone()
    own, other = rendered(3), rendered(2)
    with torch.no_grad():
        embedding[3] += 1
        poses[2, :3] += 0.1
    try:
        assert not torch.equal(rendered(3), own)
        assert not torch.equal(rendered(2), other)
        with torch.no_grad():
            embedding.copy_(before[0])
        assert torch.equal(rendered(3), own)
    finally:
        with torch.no_grad():
            embedding.copy_(before[0])
            poses.copy_(before[1])
