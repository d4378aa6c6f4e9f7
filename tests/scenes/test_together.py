"""Views that are edited together: which steps do, with how much noise, and that a stopped run goes on as it would."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.scenes.models import recolor_field
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.refining import Refining
from pds_nerfstudio.scenes.together import TOGETHER, TogetherConfig, together_end
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.scenes.views import view_at

QUICK = replace(TOGETHER, flow_edit=FlowEditConfig(method="flowedit", steps=2), redrawings=20)
TOGETHER_ALONE = {"pipeline__strategy": "together", "pipeline__together": QUICK}
VIEWS = 9


@pytest.mark.parametrize(
    ("strategy", "share", "everything", "first"),
    [
        ("distil", 0.5, False, 5),
        ("distil", 0.5, True, 5),
        ("together", 0.5, False, 12),
        ("both", 0.5, False, 9),
        ("both", 0.01, False, 6),
        ("both", 0.01, True, 12),
    ],
)
def test_which_steps_edit_views_together(strategy: Any, share: float, everything: bool, first: int) -> None:
    plan = EditPlan(start=5, steps=7, refine_steps=4)
    assert together_end(strategy, replace(TOGETHER, share=share), plan, everything) == first


@pytest.mark.parametrize(("steps", "redrawings", "rounds"), [(400, 4, 4), (400, 0, 20), (400, 19, 1), (10, 4, 1)])
def test_views_are_redrawn_so_often(steps: int, redrawings: int, rounds: int) -> None:
    assert replace(TOGETHER, redrawings=redrawings).rounds(steps, views=20) == rounds


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (TogetherConfig(flow_edit=FlowEditConfig()), "--together.flow-edit.method is off: give flowedit"),
        (TogetherConfig(flow_edit=FlowEditConfig("flowedit", steps=0)), "--together.flow-edit.steps is 0"),
        (TogetherConfig(final_mult=0.0), "--together.final-mult is 0.0"),
        (TogetherConfig(redrawings=-1), "--together.redrawings is -1"),
        (TogetherConfig(share=1.5), "--together.share is 1.5"),
        (TogetherConfig(key_views=-1), "--together.key-views is -1"),
    ],
)
def test_what_means_nothing_is_refused_in_the_words_of_the_options(config: TogetherConfig, text: str) -> None:
    with pytest.raises(UserError) as refused:
        config.check()
    refused.value.within("together")
    assert refused.value.on_command_line().startswith(text)


def test_an_unknown_strategy_is_refused(make_config: Any, prepare: Any) -> None:
    with pytest.raises(SystemExit, match="strategy 'apart': choose distil, together, both"):
        prepare(make_config("splat", pipeline__strategy="apart"))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, RedrawConfig]]:
    """What is redrawn, and how, in the order in which that is done."""
    seen: list[tuple[int, RedrawConfig]] = []
    usual = Guidance.redraw

    def noted(self: Guidance, image: Any, source: Any, config: RedrawConfig, keys: Any, unedited: Any) -> Any:
        seen.append((*keys, config))
        return usual(self, image, source, config, keys, unedited)

    monkeypatch.setattr(Guidance, "redraw", noted)
    return seen


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_all_are_redrawn_first_and_then_in_turn_with_less_and_less_noise(
    kind: str, make_config: Any, run: Any, watch: Any, drawn: list[tuple[int, RedrawConfig]], last_state: Any
) -> None:
    trainer = run(make_config(kind, steps=20, reconstruct=1, **TOGETHER_ALONE))
    assert watch.calls == 0, "nothing is distilled"
    turns = [view_at(k, VIEWS, 0) for k in range(VIEWS, 20)]  # in the first round they are as they were drawn first
    assert [index for index, _ in drawn] == [*range(VIEWS), *turns]
    starts = [config.flow_edit.start for _, config in drawn]
    assert starts == pytest.approx([0.9] * VIEWS + [0.9 * 0.15 ** (k / 20) for k in range(VIEWS, 20)])
    assert {config.flow_edit.method for _, config in drawn} == {"flowedit"}
    assert [config.flow_edit.steps for _, config in drawn] == [2] * VIEWS + [1] * len(turns)
    assert "together" not in last_state(trainer)["pipeline"]["_extra_state"], "what was drawn isn't needed any more"


def test_the_scene_comes_to_show_what_was_redrawn(make_config: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def red(self: Guidance, image: torch.Tensor, *others: Any) -> torch.Tensor:
        image = image.clone()
        image[..., : image.shape[-1] // 3] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
        return image  # of which less has changed than what colours alone would be fitted to

    monkeypatch.setattr(Guidance, "redraw", red)
    redness = []
    for name, steps in (("few", 1), ("many", 40)):
        config = make_config("splat", name, steps=steps, reconstruct=1, pipeline__lr_mult=20, **TOGETHER_ALONE)
        pipeline = run(config).pipeline
        rgb = pipeline.model.see(pipeline.views[0]).rgb.detach()
        rgb = rgb[:, : rgb.shape[1] // 3]
        redness.append((rgb[..., 0] - rgb[..., 1:].mean(-1)).mean().item())
    assert redness[1] > redness[0] + 0.1


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_with_key_views_all_are_drawn_first_in_one_edit(
    kind: str,
    make_config: Any,
    run: Any,
    drawn: list[tuple[int, RedrawConfig]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edits: list[tuple[list[int], int]] = []
    usual = Guidance.redraw_together

    def noted(self: Guidance, images: Any, sources: Any, config: Any, keys: Any, views: int) -> Any:
        assert len(images) == len(sources) == VIEWS and config == QUICK.flow_edit
        edits.append((keys, views))
        return usual(self, images, sources, config, keys, views)

    monkeypatch.setattr(Guidance, "redraw_together", noted)
    options = {**TOGETHER_ALONE, "pipeline__together": replace(QUICK, key_views=3)}
    trainer = run(make_config(kind, steps=VIEWS - 1, reconstruct=1, **options))
    ((keys, views),) = edits
    assert keys[:views] == [0, 3, 6] and sorted(keys) == [*range(VIEWS)]
    assert not drawn, "nothing is drawn by itself in the first round"
    assert trainer.pipeline.last_view is not None


def test_key_views_of_a_model_that_sees_one_at_a_time_are_refused(
    make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Denoiser, "attends_across_views", False)
    options = {**TOGETHER_ALONE, "pipeline__together": replace(QUICK, key_views=3)}
    with pytest.raises(SystemExit, match=r"--pipeline\.together\.key-views is 3, and this model can't"):
        prepare(make_config("splat", reconstruct=0, **options))


def test_both_draw_together_first_and_then_distil(
    make_config: Any,
    run: Any,
    watch: Any,
    drawn: list[tuple[int, RedrawConfig]],
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pds_nerfstudio.scenes.refining.recolor", lambda *arguments: False)  # an edit of one thing
    options = {**TOGETHER_ALONE, "pipeline__strategy": "both", "pipeline__together": replace(QUICK, share=0.5)}
    run(make_config("splat", steps=4, reconstruct=1, **options))
    assert [index for index, _ in drawn] == [*range(VIEWS)]
    assert watch.progress == pytest.approx([2 / 3, 1]), "layout is settled: distillation goes on where that leaves off"
    assert capsys.readouterr().out.count("That was the draft of the scene") == 1


@pytest.fixture
def by_night(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is redrawn is drawn darker, all of it."""
    monkeypatch.setattr(Guidance, "redraw", lambda self, image, source, *others: 0.1 + 0.2 * source)


