"""What a gradient that means something does to each number of a scene, and edits that ask for nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.gradient import GuidanceOutput
from pds_nerfstudio.scenes.models.scene_model import Seen
from pds_nerfstudio.scenes.optimizers import EditAdamConfig, EditOptimizers
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.signal import measure_floors
from pds_nerfstudio.scenes.views import SourceView

SIDE = 64


class Painting:
    """A scene that is a picture: its upper half is twice its numbers, its lower half is shown by no view."""

    def __init__(self) -> None:
        self.pixels = nn.Parameter(torch.rand(2 * SIDE, SIDE, 3))

    def see(self, view: SourceView) -> Seen:
        rgb = 2 * self.pixels[:SIDE]
        return Seen(rgb, rgb, {})


class Asking:
    """A guidance whose gradient on a picture is three times as large as that on its latent of four numbers."""

    config = GuidanceConfig(seed=0)

    def image_gradient(self, image: Tensor, source: Tensor, progress: float) -> tuple[Tensor, Any]:
        latent = torch.ones(1, 4)
        return torch.full_like(image, 3.0), GuidanceOutput(
            loss=torch.zeros(()), grad=latent, t=torch.zeros(1), finite=torch.tensor(True), metrics={}, mask=None
        )


@pytest.mark.usefixtures("unchecked")
def test_a_floor_is_the_mean_square_of_what_random_gradients_of_that_size_do() -> None:
    painting = Painting()
    optimizers = EditOptimizers(
        {"all": {"optimizer": EditAdamConfig(lr=0.1, fused=False), "scheduler": None}}, {"all": [painting.pixels]}
    )
    views = [SourceView(k, None, torch.rand(1, 3, SIDE, SIDE), None) for k in range(40)]  # type: ignore[arg-type]
    measure_floors(optimizers, painting, Asking(), views, smallest=0.1, loss_mult=5.0)  # type: ignore[arg-type]
    (floor,) = optimizers._floors["all"]
    # On a pixel: 0.1 of the latent's standard deviation, times 3, times the loss's 5, over 4 numbers, times the 2.
    assert floor[:SIDE].mean().item() == pytest.approx((0.1 * 3 * 5 / 4 * 2) ** 2, rel=0.05)
    assert not floor[SIDE:].any()
    assert painting.pixels.grad is None


def moved(trainer: Any, before: dict[str, Tensor]) -> float:
    colors = trainer.pipeline.model.gauss_params["features_dc"].detach()
    return float((colors[: len(before["features_dc"])] - before["features_dc"]).abs().mean())


def test_an_edit_that_asks_for_nothing_moves_a_scene_less(make_config: Any, prepare: Any) -> None:
    moves = []
    for smallest in (0.0, 0.05, 5.0):
        options = {
            "pipeline__smallest_gradient": smallest,
            "pipeline__guidance__text_weight": 0.0,
            "pipeline__model__edit_refine_every": 0,
            "pipeline__hold_below": 0.0,
            "pipeline__photometric_loss_mult": 0.0,
        }
        trainer = prepare(make_config("splat", f"smallest-{smallest}", steps=3, reconstruct=0, **options))
        before = {name: p.detach().clone() for name, p in trainer.pipeline.model.gauss_params.items()}
        trainer.train()
        moves.append(moved(trainer, before))
    assert moves[0] > 2 * moves[1] > 100 * moves[2] > 0


def test_a_resumed_run_goes_on_above_the_same_floors(
    make_config: Any, run: Any, last_state: Any, differences: Any
) -> None:
    options = {"pipeline__smallest_gradient": 0.05}
    whole = run(make_config("splat", "whole", steps=5, reconstruct=1, **options))
    cut = make_config("splat", "cut", steps=5, reconstruct=1, steps_per_save=3, save_only_latest_checkpoint=False)
    cut.pipeline.smallest_gradient = 0.05
    checkpoints = sorted(run(cut).checkpoint_dir.glob("step-*.ckpt"))
    resumed = run(make_config("splat", "resumed", steps=5, reconstruct=1, load_checkpoint=checkpoints[-2], **options))
    assert not differences(last_state(whole), last_state(resumed))


def test_nerfs_have_floors_too(make_config: Any, run: Any) -> None:
    trainer = run(make_config("nerf", steps=2, reconstruct=1, pipeline__smallest_gradient=0.05))
    floors = [state.get("floor") for state in trainer.optimizers.optimizers["fields"].state.values()]
    assert any(floor is not None and floor.any() for floor in floors)


def test_an_edit_begins_at_rest(make_config: Any, prepare: Any) -> None:
    """Momentum of the reconstruction would go on, with nothing to call it back; Adam's sense of size is kept."""
    trainer = prepare(make_config("splat", steps=1, reconstruct=3, pipeline__model__strewn_gaussians=0))
    for step in range(3):
        trainer.pipeline.model.step_cb(trainer.optimizers, step)
        trainer.train_iteration(step)
    memories = [memory for o in trainer.optimizers.optimizers.values() for memory in o.state.values()]
    sizes = [memory["exp_avg_sq"].clone() for memory in memories]
    assert any(memory["exp_avg"].any() for memory in memories)
    trainer.pipeline.plan = EditPlan(start=3, steps=1)
    trainer.pipeline._before_step(trainer.optimizers, 3)
    assert not any(memory["exp_avg"].any() for memory in memories)
    assert all(torch.equal(memory["exp_avg_sq"], size) for memory, size in zip(memories, sizes, strict=True))
