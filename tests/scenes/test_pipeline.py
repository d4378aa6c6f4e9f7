"""The pipeline: where a render becomes a loss, and what of it is kept."""

import copy
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.utils.eval_utils import eval_setup

from pds_nerfstudio.guidance.gradient import GuidanceOutput
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes import compat
from pds_nerfstudio.scenes.checkpointing import KeptSource
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.view_rays import ViewRays
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.refining import Refining
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.scenes.views import SourceView, view_at

KINDS = ["splat", "nerf"]


@pytest.fixture
def no_diffusion_model(monkeypatch: pytest.MonkeyPatch, finished: Any) -> None:
    """Nothing may import a library of diffusion models or build the guidance; the runs to look at are there before."""
    for kind in KINDS:
        finished(kind)
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(Guidance, "from_config", lambda *_: pytest.fail("built the guidance"))
    monkeypatch.setattr(Guidance, "__init__", lambda *_: pytest.fail("built the guidance"))


@pytest.mark.parametrize("kind", KINDS)
class TestCheckpoint:
    def test_it_holds_the_scene_and_nothing_of_the_diffusion_model(
        self, kind: str, finished: Any, last_state: Any
    ) -> None:
        state = last_state(finished(kind))
        names = set(state["pipeline"])
        model = {f"_model.{name}" for name in finished(kind).pipeline.model.state_dict()}
        assert names - model <= {"_extra_state", "datamanager.train_camera_optimizer"}
        assert not [name for name in names if "guidance" in name or "unet" in name or "vae" in name]
        extra = state["pipeline"]["_extra_state"]
        assert extra["edit_start"] == 2
        assert set(extra["guidance"]) == {"generator", "masks"}

    def test_it_holds_the_guidances_random_state(self, kind: str, finished: Any, last_state: Any) -> None:
        guidance = finished(kind).pipeline.guidance
        kept = last_state(finished(kind))["pipeline"]["_extra_state"]["guidance"]
        assert torch.equal(kept["generator"], guidance.state_dict()["generator"])

    def test_the_reconstruction_holds_none_yet(self, kind: str, finished: Any) -> None:
        (path,) = (finished(kind).base_dir / "reconstruction").iterdir()
        extra = torch.load(path, weights_only=True)["pipeline"]["_extra_state"]
        assert extra.keys() == {"edit_start", "chance"} and extra["edit_start"] == 2

    @pytest.mark.parametrize("mode", ["test", "inference"])
    def test_it_is_looked_at_without_a_diffusion_model(
        self, kind: str, mode: Any, finished: Any, no_diffusion_model: None
    ) -> None:
        trainer = finished(kind)
        _, pipeline, path, step = eval_setup(trainer.base_dir / "config.yml", test_mode=mode)
        assert isinstance(pipeline, EditPipeline) and pipeline.guidance is None
        assert step == 4 and path.parent == trainer.checkpoint_dir
        ours, theirs = trainer.pipeline.model.state_dict(), pipeline.model.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert pipeline.plan.start == 2

    @pytest.mark.filterwarnings("ignore:LPIPS reads NaN:UserWarning")
    def test_ns_eval_works_on_it(
        self, kind: str, finished: Any, no_diffusion_model: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compat, "_lpips_backbone_available", lambda: False)  # it would be downloaded
        _, pipeline, _, _ = eval_setup(finished(kind).base_dir / "config.yml")
        with torch.no_grad():
            metrics = pipeline.get_average_eval_image_metrics()
        assert torch.tensor(metrics["psnr"]).isfinite()


@pytest.fixture(scope="module", params=KINDS)
def trainer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, config_in: Any, prepare: Any
) -> Iterator[EditTrainer]:
    """A trainer of each kind, ready to edit from step 0."""
    trainer = prepare(config_in(tmp_path_factory.mktemp("edit"), request.param, reconstruct=0, steps=10))
    if request.param == "splat":
        trainer.pipeline.model.step_cb(trainer.optimizers, 0)
    trainer.pipeline._before_step(trainer.optimizers, 0)
    trainer.pipeline.train()
    return trainer


