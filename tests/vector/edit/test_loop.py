"""The edit of a drawing: its stages, what each is given, and what holds the drawing together."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.editing import Guide, StepReport
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.loop import VectorEditConfig, VectorEditLoop
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Towards

guided = partial(VectorEditConfig, fit_steps=0, refine_steps=0)
"""The drawing follows the guidance directly, and no more."""

SVG = b"""<svg viewBox="0 0 32 32"><path d="M8 8C12 6 20 6 24 8L24 24C20 26 12 26 8 24Z" fill="#804020"
stroke="black"/>
<circle cx="16" cy="16" r="4" fill="white"/></svg>"""


def _run(config: VectorEditConfig, guidance: Any) -> tuple[VectorEditor, list[StepReport]]:
    editor = VectorEditor(Document(SVG), 64, config.groups)
    reports: list[StepReport] = []
    loop = VectorEditLoop(editor, guidance, config)
    assert loop.run(reports.append)
    return editor, reports


def _loop(editor: VectorEditor, config: VectorEditConfig) -> VectorEditLoop:
    return VectorEditLoop(editor, Towards(TARGET), config)  # type: ignore[arg-type]


TARGET = SVG.replace(b"#804020", b"#2050c0").replace(b'cx="16" cy="16" r="4"', b'cx="18" cy="15" r="6"')


def test_it_follows_the_guidance() -> None:
    editor, reports = _run(guided(steps=80, points_lr=1.5, colors_lr=0.03), Towards(TARGET))
    assert reports[-1].metrics["distance"] < 0.05 * reports[0].metrics["distance"]
    assert [r.step for r in reports] == list(range(1, 81))
    again = Document(editor.svg())
    assert len(again._drawing.paths) == 2


def test_a_seed_gives_the_same_bits() -> None:
    config = guided(steps=4, background="random", crop=0.7, views=2)
    first, second = (_run(config, Towards(TARGET))[0].svg() for _ in range(2))
    assert first == second
    other = _run(guided(steps=4, background="random", crop=0.7, views=2, seed=1), Towards(TARGET))[0].svg()
    assert first != other


def test_what_the_guidance_is_given() -> None:
    guidance = Towards(TARGET)
    _run(guided(steps=4, views=2), guidance)
    image, source, _, keys = guidance.seen[0]
    assert image.shape == (2, 3, 64, 64) and torch.equal(image, source) and list(keys) == [0, 1]
    assert [progress for _, _, progress, _ in guidance.seen] == [0, 0.25, 0.5, 0.75]
    assert torch.equal(guidance.seen[3][1], source) and not torch.equal(guidance.seen[3][0], source)
    guidance = Towards(TARGET)
    _run(guided(steps=2, crop=0.5), guidance)
    assert guidance.seen[0][3] is None and torch.equal(guidance.seen[0][0], guidance.seen[0][1])


def test_held_groups_stay() -> None:
    editor, _ = _run(guided(steps=5, paths_lr=0, points_lr=0, strokes_lr=0), Towards(TARGET))
    text = editor.svg()
    assert b"M8 8C12 6 20 6 24 8L24 24C20 26 12 26 8 24Z" in text and b'cx="16"' in text and b"#804020" not in text


class Noise(Guidance):
    """A guidance that pulls somewhere else at every step."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, image: Tensor, source_image: Tensor, progress: float, keys: Any = None) -> Any:
        loss = (image * torch.randn(image.shape, generator=self.generator)).sum()
        return SimpleNamespace(loss=loss, finite=torch.tensor(True), metrics={})


def _after_noise(**options: Any) -> tuple[VectorEditor, float]:
    """An editor that starts with a crossed curve, after some steps of noise."""
    config = guided(steps=40, points_lr=3, **options)
    editor = VectorEditor(Document(SVG), 64, config.groups)
    crossed = Document(SVG.replace(b"C12 6 20 6 24 8", b"C16 2 34 18 24 8")).parameters.points
    with torch.no_grad():
        editor.changes["points"] += (crossed - editor.source.points) * 512 / 32
    before = editor.changes["points"].detach().clone()
    VectorEditLoop(editor, Noise(), config).run()  # type: ignore[arg-type]
    return editor, float(before.abs().sum())


def _way(editor: VectorEditor) -> float:
    return float(editor.changes["points"].detach().abs().sum())


def test_changes_go_back_unless_pushed() -> None:
    free, before = _after_noise(stay_near=0, crossing=0)
    held, _ = _after_noise(stay_near=0.1, crossing=0)
    assert _way(held) < 0.5 * min(before, _way(free))


def test_crossed_curves_uncross() -> None:
    free, resisting = (
        float(_after_noise(stay_near=0, crossing=crossing)[0].crossing_loss().detach()) for crossing in (0, 10)
    )
    assert resisting < 0.5 * free


def test_the_rates_fall_to_their_share() -> None:
    editor = VectorEditor(Document(SVG), 64)
    loop = _loop(editor, guided(steps=5, paths_lr=1, final_rate=0.2))
    (guide,), rates = loop.stages, []
    assert isinstance(guide, Guide)
    while loop.done < 5:
        rates.append(guide.descent.optimizer.param_groups[0]["lr"])
        loop.step()
    assert rates == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_a_step_that_is_not_finite_is_skipped() -> None:
    guidance, editor = Towards(TARGET), VectorEditor(Document(SVG), 64)
    guidance.finite = False
    loop = VectorEditLoop(editor, guidance, guided(steps=2))
    assert loop.step().skipped and editor.svg() == SVG


def test_the_stages_come_one_after_another() -> None:
    guidance = Towards(TARGET)
    draft = ImageEditConfig(steps=3, refine=0.1)
    config = VectorEditConfig(draft=draft, fit_steps=4, steps=2, refine_steps=5, refine_rounds=2)
    editor, reports = _run(config, guidance)
    assert [r.step for r in reports] == list(range(1, 15)) and reports[0].steps == 14
    assert guidance.calls == ["latent"] * 3 + ["refine"] + ["image"] * 2 + ["redraw"] * 2
    assert ["photometric" in r.metrics for r in reports] == [False] * 3 + [True] * 4 + [False] * 2 + [True] * 5
    assert editor.svg() != SVG


def test_without_steps_there_is_no_such_stage() -> None:
    guidance = Towards(TARGET)
    _run(VectorEditConfig(fit_steps=0, steps=0, refine_steps=2), guidance)
    assert guidance.calls == ["redraw"] * 2
    guidance = Towards(TARGET)
    _run(VectorEditConfig(draft=ImageEditConfig(steps=2, refine=0), fit_steps=2, steps=0, refine_steps=0), guidance)
    assert guidance.calls == ["latent"] * 2


def test_an_interrupt_leaves_what_there_is() -> None:
    editor = VectorEditor(Document(SVG), 64)
    loop = _loop(editor, guided(steps=100))

    def report(step: StepReport) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    assert not loop.run(report)
    assert loop.done == 3 and editor.svg() != SVG


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"steps": -1},
        {"refine_rounds": 0},
        {"refinement": RedrawConfig(strength=2)},
        {"draft": ImageEditConfig(steps=0)},
        {"views": 0},
        {"points_lr": -1},
        {"stay_near": 1},
        {"final_rate": 0},
        {"crop": 0},
        {"background": "x"},
        {"paths_lr": 0, "points_lr": 0, "colors_lr": 0, "strokes_lr": 0, "gradients_lr": 0},
        {"crossing": float("nan")},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        guided(**change).check()