def test_an_edit_of_everything_distils_nothing(make_config: Any, run: Any, watch: Any, by_night: None) -> None:
    options = {**TOGETHER_ALONE, "pipeline__strategy": "both"}
    trainer = run(make_config("splat", steps=6, reconstruct=1, **options))
    assert watch.calls == 0 and trainer.pipeline._everything


def test_nor_does_one_that_is_resumed(
    make_config: Any, run: Any, watch: Any, by_night: None, stopped_after: Any, last_state: Any, differences: Any
) -> None:
    options = {**TOGETHER_ALONE, "pipeline__strategy": "both"}
    whole = run(make_config("splat", "whole", steps=6, reconstruct=1, **options))
    stopped_after(3)
    stopped = run(make_config("splat", "stopped", steps=6, reconstruct=1, **options))
    stopped_after(None)
    ended = run(make_config("splat", "ended", steps=6, load_dir=stopped.checkpoint_dir, **options))
    assert watch.calls == 0
    assert differences(last_state(whole)["pipeline"], last_state(ended)["pipeline"]) == []


def test_but_of_a_nerf_it_distils(
    make_config: Any, run: Any, watch: Any, by_night: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recolor_field, "_STEPS", 2)
    together = replace(QUICK, share=0.5)
    options = {**TOGETHER_ALONE, "pipeline__strategy": "both", "pipeline__together": together}
    trainer = run(make_config("nerf", steps=4, reconstruct=1, **options))
    assert watch.calls == 2 and not trainer.pipeline._everything


@pytest.fixture
def stopped_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Lets runs stop after a step, or not."""
    usual = EditTrainer.train_iteration

    def stop_after(last: int | None) -> None:
        def step_and_stop(self: EditTrainer, step: int) -> Any:
            self.interrupted = self.interrupted or step == last
            return usual(self, step)

        monkeypatch.setattr(EditTrainer, "train_iteration", step_and_stop)

    return stop_after


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_a_stopped_run_ends_as_it_would_have_ended(
    kind: str,
    make_config: Any,
    run: Any,
    stopped_after: Callable[[int | None], None],
    drawn: list[tuple[int, RedrawConfig]],
    last_state: Any,
    differences: Any,
) -> None:
    whole = run(make_config(kind, "whole", steps=12, reconstruct=1, **TOGETHER_ALONE))
    times = len(drawn)
    stopped_after(4)
    stopped = run(make_config(kind, "stopped", steps=12, reconstruct=1, **TOGETHER_ALONE))
    kept = last_state(stopped)["pipeline"]["_extra_state"]["together"]
    assert sorted(kept) == [*range(VIEWS)]
    stopped_after(None)
    ended = run(make_config(kind, "ended", steps=12, load_dir=stopped.checkpoint_dir, **TOGETHER_ALONE))
    assert len(drawn) == 2 * times, "nothing is drawn twice"
    assert differences(last_state(whole)["pipeline"], last_state(ended)["pipeline"]) == []


def test_another_round_is_drawn_anew(make_config: Any, prepare: Any) -> None:
    pipeline = prepare(make_config("splat", steps=20, reconstruct=0, **TOGETHER_ALONE)).pipeline
    together: Refining = pipeline._together
    assert pipeline.awaits_redrawing(0)
    for fitting in (together, pipeline._refining):
        fitting.redraw(pipeline.views[0])
    assert not pipeline.awaits_redrawing(0)
    pipeline.begin_round(5, 10)
    assert pipeline.awaits_redrawing(5) and not together.state_dict()
    assert not pipeline._refining.state_dict(), "or the next refinement would be of the last words"