def gradients(trainer: EditTrainer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    trainer.optimizers.zero_grad_all()
    loss.backward()
    model: Any = trainer.pipeline.model
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class TestLoss:
    def test_it_takes_the_views_in_their_order(self, trainer: EditTrainer, watch: Any) -> None:
        pipeline = trainer.pipeline
        for step in range(3):
            pipeline.get_train_loss_dict(step)
        assert watch.keys == [[view_at(k, 9, 0)] for k in range(3)]
        assert watch.progress == [0, 1 / 9, 2 / 9]

    @pytest.mark.parametrize("n", [1, 3])
    def test_the_gradient_is_the_guidances_through_the_render(
        self, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch, n: int
    ) -> None:
        """The pipeline walks the renders' graphs once, by a detour over the images: the gradient must be the same."""
        pipeline = trainer.pipeline
        assert pipeline.guidance is not None
        monkeypatch.setattr(pipeline.config, "views_per_step", n)
        torch.manual_seed(0)
        state = pipeline.guidance.state_dict()
        outputs, losses, _ = pipeline.get_train_loss_dict(1)
        short = gradients(trainer, losses["guidance_loss"])

        torch.manual_seed(0)
        pipeline.guidance.load_state_dict(state)
        views = [pipeline.views[view_at(k, 9, 0)] for k in range(n, 2 * n)]
        renders = [pipeline.model.see(view).rgb for view in views]
        assert torch.equal(renders[-1], outputs["rgb"])
        images, sources = torch.stack(renders).permute(0, 3, 1, 2), torch.cat([view.image for view in views])
        output = pipeline.guidance(images, sources, pipeline.plan.progress(1), keys=[view.index for view in views])
        long = gradients(trainer, output.loss / output.grad.numel())
        assert short.keys() == long.keys() and short
        # Where a gradient is nothing but rounding (turns of a round Gaussian), compare it with the others' size.
        sizes = {name: float(gradient.abs().max()) for name, gradient in long.items()}
        for name in short:
            tolerance = 1e-4 * sizes[name] + 1e-6 * max(sizes.values())
            assert torch.allclose(short[name], long[name], rtol=1e-4, atol=tolerance), name
        assert losses["guidance_loss"].item() == pytest.approx(output.loss.item() / output.grad.numel(), rel=1e-4)

    def test_views_of_several_sizes_are_asked_about_apart(
        self, trainer: EditTrainer, watch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = trainer.pipeline
        first, odd, last = (view_at(k, 9, 0) for k in range(3))
        camera, image = pipeline.views._recent[odd] if odd in pipeline.views._recent else pipeline.views._prepare(odd)
        camera = copy.copy(camera)
        camera.rescale_output_resolution(2 / 3)
        smaller = image[:, : int(camera.height), : int(camera.width)]
        monkeypatch.setitem(pipeline.views._recent, odd, (camera, smaller))
        if pipeline.model.kind == "nerf":  # which knows that a view's camera is always the same
            monkeypatch.setattr(pipeline.model, "_view_rays", ViewRays())
        monkeypatch.setattr(pipeline.config, "views_per_step", 3)
        monkeypatch.setattr(pipeline.config, "photometric_loss_mult", 1.0)
        _, losses, metrics = pipeline.get_train_loss_dict(0)
        assert watch.keys == [[first, last], [odd]]
        assert metrics and all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
        assert gradients(trainer, sum(losses.values(), torch.zeros(())))

    def test_its_weight_multiplies_it(self, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline, values = trainer.pipeline, []
        assert pipeline.guidance is not None
        state = pipeline.guidance.state_dict()
        for weight in (1.0, 3.0):
            torch.manual_seed(0)
            pipeline.guidance.load_state_dict(state)
            monkeypatch.setattr(pipeline.config, "guidance_loss_mult", weight)
            loss = pipeline.get_train_loss_dict(0)[1]["guidance_loss"]
            size = max(float(g.abs().max()) for g in gradients(trainer, loss).values())
            values.append((loss.item(), size))
        assert values[1] == pytest.approx([3 * value for value in values[0]], rel=1e-4)

    def test_the_photometric_loss_is_off_unless_asked_for_and_keeps_to_its_mask(
        self, trainer: EditTrainer, watch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = trainer.pipeline
        monkeypatch.setattr(pipeline.views, "fine_side", 16.0)
        monkeypatch.setattr(pipeline.views, "fine_cameras", pipeline.views.view_cameras)
        monkeypatch.setattr(pipeline.config, "photometric_loss_mult", 0.0)
        assert "photometric_loss" not in pipeline.get_train_loss_dict(0)[1]
        monkeypatch.setattr(pipeline.config, "photometric_loss_mult", 2.0)

        def masked(value: float | None) -> float:
            def answer(_: int, output: GuidanceOutput) -> GuidanceOutput:
                mask = None if value is None else torch.full_like(output.grad[:, :1], value)
                return dataclasses.replace(output, mask=mask)

            watch.after = answer
            torch.manual_seed(0)
            return pipeline.get_train_loss_dict(0)[1]["photometric_loss"].item()

        pipeline._anchor.forget()  # what other tests have taught it
        expected = masked(None)
        assert expected > 0
        if trainer.pipeline.model.kind == "splat":
            index, views = view_at(0, 9, 0), pipeline.views
            part = pipeline._anchor.part(index, 0)
            assert part.rows.stop - part.rows.start < 32  # the view is larger than what a step renders
            whole: Any = trainer.pipeline.model.get_outputs(views.full_size_camera(index))["rgb"]  # type: ignore[attr-defined]
            difference = (whole - views.full_size_image(index)).abs()[part.rows, part.columns]
            assert expected == pytest.approx(2 * difference.sum().item() / whole.numel(), rel=1e-4)
        assert masked(0.25) == pytest.approx(0.75 * expected, rel=2e-3)  # masks are kept in bytes
        assert masked(1.0) == 0

    def test_a_view_no_larger_than_the_guidance_looks_at_is_rendered_once(
        self, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = trainer.pipeline
        if pipeline.model.kind != "splat":
            pytest.skip("NeRFs are held by rays of all views")
        views = pipeline.views
        monkeypatch.setattr(pipeline.config, "photometric_loss_mult", 2.0)
        monkeypatch.setattr(views, "_side", 40)
        monkeypatch.setattr(views, "view_cameras", views.full_size_cameras)
        monkeypatch.setattr(views, "fine_cameras", views.full_size_cameras)
        views._recent.clear()
        assert pipeline.guidance is not None
        pipeline.guidance.reconfigure(localize=0.0)
        try:
            outputs, losses, _ = pipeline.get_train_loss_dict(0)
            source = views[view_at(0, 9, 0)].image[0].permute(1, 2, 0)
            assert outputs["rgb"].shape == (32, 48, 3)
            expected = 2 * (outputs["rgb"] - source).abs().mean().item()
            assert losses["photometric_loss"].item() == pytest.approx(expected, rel=1e-4)
        finally:
            views._recent.clear()
            pipeline.guidance.reconfigure(localize=1.0)

    def test_what_keeps_a_fields_geometry_sound_is_added_to_its_own(
        self, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = trainer.pipeline

        def compare(anchor: Any, step: int, seen: Any) -> Any:
            return [], {name: torch.tensor(7.0) for name in before if name != "guidance_loss"}

        monkeypatch.setattr(pipeline.config, "photometric_loss_mult", 0.0)
        torch.manual_seed(0)
        before = pipeline.get_train_loss_dict(0)[1]
        monkeypatch.setattr(pipeline.config, "photometric_loss_mult", 2.0)
        monkeypatch.setattr(pipeline.model, "compare_with_source", compare)
        monkeypatch.setattr(pipeline._anchor, "distance", lambda pixels: torch.tensor(3.0))
        torch.manual_seed(0)
        after = pipeline.get_train_loss_dict(0)[1]
        assert after["photometric_loss"] == 6
        for name in before.keys() - {"guidance_loss", "photometric_loss"}:
            assert after[name].item() > 6, name

    def test_steps_before_the_plan_reconstruct(self, trainer: EditTrainer, watch: Any) -> None:
        pipeline, plan = trainer.pipeline, trainer.pipeline.plan
        pipeline.plan = EditPlan(start=5, steps=5)
        try:
            _, losses, _ = pipeline.get_train_loss_dict(4)
        finally:
            pipeline.plan = plan
        assert watch.calls == 0 and "guidance_loss" not in losses


class TestRefinement:
    @pytest.fixture
    def refining(self, trainer: EditTrainer, monkeypatch: pytest.MonkeyPatch) -> EditPipeline:
        """A pipeline whose step 0 is the first that refines; it redraws in green."""
        pipeline = trainer.pipeline
        assert pipeline.guidance is not None
        monkeypatch.setattr(pipeline, "plan", EditPlan(start=0, steps=0, refine_steps=40))
        monkeypatch.setattr(pipeline._refining, "_redrawn", RedrawnViews(pipeline.views))
        monkeypatch.setattr(pipeline.config, "refine_rounds", 2)
        monkeypatch.setattr(pipeline._refining, "from_source", False)
        self.asked: list[int] = []
        self.strengths: list[float] = []
        self.denoising_steps: list[int] = []

        def redraw(
            image: torch.Tensor, source: torch.Tensor, config: Any, keys: list[int], unedited: torch.Tensor
        ) -> torch.Tensor:
            assert image.shape == source.shape == unedited.shape and not image.requires_grad
            self.asked += keys
            self.strengths.append(config.strength)
            self.denoising_steps.append(config.denoising_steps)
            return torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand_as(image)

        monkeypatch.setattr(pipeline.guidance, "redraw", redraw)
        return pipeline

    def test_views_are_redrawn_in_their_order_every_other_round(self, refining: EditPipeline) -> None:
        for step in range(27):
            refining.get_train_loss_dict(step)
        order = [view_at(k, 9, 0) for k in range(27)]
        assert self.asked == order[:9] + order[18:]

    def test_they_are_redrawn_with_less_and_less_if_asked_for(
        self, refining: EditPipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refining.get_train_loss_dict(5)
        monkeypatch.setattr(refining._refining, "_final_mult", 0.25)
        monkeypatch.setattr(refining.config, "refine_rounds", 1)
        for step in (0, 20, 39):
            refining.get_train_loss_dict(step)
        first = refining.config.refinement.strength
        assert self.strengths == pytest.approx([first, first, first / 2, first * 0.25 ** (39 / 40)])
        assert self.denoising_steps == [5, 5, 3, 2]  # of about the same length

    def test_from_the_source_all_are_redrawn_first_and_not_in_the_first_round(
        self, refining: EditPipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refining._refining, "from_source", True)
        assert refining.awaits_redrawing(0) and not refining.awaits_redrawing(1)
        refining.redraw_all(0)
        assert self.asked == [*range(9)] and not refining.awaits_redrawing(0)
        for step in range(27):
            refining.get_train_loss_dict(step)
        assert self.asked[9:] == [view_at(k, 9, 0) for k in range(18, 27)]

    def test_a_saved_refinement_holds_its_pictures_until_its_last_step(
        self, refining: EditPipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refining, "_editing", True)
        refining.get_train_loss_dict(0)
        assert list(refining.get_extra_state()["redrawn"]) == [view_at(0, 9, 0)]
        refining.get_train_loss_dict(39)
        assert "redrawn" not in refining.get_extra_state()

    def test_another_edit_forgets_what_was_redrawn(
        self, refining: EditPipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refining.get_train_loss_dict(0)
        assert refining._refining.state_dict()
        monkeypatch.setattr(refining, "plan", EditPlan(start=1, steps=5))
        refining.get_train_loss_dict(1)
        assert not refining._refining.state_dict()

    def test_the_scene_is_fitted_to_what_was_redrawn(
        self, refining: EditPipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fit(view: SourceView, redrawn: RedrawnViews, turn: int) -> dict[str, torch.Tensor]:
            assert view.index in redrawn and view_at(0, 9, 0) in redrawn and turn == 0
            target = redrawn.tile(view.index, turn).target
            assert target.shape == (32, 48, 3)  # as large as the photograph, with what is left of its detail
            assert (target - torch.tensor([0.0, 1.0, 0.0])).abs().mean() < 0.03
            return {"photometric_loss": torch.tensor(7.0)}

        refining.get_train_loss_dict(0)
        monkeypatch.setattr(refining.model, "fit_redrawn", fit)
        _, losses, _ = refining.get_train_loss_dict(3)
        assert losses == {"photometric_loss": 7.0}
        assert refining.last_view is not None and refining.last_view.index == view_at(3, 9, 0)


def test_a_run_edits_and_then_refines_and_a_stopped_one_goes_on_refining(
    make_config: Any, run: Any, watch: Any, last_state: Any
) -> None:
    config = make_config("splat", steps=2, reconstruct=1, pipeline__refine_steps=3, pipeline__guidance__localize=1.0)
    trainer = run(config)
    assert watch.calls == 2 and last_state(trainer)["step"] == 5
    more = make_config("splat", steps=2, pipeline__refine_steps=4, load_dir=trainer.checkpoint_dir)
    resumed = run(more)
    assert watch.calls == 2 and last_state(resumed)["step"] == 6


FROM_SOURCE = {"pipeline__refine_steps": 3, "pipeline__refine_from": "source", "pipeline__refine_rounds": 100}


@pytest.fixture
def redrawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The views that are redrawn, in their order."""
    seen: list[int] = []
    usual = Refining.redraw

    def noted(self: Refining, view: SourceView) -> None:
        seen.append(view.index)
        usual(self, view)

    monkeypatch.setattr(Refining, "redraw", noted)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_refining_from_the_source_begins_with_its_weights_and_fresh_optimisers(
    kind: str, make_config: Any, run: Any, monkeypatch: pytest.MonkeyPatch, redrawn: list[int]
) -> None:
    begun: list[tuple[int, bool, bool]] = []
    usual_step = EditTrainer.train_iteration

    def noted_step(self: EditTrainer, step: int) -> Any:
        source = torch.load(next(self.source_folder.glob("*.ckpt"))) if step > 0 else {"pipeline": {}}
        now = self.pipeline.state_dict()
        weights = [name for name in source["pipeline"] if name.startswith("_model.") and "lpips" not in name]
        same = all(torch.equal(source["pipeline"][name], now[name]) for name in weights)
        fresh = not any(optimizer.state for optimizer in self.optimizers.optimizers.values())
        begun.append((step, bool(weights) and same, fresh))
        return usual_step(self, step)

    monkeypatch.setattr(EditTrainer, "train_iteration", noted_step)
    # An edit of everything would have had its colours fitted by then.
    monkeypatch.setattr("pds_nerfstudio.scenes.refining.recolor", lambda *arguments: False)
    trainer = run(make_config(kind, steps=2, reconstruct=1, **FROM_SOURCE))
    assert redrawn == [*range(len(trainer.pipeline.views))]
    assert [step for step, *_ in begun] == [0, 1, 2, 3, 4, 5]
    assert [anew for _, *anew in begun[2:]] == [[False, False], [True, True], [False, False], [False, False]]


def test_a_stopped_refinement_from_the_source_goes_on_with_its_pictures(
    make_config: Any, run: Any, monkeypatch: pytest.MonkeyPatch, last_state: Any, redrawn: list[int]
) -> None:
    """Also if it was stopped just before its first step."""
    usual_step = EditTrainer.train_iteration

    def stopped_at(step_to_stop: int) -> Any:
        def step_and_stop(self: EditTrainer, step: int) -> Any:
            self.interrupted = self.interrupted or step == step_to_stop
            return usual_step(self, step)

        return step_and_stop

    with monkeypatch.context() as patched:
        patched.setattr(EditTrainer, "train_iteration", stopped_at(2))  # the edit's last step
        before = run(make_config("nerf", "before", steps=2, reconstruct=1, **FROM_SOURCE))
    assert redrawn == [] and last_state(before)["step"] == 2
    with monkeypatch.context() as patched:
        patched.setattr(EditTrainer, "train_iteration", stopped_at(3))  # the first that refines
        amid = run(make_config("nerf", "amid", steps=2, load_dir=before.checkpoint_dir, **FROM_SOURCE))
    n = len(amid.pipeline.views)
    assert redrawn == [*range(n)] and last_state(amid)["step"] == 3
    ended = run(make_config("nerf", "ended", steps=2, load_dir=amid.checkpoint_dir, **FROM_SOURCE))
    assert len(redrawn) == n and last_state(ended)["step"] == 5


def test_without_its_source_a_refinement_begins_with_the_edit(
    make_config: Any, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, last_state: Any
) -> None:
    monkeypatch.setattr(KeptSource, "path", None)
    trainer = run(make_config("nerf", steps=1, reconstruct=1, **FROM_SOURCE))
    assert "refining from the edited scene instead" in " ".join(capsys.readouterr().out.split())
    assert last_state(trainer)["step"] == 4


@pytest.mark.parametrize(("steps", "warned"), [(1, True), (0, False), (300, False)])
def test_few_steps_from_the_source_are_warned_of(
    steps: int, warned: bool, make_config: Any, prepare: Any, capsys: Any
) -> None:
    prepare(make_config("nerf", pipeline__refine_steps=steps, pipeline__refine_from="source"))
    assert ("may be too few" in " ".join(capsys.readouterr().out.split())) == warned


def rates_of(config: Any, run: Any, group: str) -> list[float]:
    """The learning rate of a group at each step of a run."""
    rates: list[float] = []
    usual = EditTrainer.train_iteration

    def noted(self: EditTrainer, step: int) -> Any:
        rates.append(self.optimizers.optimizers[group].param_groups[0]["lr"])
        return usual(self, step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(EditTrainer, "train_iteration", noted)
        run(config)
    return rates


def test_learning_rates_fall_from_the_edits_first_step_to_its_last(make_config: Any, run: Any, watch: Any) -> None:
    config = make_config("splat", steps=3, reconstruct=2, pipeline__lr_mult=0.5, pipeline__lr_final_mult=0.01)
    base = config.optimizers["scales"]["optimizer"].lr
    assert rates_of(config, run, "scales") == pytest.approx([base, base, 0.5 * base, 0.05 * base, 0.005 * base])


@pytest.mark.parametrize(("kind", "group"), [("splat", "scales"), ("nerf", "fields")])
def test_learning_rates_warm_up_when_the_edit_begins_and_not_when_it_resumes(
    kind: str, group: str, make_config: Any, run: Any, watch: Any
) -> None:
    options = {"pipeline__lr_warmup_steps": 4, "pipeline__lr_final_mult": 1.0, "pipeline__refine_steps": 0}
    config = make_config(kind, steps=2, reconstruct=1, **options)
    base = config.optimizers[group]["optimizer"].lr
    assert rates_of(config, run, group) == pytest.approx([base, base / 4, base / 2])
    folder = config.get_base_dir() / "nerfstudio_models"
    more = make_config(kind, "more", steps=6, load_dir=folder, **options)
    assert rates_of(more, run, group) == pytest.approx([base * 3 / 4, base, base, base])


def test_refining_needs_no_warm_up(make_config: Any, run: Any, watch: Any) -> None:
    options = {"pipeline__lr_warmup_steps": 100, "pipeline__refine_lr_mult": 0.5, "pipeline__refine_steps": 1}
    config = make_config("splat", steps=1, reconstruct=0, **options)
    base = config.optimizers["scales"]["optimizer"].lr
    assert rates_of(config, run, "scales") == pytest.approx([base / 100, base / 2])


def test_refining_from_the_source_warms_up(make_config: Any, run: Any) -> None:
    options = {"pipeline__lr_warmup_steps": 4, "pipeline__refine_lr_mult": 0.5, "pipeline__refine_steps": 2}
    config = make_config("nerf", steps=1, reconstruct=0, pipeline__refine_from="source", **options)
    base = config.optimizers["fields"]["optimizer"].lr
    end = config.pipeline.lr_final_mult
    assert rates_of(config, run, "fields") == pytest.approx([base / 4, base / 2 / 4, base * end / 2])


def test_a_resumed_edit_begins_nothing_anew(
    finished: Any, make_config: Any, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pds_nerfstudio.scenes.models.splat import EditSplatModel

    begun: list[bool] = []
    usual = EditSplatModel.begin_edit

    def noted(self: EditSplatModel, first: bool, cameras: Any) -> None:
        begun.append(first)
        usual(self, first, cameras)

    monkeypatch.setattr(EditSplatModel, "begin_edit", noted)
    start = finished("splat")
    points = start.pipeline.model.num_points
    begun.clear()
    resumed = run(make_config("splat", steps=5, load_dir=start.checkpoint_dir))
    assert begun == [False]
    assert resumed.pipeline.model.num_points == points


def test_a_rank_draws_noise_of_its_own_and_the_settings_keep_the_users_seed(
    make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pds_nerfstudio.scenes.pipeline.get_rank", lambda: 2)
    pipeline = prepare(make_config("splat", pipeline__guidance__seed=5)).pipeline
    theirs = pipeline.guidance._draws.generator.initial_seed()
    assert (theirs, pipeline.guidance.config.seed) == (7, 5)
    pipeline.change_settings({"guidance_scale": 3.0})
    assert (pipeline.config.guidance.seed, pipeline.config.guidance.guidance_scale) == (5, 3.0)
