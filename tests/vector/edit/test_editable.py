"""A drawing as an editable thing: what is seen of it, how it follows a loss, and its draft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.editing import Fit, Goal, redraw
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.augmentation import Augmentation
from pds_nerfstudio.vector.edit.editable import Draft, DrawingDescent, FramedDrawing
from pds_nerfstudio.vector.edit.editor import ParameterGroup, VectorEditor
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Towards

SVG = b"""<svg viewBox="0 0 32 32"><path d="M8 8L24 8L24 24L8 24Z" fill="#804020"/>
<circle cx="16" cy="16" r="4" fill="white"/></svg>"""
TARGET = SVG.replace(b"#804020", b"#2050c0").replace(b'cx="16" cy="16" r="4"', b'cx="18" cy="15" r="6"')
RATES: dict[ParameterGroup, float] = {"paths": 1.5, "points": 0.5, "colors": 0.015}


def drawing(
    background: str = "white",
    crop: float = 1.0,
    views: int = 1,
    svg: bytes = SVG,
    groups: Sequence[ParameterGroup] = tuple(RATES),
) -> FramedDrawing:
    return FramedDrawing(VectorEditor(Document(svg), 64, groups), Augmentation(background, crop), views, seed=0)


def descent(of: FramedDrawing, steps: int, **options: float) -> DrawingDescent:
    optimizer = torch.optim.Adam(of.editor.parameter_groups(RATES))
    return DrawingDescent(of, optimizer, steps, 0.1, **{"crossing": 0.0, **options})


def test_a_fit_finds_the_drawing_that_a_picture_shows() -> None:
    shown = drawing()
    goal = Goal(shown.whole(), Towards(TARGET).goal)
    fit = Fit(descent(shown, 120), lambda: goal)
    losses = [fit.step().metrics["photometric"] for _ in range(fit.steps)]
    assert losses[-1] < 1e-2 * losses[0]
    found, wanted = shown.editor.parameters(), Document(TARGET).parameters
    assert (found.colors - wanted.colors).abs().max() < 0.1
    assert (found.points - wanted.points).norm(dim=1).mean() < 0.25


def test_a_draft_edits_the_picture_and_leaves_the_drawing() -> None:
    shown, guidance = drawing(views=2), Towards(TARGET)
    draft = Draft(shown, guidance, ImageEditConfig(steps=60, latent_lr=0.05, refine=0.1))  # type: ignore[arg-type]
    assert draft.run(lambda report: None)
    assert guidance.calls == ["latent"] * 60 + ["refine"]
    goal = draft.goal()
    assert goal.images.shape == (2, 3, 64, 64) and (goal.images - guidance.goal).abs().mean() < 0.01
    assert all(bool((change == 0).all()) for change in shown.editor.changes.values())
    assert torch.equal(shown.render(goal.view), shown.source(shown.whole()))


@pytest.mark.parametrize(("crop", "keys"), [(1.0, [0, 1]), (0.6, None)])
def test_what_the_model_redraws(crop: float, keys: list[int] | None) -> None:
    shown, given = drawing("#f0e0d0", crop, views=2), list[tuple[Any, ...]]()

    class Invert(Towards):
        def redraw(
            self, image: Tensor, source_image: Tensor, config: Any, keys: Any = None, unedited: Any = None
        ) -> Tensor:
            given.append((image, source_image, config, keys if keys is None else list(keys)))
            return 1 - image

    with torch.no_grad():
        shown.editor.changes["colors"] += 0.2
    config = RedrawConfig(strength=0.3)
    goal = redraw(shown, Invert(TARGET), config)  # type: ignore[arg-type]
    (image, before, passed, named) = given[0]
    assert passed is config and named == keys
    assert torch.equal(goal.images, 1 - image) and not image.requires_grad
    assert torch.equal(image, shown.render(goal.view)) and torch.equal(before, shown.source(goal.view))
    assert not torch.equal(image, before)
    assert torch.equal(image[0], image[1]) == (crop == 1)


def test_a_descent_keeps_to_what_is_allowed() -> None:
    shown = drawing()
    down = descent(shown, 5)
    for _ in range(5):
        down.follow(-1e3 * shown.editor.parameters().colors.sum())
    assert shown.editor.parameters().colors.max() <= 1 + 1e-6


def test_changes_go_back_by_a_share_that_falls_with_the_rates() -> None:
    shown = drawing(groups=("points",))
    change = shown.editor.changes["points"]
    down = descent(shown, 2, stay_near=0.5)
    ways = []
    for _ in range(2):
        with torch.no_grad():
            change.fill_(100.0)
        down.follow(0 * change.sum())
        ways.append(float(change.detach().mean()))
    assert ways == pytest.approx([100 * (1 - 0.5 * 0.1)] * 2)


def test_curves_that_cross_are_drawn_back_while_descending() -> None:
    crossed = SVG.replace(b"M8 8L24 8L24 24L8 24Z", b"M8 8C12 4 20 4 24 8L24 24L8 24Z")
    losses = []
    for crossing in (0.0, 10.0):
        shown = drawing(svg=crossed, groups=("points",))
        with torch.no_grad():
            shown.editor.changes["points"][2, 1] += 500  # the second handle, far to the other side
        optimizer = torch.optim.SGD(shown.editor.parameter_groups(RATES), lr=1.0)
        down = DrawingDescent(shown, optimizer, 30, 1.0, crossing)
        before = float(shown.editor.crossing_loss().detach())
        metrics = [down.follow(1e-3 * shown.editor.changes["points"].square().sum()) for _ in range(30)]
        assert metrics[0] == {"crossing": pytest.approx(before)}
        losses.append(float(shown.editor.crossing_loss().detach()))
    assert before > 0 and losses[1] < losses[0]
