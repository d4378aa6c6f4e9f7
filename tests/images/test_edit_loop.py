"""The edit of pictures follows the guidance, and gives it what it needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.editing import StepReport
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig, ImageEditLoop, picture_guidance
from pds_nerfstudio.images.editor import ImageEditor, ParameterName

from .conftest import KnownGuidance


def edit_loop(pictures: Tensor, guidance: Any, config: ImageEditConfig) -> ImageEditLoop:
    return ImageEditLoop(ImageEditor(pictures, guidance, config.parameters), config)


def run(pictures: Tensor, guidance: KnownGuidance, config: ImageEditConfig) -> tuple[ImageEditor, list[StepReport]]:
    loop, reports = edit_loop(pictures, guidance, config), list[StepReport]()
    assert loop.run(reports.append)
    return loop.editor, reports


@pytest.mark.parametrize("parameters", ["latent", "pixels"])
def test_it_follows_the_guidance(parameters: ParameterName, pictures: Tensor, guidance: KnownGuidance) -> None:
    config = ImageEditConfig(parameters, steps=60, latent_lr=0.03, pixels_lr=0.03, refine=0)
    editor, reports = run(pictures, guidance, config)
    assert [report.step for report in reports] == list(range(1, 61))
    assert reports[-1].metrics["distance"] < 0.1 * reports[0].metrics["distance"]
    target = 0.5 if parameters == "latent" else 0.0
    assert (editor.pictures() - target).abs().mean() < (editor.before - target).abs().mean() / 3


def test_what_the_guidance_is_given(pictures: Tensor, guidance: KnownGuidance) -> None:
    run(pictures, guidance, ImageEditConfig(steps=4))
    assert [progress for _, _, progress, _ in guidance.calls] == [0, 0.25, 0.5, 0.75]
    first, source, _, keys = guidance.calls[0]
    assert torch.equal(first, source) and keys == [0, 1]
    assert torch.equal(guidance.calls[-1][1], source)


def test_the_parameters_go_at_their_rate_and_settle(pictures: Tensor, guidance: KnownGuidance) -> None:
    guidance.goal = -100.0
    loop = edit_loop(pictures, guidance, ImageEditConfig(steps=3, latent_lr=0.1, final_rate=0.5))
    ways = []
    for _ in range(3):
        before = loop.editor.parameter.detach().clone()
        loop.step()
        ways.append(float((before - loop.editor.parameter.detach()).mean()))
    assert ways == pytest.approx([0.1, 0.075, 0.05], rel=1e-2)


def test_a_step_that_is_not_finite_is_skipped(pictures: Tensor, guidance: KnownGuidance) -> None:
    loop = edit_loop(pictures, guidance, ImageEditConfig(steps=2, refine=0.2))
    guidance.finite = False
    assert loop.step().skipped
    assert torch.equal(loop.editor.pictures(), loop.editor.before)
    guidance.finite = True
    assert not loop.step().skipped and not torch.equal(loop.editor.pictures(), loop.editor.before)


def test_an_edit_without_a_finite_step_is_no_edit(pictures: Tensor, guidance: KnownGuidance) -> None:
    guidance.finite = False
    with pytest.raises(UserError, match=r"Nothing was edited: in none of 2 steps.*guidance\.dtype"):
        run(pictures, guidance, ImageEditConfig(steps=2, refine=0.2))


def test_redrawing_at_the_end_is_a_choice(pictures: Tensor, guidance: KnownGuidance) -> None:
    plain, _ = run(pictures, guidance, ImageEditConfig(steps=3, refine=0))
    redrawn, _ = run(pictures, guidance, ImageEditConfig(steps=3, refine=0.2))
    change = redrawn.pictures() - plain.pictures()
    assert torch.allclose(change[:, 0], torch.tensor(0.2), atol=1e-6) and change[:, 1:].abs().max() == 0


def test_the_defaults_are_valid() -> None:
    picture_guidance().check()
    ImageEditConfig().check()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"latent_lr": 0},
        {"pixels_lr": float("nan")},
        {"final_rate": 0},
        {"refine": 1.5},
        {"refine_steps": 0},
        {"refine_scale": -1},
        {"flow_edit": FlowEditConfig("flowedit"), "parameters": "pixels"},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        ImageEditConfig(**change).check()
