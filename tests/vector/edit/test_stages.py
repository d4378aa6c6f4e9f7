"""Each stage of an edit does its part, and gives the guidance what it needs."""

import pytest
import torch
from pds_nerfstudio.vector.edit.stages import Descent, Draft, Fit, Goal, Redrawing, Showing, coarse_to_fine

from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.augmentation import Augmentation
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Towards

SVG = b"""<svg viewBox="0 0 32 32"><path d="M8 8L24 8L24 24L8 24Z" fill="#804020"/>
<circle cx="16" cy="16" r="4" fill="white"/></svg>"""
TARGET = SVG.replace(b"#804020", b"#2050c0").replace(b'cx="16" cy="16" r="4"', b'cx="18" cy="15" r="6"')
RATES = {"paths": 1.5, "points": 0.5, "colors": 0.015, "opacities": 0.0, "strokes": 0.0, "gradients": 0.0}


def _showing(background="white", crop=1.0, views=1):
    return Showing(
        VectorEditor(Document(SVG), 64, ("paths", "points", "colors")), Augmentation(background, crop), views, 0
    )


def _descent(showing, steps, crossing=0.0):
    optimizer = torch.optim.Adam(showing.editor.parameter_groups(RATES))
    return Descent(showing.editor, optimizer, steps, 0.1, crossing)


def test_a_fit_finds_the_drawing_that_a_picture_shows():
    showing = _showing()
    goal = Goal(showing.whole(), Towards(TARGET).goal)
    fit = Fit(showing, _descent(showing, 120), lambda: goal, 120)
    losses = [fit.step(number)["photometric"] for number in range(fit.steps)]
    assert losses[-1] < 1e-2 * losses[0]
    found, wanted = showing.editor.parameters(), Document(TARGET).parameters
    assert (found.colors - wanted.colors).abs().max() < 0.1
    assert (found.points - wanted.points).norm(dim=1).mean() < 0.25


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_halved_pictures_count_twice_as_much_each(share):
    """A plain difference stays what it is when it is halved: from 128 pixels to 64 and to 32."""
    difference = torch.full((1, 3, 128, 128), 0.5)
    assert float(coarse_to_fine(difference, share)) == pytest.approx(0.25 * (1 + 2 * share + 4 * share))
    assert float(coarse_to_fine(difference[..., :63, :63], share)) == pytest.approx(0.25)


def test_only_coarse_pictures_see_what_lies_a_few_pixels_away():
    """Two lone pixels of opposite signs: at full size neither knows of the other."""
    difference = torch.zeros(1, 3, 64, 64)
    difference[..., 31, 31], difference[..., 31, 32] = 1.0, -1.0
    apart = difference.roll(20, -1)
    apart[..., 31, 31], apart[..., 31, 51] = 1.0, 0.0
    assert coarse_to_fine(difference, 0.0) == coarse_to_fine(apart, 0.0)
    assert coarse_to_fine(difference, 1.0) < coarse_to_fine(apart, 1.0)


def test_a_fit_takes_a_new_goal_each_round():
    showing, asked = _showing(), []
    goal = Goal(showing.whole(), Towards(TARGET).goal)
    fit = Fit(showing, _descent(showing, 7), lambda: asked.append(len(asked)) or goal, 7, rounds=3)
    rounds = []
    for number in range(7):
        fit.step(number)
        rounds.append(len(asked))
    assert rounds == [1, 1, 1, 2, 2, 2, 3]


def test_a_draft_edits_the_picture_and_leaves_the_drawing():
    showing, guidance = _showing(views=2), Towards(TARGET)
    draft = Draft(showing, guidance, ImageEditConfig(steps=60, latent_lr=0.05, refine=0.1))
    for number in range(draft.steps):
        assert draft.step(number)["distance"] >= 0
    assert guidance.calls == ["latent"] * 60 + ["refine"]
    goal = draft.goal()
    assert goal.pictures.shape == (2, 3, 64, 64) and (goal.pictures - guidance.goal).abs().mean() < 0.01
    assert all(bool((change == 0).all()) for change in showing.editor.changes.values())
    assert torch.equal(showing.pictures(goal.framings), showing.before(showing.whole()))


@pytest.mark.parametrize("crop, keys", [(1.0, [0, 1]), (0.6, None)])
def test_what_the_model_redraws(crop, keys):
    showing, given = _showing("#f0e0d0", crop, views=2), []

    class Invert(Towards):
        def redraw(self, image, source_image, config, keys=None):
            given.append((image, source_image, config, keys if keys is None else list(keys)))
            return 1 - image

    with torch.no_grad():
        showing.editor.changes["colors"] += 0.2
    config = RedrawConfig(strength=0.3)
    goal = Redrawing(showing, Invert(TARGET), config).goal()
    (image, before, passed, named) = given[0]
    assert passed is config and named == keys
    assert torch.equal(goal.pictures, 1 - image) and not image.requires_grad
    assert torch.equal(image, showing.pictures(goal.framings)) and torch.equal(before, showing.before(goal.framings))
    assert not torch.equal(image, before)
    assert torch.equal(image[0], image[1]) == (crop == 1)


def test_a_descent_keeps_to_what_is_allowed_and_slows_down():
    showing = _showing()
    descent, shares = _descent(showing, 5), []
    for _ in range(5):
        shares.append(descent.share)
        descent.follow(-1e3 * showing.editor.parameters().colors.sum())
    assert shares == pytest.approx([1, 0.775, 0.55, 0.325, 0.1])
    assert showing.editor.parameters().colors.max() <= 1 + 1e-6


def test_curves_that_cross_are_drawn_back_while_descending():
    crossed = SVG.replace(b"M8 8L24 8L24 24L8 24Z", b"M8 8C12 4 20 4 24 8L24 24L8 24Z")
    losses = []
    for crossing in (0.0, 10.0):
        showing = Showing(VectorEditor(Document(crossed), 64, ("points",)), Augmentation("white", 1.0), 1, 0)
        with torch.no_grad():
            showing.editor.changes["points"][2, 1] += 500  # the second handle, far to the other side
        optimizer = torch.optim.SGD(showing.editor.parameter_groups(RATES), lr=1.0)
        descent = Descent(showing.editor, optimizer, 30, 1.0, crossing)
        before = float(showing.editor.crossing_loss().detach())
        for _ in range(30):
            descent.follow(1e-3 * showing.editor.changes["points"].square().sum())
        losses.append(float(showing.editor.crossing_loss().detach()))
    assert before > 0 and losses[1] < losses[0]
