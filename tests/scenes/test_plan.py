"""The arithmetic of a run's steps."""

import pytest

from pds_nerfstudio.scenes.plan import EditPlan


def test_steps_before_the_start_reconstruct() -> None:
    plan = EditPlan(start=5, steps=3)
    assert [step for step in range(10) if plan.edits(step)] == [5, 6, 7, 8, 9]
    assert plan.end == 8


@pytest.mark.parametrize(("step", "progress"), [(0, 0.0), (5, 0.0), (6, 0.5), (7, 1.0), (20, 1.0)])
def test_progress_goes_from_the_first_edit_step_to_the_last(step: int, progress: float) -> None:
    assert EditPlan(start=5, steps=3).progress(step) == progress


def test_a_single_step_has_a_progress() -> None:
    assert EditPlan(start=5, steps=1).progress(5) == 0


def test_refining_comes_after_the_edit() -> None:
    plan = EditPlan(start=5, steps=3, refine_steps=2)
    assert plan.end == 10
    assert [step for step in range(12) if plan.refines(step)] == [8, 9, 10, 11]
    assert [step for step in range(12) if plan.begins_to_refine(step)] == [8]
    assert not EditPlan(start=5, steps=3).begins_to_refine(8)
    assert [plan.refine_progress(step) for step in (7, 8, 9)] == [0, 0, 1]
    assert plan.progress(9) == 1
