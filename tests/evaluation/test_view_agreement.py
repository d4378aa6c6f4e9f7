"""Whether views of an edit agree as well as those of the true edit, on the true edit and on what is made of it."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from pds_nerfstudio.evaluation.toyworld import held_out_cameras
from pds_nerfstudio.evaluation.view_agreement import Looks, beside_true_edit, further_around, true_looks
from pds_nerfstudio.scenes.models.look import Look
from pds_nerfstudio.toyworld.geometry import BOUNDS_CENTER, build
from pds_nerfstudio.toyworld.grammar import Attributes, edit
from pds_nerfstudio.toyworld.renderer import Cameras, distance

RAISED = edit(Attributes(), "arms", "raised")
CAMERAS = held_out_cameras(2, 48, 40)


def each(change: Callable[[Look], Look], thing: Attributes = RAISED) -> Looks:
    """What a thing looks like, with a change to each view."""

    def looks(cameras: Cameras) -> Sequence[Look]:
        return [change(look) for look in true_looks(thing, cameras)]

    return looks


def noise(strength: float) -> Callable[[Look], Look]:
    """A change that adds noise to a view, other one to each."""
    rng = torch.Generator().manual_seed(0)
    return lambda look: replace(look, color=look.color + strength * torch.randn(look.color.shape, generator=rng))


def test_the_true_edit_agrees_as_well_as_itself() -> None:
    assert beside_true_edit(RAISED, CAMERAS, each(lambda look: look)) == 1


def test_of_half_the_contrast_half_the_difference_is_left() -> None:
    looks = each(lambda look: replace(look, color=look.color / 2 + 0.25))
    assert beside_true_edit(RAISED, CAMERAS, looks) == pytest.approx(0.5, abs=1e-4)


def test_views_that_are_disturbed_each_by_itself_disagree_the_more() -> None:
    ratios = [beside_true_edit(RAISED, CAMERAS, each(noise(strength))) for strength in (0, 0.01, 0.1)]
    assert all(more > 1.3 * less for less, more in itertools.pairwise(ratios))
    assert ratios[0] == 1


def test_what_all_views_share_is_no_disagreement() -> None:
    looks = each(lambda look: replace(look, color=look.color + 0.1))
    assert beside_true_edit(RAISED, CAMERAS, looks) == pytest.approx(1, abs=1e-4)


def test_another_thing_than_the_true_edit_agrees_too() -> None:
    assert beside_true_edit(RAISED, CAMERAS, each(lambda look: look, Attributes())) == pytest.approx(1, abs=0.1)


def test_the_edit_may_have_coordinates_of_its_own() -> None:
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    shift = torch.tensor([0.5, -2.0, 1.0])

    def moved(look: Look) -> Look:
        pose = look.camera_to_world
        pose = torch.cat([turn @ pose[:, :3], 0.3 * (turn @ pose[:, 3:] + shift[:, None])], 1)
        return replace(look, camera_to_world=pose, depth=0.3 * look.depth)

    assert beside_true_edit(RAISED, CAMERAS, each(moved)) == pytest.approx(1, abs=1e-3)


def test_both_scenes_count_the_same_pixels() -> None:
    def half(look: Look) -> Look:
        """Half of the view is to be looked through."""
        opacity = look.opacity.clone()
        opacity[:, :24] = 0
        return replace(look, opacity=opacity)

    assert beside_true_edit(RAISED, CAMERAS, each(half)) == 1


def test_of_what_nothing_is_seen_there_is_no_number() -> None:
    glass = each(lambda look: replace(look, opacity=torch.zeros_like(look.opacity)))
    assert math.isnan(beside_true_edit(RAISED, CAMERAS, glass))


def test_neighbours_are_ten_degrees_further_around() -> None:
    center = torch.tensor(BOUNDS_CENTER)
    was, now = (cameras.camera_to_world[:, :, 3] - center for cameras in (CAMERAS, further_around(CAMERAS)))
    torch.testing.assert_close(was[:, 2], now[:, 2])
    torch.testing.assert_close(was.norm(dim=1), now.norm(dim=1))
    angles = [torch.atan2(at[:, 1], at[:, 0]).rad2deg() for at in (was, now)]
    torch.testing.assert_close((angles[1] - angles[0]) % 360, torch.full((2,), 10.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(further_around(CAMERAS).camera_to_world[:, :, 2], normalize(now))  # looks at it


def test_true_looks_show_points_of_the_thing_and_of_the_ground() -> None:
    solids = build([RAISED])
    for look in true_looks(RAISED, CAMERAS):
        points = look.points()[look.opacity == 1]
        off = torch.minimum(distance(points[None], solids.cones, solids.boxes)[0].abs(), points[:, 2].abs())
        assert off.max() < 0.015
        assert 0.5 < (look.opacity == 1).float().mean() < 1  # the rest is sky
