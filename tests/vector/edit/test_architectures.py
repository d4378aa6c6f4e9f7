"""Every architecture edits a drawing: a few steps of each by `pds-svg`, on a canvas of no even size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.cli import SvgEdit, run
from pds_nerfstudio.vector.edit.loop import VectorEditConfig
from pds_nerfstudio.vector.svg.document import Document
from tests.guidance.networks.tiny.families import FAMILIES, named, prompts_for

CANVAS = 53
"""Pixels: a prime number, which no patch divides."""
SVG = b"""<svg viewBox="0 0 37 21"><path d="M8 8C12 6 20 6 24 8L24 19C20 20 12 20 8 19Z" fill="#804020" stroke="black"/>
<circle cx="16" cy="16" r="4" fill="#e0d0c0"/></svg>"""
FLOW_EDIT = FlowEditConfig("flowedit", steps=3)


@pytest.fixture
def edit(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[[str, VectorEditConfig], Path]:
    """Edits a drawing with a model of a kind, and returns the folder of the results."""

    def edited(kind: str, config: VectorEditConfig) -> Path:
        file = tmp_path / "lying.svg"
        file.write_bytes(SVG)
        source, target = prompts_for(kind)
        guidance = GuidanceConfig(model=named(kind, tiny_model), resolution=48, localize=0.5)
        options: dict[str, Any] = dict(output_dir=tmp_path / "out", canvas=CANVAS, device="cpu", save_every=100)
        result = run(SvgEdit(file, source, target, **options, guidance=guidance, edit=config))
        assert result == tmp_path / "out" / "lying" / "final.svg"
        return result.parent

    return edited


def _steps(folder: Path) -> list[dict[str, float]]:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["complete"] and np.isfinite(metrics["psnr_to_source"])
    steps: list[dict[str, float]] = metrics["steps"]
    assert all(np.isfinite([*step.values()]).all() and not step["skipped"] for step in steps)
    return steps


def _shown(picture: Path) -> np.ndarray[Any, Any]:
    with Image.open(picture) as image:
        return np.asarray(image)


def _assert_drawing_moved(folder: Path) -> None:
    before, after = Document(SVG).parameters, Document.read(folder / "final.svg").parameters
    for name in ("points", "colors"):
        moved = (getattr(after, name) - getattr(before, name)).abs().max()
        # A point may go a few units of a drawing of 37×21, and a colour stays between 0 and 1.
        assert 0 < moved < {"points": 5, "colors": 1}[name], name
    was, now = (_shown(folder / f"{name}.png") for name in ("before", "after"))
    assert was.shape == (CANVAS, CANVAS, 3) and (was != now).any()
    assert (folder / "history.gif").stat().st_size > 0 and (folder / "config.json").exists()


@pytest.mark.parametrize("kind", FAMILIES)
def test_three_steps_move_the_drawing(
    kind: str, edit: Callable[[str, VectorEditConfig], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Three of a draft, and three in which the drawing itself follows the guidance."""
    draft = ImageEditConfig(steps=3, latent_lr=1.0, refine_steps=1)
    folder = edit(kind, VectorEditConfig(draft=draft, fit_steps=1, new_paths=0, steps=3))
    guided = [step["gradient_rms"] for step in _steps(folder) if "gradient_rms" in step]
    assert len(guided) == 6 and all(rms > 0 for rms in guided)
    _assert_drawing_moved(folder)
    assert _shown(folder / "draft.png").shape == (CANVAS, CANVAS, 3)
    errors = capfd.readouterr().err
    assert "Traceback" not in errors and "Warning" not in errors, errors


def test_a_flow_edits_the_draft_and_redraws_the_drawing(edit: Callable[[str, VectorEditConfig], Path]) -> None:
    draft = ImageEditConfig(flow_edit=FLOW_EDIT, refine=0)
    refinement = RedrawConfig(flow_edit=FLOW_EDIT)
    config = VectorEditConfig(draft=draft, fit_steps=3, new_paths=0, refine_steps=2, refinement=refinement)
    folder = edit("flux_dev", config)
    steps = _steps(folder)
    drafted, fitted, refined = steps[:3], steps[3:6], steps[6:]
    changes = [step["latent_change_rms"] for step in drafted]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert len(refined) == 2 and all(step["photometric"] > 0 for step in [*fitted, *refined])
    _assert_drawing_moved(folder)
