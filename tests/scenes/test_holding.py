"""What the prompts ask no change of keeps every bit, by default where the guidance localises."""

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.live.session import Request
from pds_nerfstudio.scenes.trainer import EditTrainer
from tests.scenes.splats import BOX, GROWING, numbers, splat

LOCAL = {
    "pipeline__guidance__localize": 1.0,
    "pipeline__hold_below": 0.5,
    "pipeline__model__strewn_gaussians": 200,
}
BUSY = {**GROWING, "pipeline__model__edit_cull_alpha_thresh": 0.0}


def same(one: dict[str, Tensor], other: dict[str, Tensor], which: Any = slice(None)) -> dict[str, bool]:
    return {name: torch.equal(values[which], other[name][which]) for name, values in one.items()}


class Looks:
    """For what the model was asked, once a view."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    @property
    def count(self) -> int:
        return len(self.targets)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """In place of what the model sees: a dog is asked for on the left, a horse on the right, night everywhere."""
    seen = Looks()

    def look(self: Guidance, image: Tensor, looks: int, seed: int, keys: Any = None, batch: int = 1) -> Tensor:
        assert self.prompts is not None and batch == 1
        (target,) = self.prompts[1]
        seen.targets.append(target)
        left = (torch.arange(20) < 10).float().expand(1, 1, 14, 20)
        return {"a dog": left, "a horse": 1 - left, "night": torch.ones_like(left), "nothing": 0 * left}[target]

    monkeypatch.setattr(Guidance, "look", look)
    return seen


def asking(trainer: EditTrainer, watch: Any, asked: dict[int, list[Request]]) -> None:
    """Train, and ask while certain calls of the guidance are made."""

    def ask(call: int) -> None:
        for request in asked.get(call, []):
            trainer.session.ask(request)

    watch.progress.clear()
    watch.before = ask
    trainer.train()


class TestWhatTheEditIsNotAbout:
    def test_it_keeps_every_bit_and_the_rest_is_edited(self, make_config: Any, prepare: Any, looks: Looks) -> None:
        trainer = prepare(make_config("splat", steps=6, reconstruct=0, **LOCAL, **BUSY))
        model = splat(trainer)
        before = numbers(model)
        trainer.train()
        assert looks.count == 9  # once a view
        assert model.free is not None and len(model.free) > 260  # it has grown, at the end
        held = ~model.free[:200]
        assert 20 < held.sum() < 180 and model.free[200:].all()
        assert all(same(numbers(model, slice(200)), before, held).values())
        edited = same(numbers(model, slice(200)), before, ~held)
        assert not edited["means"] and not edited["features_dc"] and not edited["opacities"]

    def test_nothing_is_strewn_there(self, make_config: Any, prepare: Any, looks: Looks) -> None:
        trainer = prepare(make_config("splat", reconstruct=0, **LOCAL))
        model = splat(trainer)
        model.step_cb(trainer.optimizers, 0)
        trainer.pipeline._before_step(trainer.optimizers, 0)
        assert model.free is not None
        assert 200 < model.num_points < 400 and model.free[200:].all()

    def test_it_is_shown(self, make_config: Any, run: Any, looks: Looks) -> None:
        """A picture beside the results: the sources above what may change."""
        trainer = run(make_config("splat", steps=1, reconstruct=0, **LOCAL))
        with Image.open(trainer.base_dir / "may_change.jpg") as picture:
            assert picture.width == 6 * 256 and picture.height > 2 * 256

    def test_a_run_cut_short_goes_on_with_it_and_looks_no_more(
        self, make_config: Any, run: Any, last_state: Any, differences: Any, looks: Looks
    ) -> None:
        options = {**LOCAL, **BUSY, "reconstruct": 1}
        whole = run(make_config("splat", "whole", steps=6, **options))
        first = run(
            make_config("splat", "first", steps=6, steps_per_save=4, save_only_latest_checkpoint=False, **options)
        )
        cut = next(path for path in first.checkpoint_dir.glob("step-*.ckpt") if "4" in path.stem)
        count = looks.count
        second = run(make_config("splat", "second", steps=6, load_checkpoint=cut, **options))
        assert looks.count == count
        assert not differences(last_state(whole)["pipeline"], last_state(second)["pipeline"])

    def test_the_noise_of_an_edit_is_what_it_would_be(self, make_config: Any, run: Any, last_state: Any) -> None:
        """Looking draws numbers of its own."""
        states = [
            last_state(run(make_config("splat", f"{below}", **{**LOCAL, "pipeline__hold_below": below})))["pipeline"]
            for below in (0.0, 0.5)
        ]
        one, other = (state["_extra_state"]["guidance"]["generator"] for state in states)
        assert torch.equal(one, other)


class TestWhatHoldsNothing:
    @pytest.mark.parametrize(
        "options",
        [{"pipeline__guidance__localize": 0.0}, {"pipeline__hold_below": 0.0}],
    )
    def test_options(self, options: dict[str, Any], make_config: Any, run: Any, looks: Looks) -> None:
        trainer = run(make_config("splat", steps=1, reconstruct=0, **{**LOCAL, **options}))
        assert splat(trainer).free is None and looks.count == 0
        assert not (trainer.base_dir / "may_change.jpg").exists()

    def test_an_edit_of_everything(self, make_config: Any, run: Any, looks: Looks) -> None:
        options = {"pipeline__tgt_prompt": "night", "pipeline__model__edit_refine_every": 0, **LOCAL}
        trainer = run(make_config("splat", steps=1, reconstruct=0, **options))
        assert looks.count == 9 and splat(trainer).free is None and splat(trainer).num_points == 400

    def test_a_nerf(self, make_config: Any, run: Any, looks: Looks) -> None:
        run(make_config("nerf", steps=1, reconstruct=0, pipeline__guidance__localize=1.0))
        assert looks.count == 0

    def test_an_edit_that_held_nothing_when_it_was_cut_short(self, make_config: Any, run: Any, looks: Looks) -> None:
        first = run(make_config("splat", "first", steps=1, reconstruct=0, **{**LOCAL, "pipeline__hold_below": 0.0}))
        second = run(make_config("splat", "second", steps=2, load_dir=first.checkpoint_dir, **LOCAL))
        assert looks.count == 0 and splat(second).free is None


@pytest.mark.parametrize("method", ["splat", "nerf"])
def test_nothing_is_made_to_grow_from_until_something_is_asked_for(
    method: str, make_config: Any, prepare: Any, looks: Looks
) -> None:
    options = {"pipeline__guidance__text_weight": 0.0, "pipeline__hold_below": 0.0}
    pipeline = (trainer := prepare(make_config(method, reconstruct=0, steps=3, **options))).pipeline
    if method == "splat":
        pipeline.model.step_cb(trainer.optimizers, 0)
    before = {name: value.clone() for name, value in pipeline.model.state_dict().items()}
    pipeline._before_step(trainer.optimizers, 0)
    after = pipeline.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    pipeline.change_settings({"text_weight": 1.0})
    pipeline._before_step(trainer.optimizers, 1)
    grown = pipeline.model.state_dict()
    assert any(
        grown[name].shape != value.shape or not torch.equal(grown[name], value) for name, value in before.items()
    )


class TestWhatHoldsEverything:
    @pytest.mark.parametrize(
        "options",
        [
            {"pipeline__guidance__text_weight": 0.0},
            {"pipeline__tgt_prompt": "nothing"},
            {"pipeline__tgt_prompt": "a cat"},
        ],
    )
    @pytest.mark.filterwarnings("ignore:The source and target prompts are equal:UserWarning")
    def test_prompts_that_ask_for_nothing(
        self, options: dict[str, Any], make_config: Any, prepare: Any, looks: Looks
    ) -> None:
        trainer = prepare(
            make_config("splat", steps=5, reconstruct=0, pipeline__refine_steps=2, **LOCAL, **BUSY, **options)
        )
        before = numbers(splat(trainer))
        trainer.train()
        assert all(same(before, numbers(splat(trainer))).values())

    def test_a_selection_that_the_prompts_ask_nothing_of(self, make_config: Any, run: Any, looks: Looks) -> None:
        trainer = run(make_config("splat", steps=1, reconstruct=0, pipeline__tgt_prompt="nothing", **LOCAL, **BOX))
        free = splat(trainer).free
        assert free is not None and not free.any()


def test_both_the_user_and_the_prompts_have_to_let_it_change(make_config: Any, prepare: Any, looks: Looks) -> None:
    chosen: dict[str, Tensor] = {}
    ways: dict[str, dict[str, Any]] = {
        "box": {**BOX, "pipeline__hold_below": 0.0},
        "prompts": {},
        "both": BOX,
    }
    for name, options in ways.items():
        trainer = prepare(make_config("splat", name, reconstruct=0, **{**LOCAL, **options}))
        splat(trainer).step_cb(trainer.optimizers, 0)
        trainer.pipeline._before_step(trainer.optimizers, 0)
        free = splat(trainer).free
        assert free is not None
        chosen[name] = free[:200]
    assert torch.equal(chosen["both"], chosen["box"] & chosen["prompts"])
    assert chosen["both"].any() and not torch.equal(chosen["both"], chosen["box"])


class TestNewWords:
    @pytest.mark.parametrize("strewn", [0, 200])
    def test_they_let_change_what_they_are_about_beside_what_has_changed(
        self, strewn: int, make_config: Any, prepare: Any, watch: Any, looks: Looks
    ) -> None:
        options = {**LOCAL, "pipeline__model__strewn_gaussians": strewn, "pipeline__model__edit_refine_every": 0}
        trainer = prepare(make_config("splat", steps=6, reconstruct=0, **options))
        model, seen = splat(trainer), list[Tensor | None]()

        def remember(call: int, output: Any) -> Any:
            seen.append(None if model.free is None else model.free[:200].clone())
            return output

        watch.after = remember
        before = numbers(model)
        asking(trainer, watch, {2: [Request("edit", {"tgt_prompt": "a horse"})]})
        assert looks.targets == ["a dog"] * 9 + ["a horse"] * 9
        first, third, fourth, last = seen[0], seen[2], seen[3], seen[-1]
        assert first is not None and third is not None and fourth is not None and last is not None
        assert torch.equal(third, first) and torch.equal(fourth, last)
        assert (last | first).equal(last) and last.sum() > first.sum()
        newly = last & ~first
        assert not torch.equal(before["means"][newly], model.means.detach()[:200][newly])

    def test_after_an_undo_only_they_count(self, make_config: Any, prepare: Any, watch: Any, looks: Looks) -> None:
        bare = {**LOCAL, "pipeline__model__strewn_gaussians": 0}  # others would be strewn, and hide others
        trainer = prepare(make_config("splat", steps=3, reconstruct=1, **bare))
        model = splat(trainer)
        again = [Request("undo"), Request("edit", {"tgt_prompt": "a horse"})]
        asking(trainer, watch, {1: again})
        other = prepare(make_config("splat", "other", steps=3, reconstruct=1, **bare, pipeline__tgt_prompt="a horse"))
        other.train()
        free, expected = model.free, splat(other).free
        assert free is not None and expected is not None
        assert torch.equal(free, expected)

    def test_other_settings_are_no_other_edit(self, make_config: Any, prepare: Any, watch: Any, looks: Looks) -> None:
        trainer = prepare(make_config("splat", steps=3, reconstruct=0, **LOCAL))
        asking(trainer, watch, {1: [Request("set", {"guidance_scale": 3.0, "identity_weight": 0.5})]})
        assert looks.count == 9

    def test_a_run_resumed_with_others_looks_again(self, make_config: Any, run: Any, looks: Looks) -> None:
        first = run(make_config("splat", "first", steps=2, reconstruct=0, **LOCAL))
        second = run(
            make_config(
                "splat", "second", steps=3, load_dir=first.checkpoint_dir, pipeline__tgt_prompt="a horse", **LOCAL
            )
        )
        assert looks.targets == ["a dog"] * 9 + ["a horse"] * 9
        more, less = splat(second).free, splat(first).free
        assert more is not None and less is not None
        assert more.sum() > less.sum()


def test_refining_from_the_source_holds_it_anew(make_config: Any, run: Any, looks: Looks) -> None:
    """By what the model has said of the views before."""
    options = {"pipeline__refine_steps": 2, "pipeline__refine_from": "source"}
    trainer = run(make_config("splat", steps=2, reconstruct=1, **LOCAL, **options))
    free = splat(trainer).free
    assert looks.count == 9 and free is not None and len(free) == splat(trainer).num_points
    assert 0 < free.sum() < len(free)
