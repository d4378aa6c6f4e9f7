"""The loop that pictures, drawings and things of one's own share: what each stage gives, takes, and moves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.editing import Descent, EditLoop, Fit, Goal, Guide, StepReport, coarse_to_fine, redraw
from pds_nerfstudio.guidance.redraw import RedrawConfig


class Panes:
    """Two panes of one colour each, of which a view shows one; a colour stays within 0..1."""

    def __init__(self) -> None:
        self.colors = torch.full((2, 3), 0.5, requires_grad=True)
        self.seen: list[int] = []

    def next_view(self) -> int:
        self.seen.append(len(self.seen) % 2)
        return self.seen[-1]

    def _image(self, color: Tensor) -> Tensor:
        return color[None, :, None, None].expand(1, 3, 8, 8)

    def render(self, view: int) -> Tensor:
        return self._image(self.colors[view])

    def source(self, view: int) -> Tensor:
        return self._image(torch.full((3,), 0.5))

    def keys(self, view: int) -> Sequence[int]:
        return [view]

    @torch.no_grad()
    def project(self) -> None:
        self.colors.clamp_(0, 1)


class Darken:
    """A guidance that wants black, and redraws as white."""

    def __init__(self) -> None:
        self.finite, self.given = True, list[tuple[Any, ...]]()

    def __call__(self, image: Tensor, source: Tensor, progress: float, keys: Sequence[Hashable] | None) -> Any:
        self.given.append((image.detach().clone(), source, progress, keys))
        metrics = {"brightness": image.mean().detach()}
        return SimpleNamespace(loss=image.sum(), finite=torch.tensor(self.finite), metrics=metrics)

    def redraw(self, image: Tensor, source: Tensor, config: RedrawConfig, keys: Sequence[int] | None) -> Tensor:
        self.given.append((image, source, config, keys))
        return torch.ones_like(image)


def descent(panes: Panes, steps: int, rate: float = 0.1, final_rate: float = 1.0) -> Descent[int]:
    return Descent(panes, torch.optim.SGD([panes.colors], lr=rate), steps, final_rate)


class TestGuide:
    def test_what_the_guidance_is_given(self) -> None:
        panes, guidance = Panes(), Darken()
        guide = Guide(descent(panes, 4, rate=1e-3), guidance)
        reports = [guide.step() for _ in range(guide.steps)]
        assert [progress for _, _, progress, _ in guidance.given] == [0, 0.25, 0.5, 0.75]
        assert [keys for *_, keys in guidance.given] == [[0], [1], [0], [1]] and panes.seen == [0, 1, 0, 1]
        (first, source, _, _), _, (third, same, _, _), _ = guidance.given
        assert torch.equal(first, source) and torch.equal(source, same) and bool((third < source).all())
        assert [report.metrics["brightness"] for report in reports] == pytest.approx([0.5, 0.5, 0.436, 0.436])

    def test_a_gradient_that_is_not_finite_is_left_alone(self) -> None:
        panes, guidance = Panes(), Darken()
        guidance.finite = False
        report = Guide(descent(panes, 3), guidance).step()
        assert report == StepReport(1, 3, {"brightness": 0.5}, skipped=True)
        assert bool((panes.colors == 0.5).all()) and panes.colors.grad is None


class TestDescent:
    def test_rates_fall_evenly_to_their_share(self) -> None:
        down = descent(Panes(), 5, rate=0.1, final_rate=0.2)
        rates, shares = [], []
        for _ in range(5):
            rates.append(down.optimizer.param_groups[0]["lr"])
            shares.append(down.share)
            down.follow(down.editable.render(0).mean())
        assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])
        assert shares == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])

    def test_what_is_not_allowed_is_put_back(self) -> None:
        panes = Panes()
        descent(panes, 1, rate=100.0).follow(-panes.colors.sum())
        assert bool((panes.colors == 1).all())

    def test_the_thing_may_add_to_the_gradients_and_have_its_say(self) -> None:
        panes = Panes()

        class Stubborn(Descent[int]):
            def resist(self) -> dict[str, float]:
                assert panes.colors.grad is not None
                panes.colors.grad.zero_()
                return {"resisted": 1.0}

        stubborn = Stubborn(panes, torch.optim.SGD([panes.colors], lr=0.1), 1)
        assert Guide(stubborn, Darken()).step().metrics == {"brightness": 0.5, "resisted": 1.0}
        assert bool((panes.colors == 0.5).all())


class TestFit:
    def test_it_gets_there_and_moves_nothing_else(self) -> None:
        panes = Panes()
        wanted = Goal(1, torch.tensor([0.1, 0.5, 0.9])[None, :, None, None].expand(1, 3, 8, 8))
        fit = Fit(descent(panes, 40, rate=0.3), lambda: wanted)
        errors = [fit.step().metrics["photometric"] for _ in range(fit.steps)]
        assert errors[0] == pytest.approx((0.4**2 + 0.4**2) / 3) and errors[-1] < 1e-4 * errors[0]
        assert panes.colors[1].tolist() == pytest.approx([0.1, 0.5, 0.9], abs=1e-2)
        assert bool((panes.colors[0] == 0.5).all())

    def test_each_round_has_a_goal_of_its_own(self) -> None:
        panes, made = Panes(), list[int]()

        def goal() -> Goal[int]:
            made.append(len(made))
            return Goal(0, torch.ones(1, 3, 8, 8))

        fit, rounds = Fit(descent(panes, 7), goal, rounds=3), []
        for _ in range(7):
            fit.step()
            rounds.append(len(made))
        assert rounds == [1, 1, 1, 2, 2, 2, 3]

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_halved_images_count_twice_as_much_each(self, share: float) -> None:
        """A plain difference stays what it is when it is halved: from 128 pixels to 64 and to 32."""
        difference = torch.full((1, 3, 128, 128), 0.5)
        assert float(coarse_to_fine(difference, share)) == pytest.approx(0.25 * (1 + 2 * share + 4 * share))
        assert float(coarse_to_fine(difference[..., :63, :63], share)) == pytest.approx(0.25)

    def test_only_coarse_images_see_what_lies_a_few_pixels_away(self) -> None:
        """Two lone pixels of opposite signs: at full size neither knows of the other."""
        difference = torch.zeros(1, 3, 64, 64)
        difference[..., 31, 31], difference[..., 31, 32] = 1.0, -1.0
        apart = difference.roll(20, -1)
        apart[..., 31, 31], apart[..., 31, 51] = 1.0, 0.0
        assert coarse_to_fine(difference, 0.0) == coarse_to_fine(apart, 0.0)
        assert coarse_to_fine(difference, 1.0) < coarse_to_fine(apart, 1.0)


def test_redrawing_makes_a_goal_of_the_next_view() -> None:
    panes, guidance, config = Panes(), Darken(), RedrawConfig(strength=0.3)
    with torch.no_grad():
        panes.colors += 0.25
    goal = redraw(panes, guidance, config)  # type: ignore[arg-type]
    ((image, source, passed, keys),) = guidance.given
    assert passed is config and keys == [0] and goal.view == 0 and bool((goal.images == 1).all())
    assert bool((image == 0.75).all()) and bool((source == 0.5).all()) and not goal.images.requires_grad


class Noted:
    """A stage of which nothing is known but what was asked of it."""

    def __init__(self, name: str, steps: int, notes: list[str]) -> None:
        self.name, self.steps, self.notes, self.done = name, steps, notes, 0

    def step(self) -> StepReport:
        self.done += 1
        self.notes.append(f"{self.name}{self.done}")
        return StepReport(self.done, self.steps, {self.name: float(self.done)})

    def finish(self) -> None:
        self.notes.append(f"finish {self.name}")


class Ended(EditLoop):
    """A loop with an end of its own."""

    def __init__(self, notes: list[str], end: Callable[[], None], steps: int = 2) -> None:
        super().__init__([Noted("a", steps, notes)])
        self._end = end

    def finish(self) -> None:
        self._end()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class TestLoop:
    def test_stages_come_one_after_another_and_each_is_finished(self) -> None:
        notes: list[str] = []
        loop, reports = EditLoop([Noted("a", 2, notes), Noted("b", 0, notes), Noted("c", 1, notes)]), list[StepReport]()
        assert loop.run(reports.append) and loop.done == loop.steps == 3
        assert notes == ["a1", "a2", "finish a", "c1", "finish c"]
        assert reports == [StepReport(1, 3, {"a": 1}), StepReport(2, 3, {"a": 2}), StepReport(3, 3, {"c": 1})]

    def test_a_loop_can_be_a_stage(self) -> None:
        notes: list[str] = []
        inner = Ended(notes, lambda: notes.append("end"))
        assert EditLoop([inner, Noted("b", 1, notes)]).run()
        assert notes == ["a1", "a2", "finish a", "end", "b1", "finish b"]

    def test_a_step_too_many_is_an_error(self) -> None:
        loop = EditLoop([Noted("a", 1, [])])
        loop.step()
        with pytest.raises(RuntimeError, match="All steps are taken"):
            loop.step()

    def test_ctrl_c_ends_the_steps_and_finishes_what_there_is(self) -> None:
        notes: list[str] = []
        loop = Ended(notes, lambda: notes.append("end"), steps=5)
        assert not loop.run(lambda report: interrupt() if report.step == 2 else None)
        assert loop.done == 2 and notes == ["a1", "a2", "end"]

    def test_a_second_ctrl_c_leaves_the_end_out(self) -> None:
        notes: list[str] = []
        assert not Ended(notes, interrupt, steps=5).run(interrupt)
        assert notes == ["a1"]

    def test_errors_are_not_hidden(self) -> None:
        class Broken(Noted):
            def step(self) -> StepReport:
                raise ValueError("bug")

        with pytest.raises(ValueError, match="bug"):
            EditLoop([Broken("a", 1, [])]).run()

    def test_a_run_takes_the_steps_that_are_left(self) -> None:
        notes: list[str] = []
        loop = EditLoop([Noted("a", 3, notes)])
        loop.step()
        assert loop.run() and notes == ["a1", "a2", "a3", "finish a"]
