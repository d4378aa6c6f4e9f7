"""The time left: a pace for each phase, no jump where one ends, and a guess that is called one."""

from collections.abc import Iterator

import pytest

from pds_nerfstudio.scenes.pace import NOTHING_MEASURED, Pace, TimeLeft
from pds_nerfstudio.scenes.plan import EditPlan

PLAN = EditPlan(start=400, steps=400, refine_steps=400)
VIEWS = 32


def run(seconds: dict[str, float], redrawing: float = 0.0) -> Iterator[tuple[int, float, TimeLeft]]:
    """Each next step of a run with its true time left and the estimate."""
    pace = Pace()
    times = [seconds[PLAN.phase(step)] for step in range(PLAN.end)]
    for step, time in enumerate(times):
        pace.add(PLAN.phase(step), time)
        true = sum(times[step + 1 :]) + (redrawing if step < PLAN.refine_start else 0)
        yield step + 1, true, pace.left(PLAN, step + 1, VIEWS)


@pytest.mark.parametrize("unit", [0.02, 2.0])
def test_where_phases_are_as_usual_it_is_right_from_the_first_step(unit: float) -> None:
    usual = {"reconstruct": 0.3 * unit, "edit": unit, "refine": unit}
    for _, true, left in run(usual, redrawing=VIEWS * 3 * unit):
        assert left.seconds == pytest.approx(true, rel=1e-6, abs=1e-9)


def test_where_they_are_not_it_does_not_jump_and_becomes_right() -> None:
    unlike = {"reconstruct": 0.1, "edit": 2.0, "refine": 0.5}
    before: tuple[float, float] | None = None
    for step, true, left in run(unlike, redrawing=150):
        if before is not None:
            elapsed, counted = before[0] - true, before[1] - left.seconds
            assert abs(counted - elapsed) < 0.4 * before[1] + 10, step
        before = true, left.seconds
        if step > PLAN.refine_start + 10:
            assert left.seconds == pytest.approx(true)


def test_what_was_not_measured_is_called_a_guess() -> None:
    guesses = {step: left.guessed for step, _, left in run({"reconstruct": 1.0, "edit": 1.0, "refine": 1.0})}
    assert guesses[1] and guesses[PLAN.start + 1] and guesses[PLAN.refine_start]
    assert not guesses[PLAN.refine_start + 1] and not guesses[PLAN.end]


def test_without_steps_that_refine_nothing_is_redrawn() -> None:
    pace = Pace()
    pace.add("edit", 2.0)
    assert pace.left(EditPlan(0, 10), 4, VIEWS) == TimeLeft(12.0, False)


def test_before_the_first_step_nothing_is_said() -> None:
    assert Pace().left(PLAN, 0, VIEWS) == NOTHING_MEASURED
