"""pds-nerf's model: whole images with gradients, chunk by chunk, and what an edit must leave alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from pds_nerfstudio.scenes import nerf
from pds_nerfstudio.scenes.nerf import EditNerfModel
from pds_nerfstudio.scenes.trainer import EditTrainer


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, config_in: Any, prepare: Any) -> EditTrainer:
    """Ready to edit, and in training mode."""
    trainer = prepare(config_in(tmp_path_factory.mktemp("nerf"), "nerf", reconstruct=0))
    trainer.pipeline.train()
    trainer.pipeline.model.begin_edit(first=True, cameras=trainer.pipeline.views.cameras)
    return trainer


@pytest.fixture
def render(trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[dict, dict]]:
    """Renders a view in chunks of so many rays; returns values and all parameters' gradients of a random loss."""

    def rendered(rays_per_chunk: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        model, view = trainer.pipeline.model, trainer.pipeline.views[3]
        assert isinstance(model, EditNerfModel)
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


def test_chunks_make_no_difference(trainer: EditTrainer, render: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Random sample positions off: which ray gets which depends on the chunks.
    sampler = trainer.pipeline.model.proposal_sampler
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


def test_one_chunks_activations_are_held_at_a_time(
    trainer: EditTrainer, render: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So memory does not grow with the image, neither before the backward pass nor during it."""
    model = trainer.pipeline.model
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


def test_the_view_is_rendered_with_its_own_pose_and_appearance(trainer: EditTrainer) -> None:
    model, view = trainer.pipeline.model, trainer.pipeline.views[3]

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
