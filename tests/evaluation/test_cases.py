"""Drawn edits are edits, cover what is asked for, and repeat."""

import pytest

from pds_nerfstudio.evaluation.cases import ATTRIBUTE_OF, OF_PHOTOS, PAIR, STYLE, draw_cases
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes

KINDS = list(ATTRIBUTE_OF)


def changed(source: Attributes, target: Attributes) -> set[str]:
    return {name for name in VALUES if getattr(source, name) != getattr(target, name)}


def test_each_changes_the_attribute_of_its_kind() -> None:
    cases = draw_cases(KINDS, 160, seed=3)
    assert [case.kind for case in cases] == KINDS * 20
    for case in cases:
        name = ATTRIBUTE_OF[case.kind]
        assert changed(case.source, case.target) == {name}
        assert case.target.shows(name)
        assert case.source.style == "photo"
        assert case.prompts[0] != case.prompts[1]
    for case in cases:
        if case.kind.startswith("hat"):
            assert (case.target.hat == "none") == (case.kind == "hat removed")
            assert (case.source.hat == "none") == (case.kind == "hat added")


def test_pairs_change_two() -> None:
    cases = draw_cases([PAIR], 60, seed=3)
    both = [changed(case.source, case.target) for case in cases]
    assert all(len(names) == 2 for names in both)
    assert len({frozenset(names) for names in both}) > 10


def test_a_style_changes_nothing_else() -> None:
    for case in draw_cases([STYLE], 20, seed=3):
        assert (case.source.style, case.target.style) == ("photo", "drawing")
        assert changed(case.source, case.target) == {"style"}
        assert "photo" in case.prompts[0]
        assert "drawing" in case.prompts[1]


def test_drawings_change_what_drawings_show() -> None:
    kinds = [kind for kind in KINDS if kind not in OF_PHOTOS]
    cases = draw_cases(kinds, 30, seed=3, style="drawing") + draw_cases([PAIR], 30, seed=3, style="drawing")
    for case in cases:
        assert case.source.style == case.target.style == "drawing"
        assert "photo" not in " ".join(case.prompts)
        assert not changed(case.source, case.target) & {"ground", "sky", "style"}
    for kind in OF_PHOTOS:
        with pytest.raises(ValueError, match=kind):
            draw_cases([kind], 1, seed=3, style="drawing")


def test_a_seed_repeats_and_more_cases_begin_the_same() -> None:
    few, many = draw_cases(KINDS, 10, seed=1), draw_cases(KINDS, 40, seed=1)
    assert few == many[:10]
    assert draw_cases(KINDS, 10, seed=2) != few
    assert len({case.source for case in many}) > 35


def test_cameras_see_the_front() -> None:
    for case in draw_cases(KINDS, 16, seed=0):
        camera = case.camera(32)
        assert len(camera) == 1
        assert (camera.width, camera.height) == (32, 32)
        x, y, z = camera.camera_to_world[0, :, 3].tolist()
        assert y < 0 < z
        assert abs(x) < 2 * abs(y)


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="wings"):
        draw_cases(["wings"], 1, 0)


def test_a_change_of_the_time_of_day_is_said_on_both_sides() -> None:
    for case in draw_cases(["sky"], 20, 3):
        for thing, prompt in zip((case.source, case.target), case.prompts, strict=True):
            assert prompt.endswith({"day": " by day", "sunset": " at sunset", "night": " at night"}[thing.sky])
    for case in draw_cases(["color"], 20, 3):
        assert not any(prompt.endswith(" by day") for prompt in case.prompts)
