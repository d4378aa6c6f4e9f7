"""Every architecture edits a scene: a few steps of each by the method's own trainer, over views of no even size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes
from tests.guidance.networks.tiny.families import FAMILIES, named, prompts_for

WIDTH, HEIGHT = 27, 45
"""Pixels of a view: odd, and upright."""


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a man in a meadow, in upright views."""
    folder = tmp_path_factory.mktemp("scenes") / "upright"
    for _ in write_scene(folder, Attributes(), Attributes(arms="raised"), 5, WIDTH, HEIGHT, seed_points=100):
        pass
    return folder


@pytest.fixture
def edit(upright: Path, make_config: Any, run: Any, tiny_model: Callable[[str], Path]) -> Callable[..., EditTrainer]:
    """Edits it in three steps with a model of a kind, after one that reconstructs it."""

    def edited(kind: str, **options: Any) -> EditTrainer:
        source, target = prompts_for(kind)
        given = {
            "data": upright,
            "pipeline__datamanager__data": upright,
            "pipeline__guidance__model": named(kind, tiny_model),
            "pipeline__guidance__resolution": 64,
            "pipeline__model__strewn_gaussians": 0,
            "pipeline__guidance__localize": 0.5,
            "pipeline__src_prompt": source,
            "pipeline__tgt_prompt": target,
        }
        trainer: EditTrainer = run(make_config("splat", steps=3, reconstruct=1, **{**given, **options}))
        return trainer

    return edited


def _moments(trainer: EditTrainer) -> list[dict[str, float]]:
    """What the run has written down of each step."""
    lines = (trainer.base_dir / "history" / "steps.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _gaussians(checkpoint: Path) -> dict[str, Tensor]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["pipeline"]
    return {name.rpartition(".")[2]: x for name, x in state.items() if ".gauss_params." in name}


@pytest.mark.parametrize("kind", FAMILIES)
def test_three_steps_move_the_scene(
    kind: str, edit: Callable[..., EditTrainer], capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = edit(kind)
    moments = _moments(trainer)
    assert [moment["step"] for moment in moments] == [1, 2, 3]
    assert torch.tensor([moment["loss"] for moment in moments]).isfinite().all()
    rms = torch.tensor([moment["gradient_rms"] for moment in moments])
    assert rms.isfinite().all() and (rms > 0).all()

    (before,) = (trainer.base_dir / "reconstruction").iterdir()
    (after,) = trainer.checkpoint_dir.iterdir()
    old, new = _gaussians(before), _gaussians(after)
    assert all(x.isfinite().all() for x in new.values())
    for name in ("means", "scales", "opacities", "features_dc"):
        # Adam moves what is seen by about its rate in each step, however large or small the gradient is.
        rate = trainer.optimizers.config[name]["optimizer"].lr
        assert 0 < (new[name] - old[name]).abs().max() < 10 * rate, name
    errors = capfd.readouterr().err
    assert "Traceback" not in errors and "Warning" not in errors, errors


def test_a_scene_edited_by_an_instruction_is_given_another_without_a_source_prompt(
    edit: Callable[..., EditTrainer],
) -> None:
    pipeline = edit("sd_ip2p").pipeline
    pipeline.change_settings({"tgt_prompt": "a drawing of a dog"})
    assert pipeline.guidance is not None and pipeline.guidance.prompts == ([""], ["a drawing of a dog"])
    with pytest.raises(UserError, match="target prompt is empty"):
        pipeline.change_settings({"tgt_prompt": ""})


def test_views_are_redrawn_by_a_flow_and_the_scene_is_fitted_to_them(
    edit: Callable[..., EditTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    redrawn: list[tuple[Tensor, Tensor]] = []
    redraw = Guidance.redraw

    def watched(self: Guidance, image: Tensor, *arguments: Any) -> Tensor:
        redrawn.append((image, redraw(self, image, *arguments)))
        return redrawn[-1][1]

    monkeypatch.setattr(Guidance, "redraw", watched)
    refinement = RedrawConfig(flow_edit=FlowEditConfig("flowedit", steps=3))
    trainer = edit("flux_dev", pipeline__refine_steps=3, pipeline__refinement=refinement, show_edit=True)
    assert len(redrawn) == 3
    for render, picture in redrawn:
        assert picture.shape == render.shape == (1, 3, HEIGHT, WIDTH)
        assert picture.isfinite().all() and (picture - render).abs().mean() > 0.01
    losses = torch.tensor([moment["loss"] for moment in _moments(trainer)])
    assert len(losses) == 6 and losses.isfinite().all()
    assert all(x.isfinite().all() for x in trainer.pipeline.model.parameters())
    for name in ("before_after.png", "edited_views/transforms.json", "turntable.mp4", "report.html", "splat.ply"):
        assert (trainer.base_dir / name).stat().st_size > 0, name
