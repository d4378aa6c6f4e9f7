"""The source beside the edited scene, as outputs of the model."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pds_nerfstudio.scenes.live import comparison as comparison_module
from pds_nerfstudio.scenes.live.comparison import SHOWN, Comparison, Look, side_by_side
from pds_nerfstudio.scenes.live.session import Request
from pds_nerfstudio.scenes.models.scene_model import render

KINDS = ["splat", "nerf"]


pytestmark = pytest.mark.usefixtures("unchecked")  # of the viewer there is only what is looked at


@pytest.fixture
def switch() -> Any:
    """What it takes of nerfstudio's control panel."""
    return SimpleNamespace(output_render="rgb", split=False, split_output_render="rgb")


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_is_what_the_scene_looked_like_before(kind: str, make_config: Any, run: Any, switch: Any) -> None:
    trainer = run(make_config(kind, steps=2))
    model, camera = trainer.pipeline.eval().model, trainer.pipeline.views.full_size_camera(0)
    edited = render(model, camera)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    comparison = Comparison(model, switch, trainer.source_folder)
    switch.output_render, comparison.looks[None].split = "before_after", 0.25
    outputs = model.get_outputs_for_camera(camera)
    assert torch.equal(outputs["rgb"].clamp(0, 1), edited)
    source = comparison.before(camera)["rgb"]
    assert torch.equal(outputs["before_after"], side_by_side(source, outputs["rgb"], 0.25))
    assert outputs["change"].shape == edited.shape
    # The model is what it was.
    assert [name for name, value in model.state_dict().items() if not torch.equal(weights[name], value)] == []

    switch.output_render = "rgb"
    trainer.restore_source()
    before = render(model, camera)
    assert torch.equal(source.clamp(0, 1), before) and not torch.equal(before, edited)


def test_a_source_that_is_not_known_is_not_offered(make_config: Any, prepare: Any, switch: Any, tmp_path: Path) -> None:
    trainer = prepare(make_config("splat"))
    model, camera = trainer.pipeline.eval().model, trainer.pipeline.views.full_size_camera(0)
    comparison = Comparison(model, switch, tmp_path / "none")
    assert not comparison.available and not set(model.get_outputs_for_camera(camera)) & (set(SHOWN.values()) - {"rgb"})


@pytest.mark.parametrize("kind", KINDS)
def test_each_browser_looks_by_itself_and_beside_a_kept_state(
    kind: str, make_config: Any, run_asking: Any, switch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = run_asking(make_config(kind, steps=3), {1: [Request("snapshot")]})
    kept = next((trainer.base_dir / "snapshots").glob("*.ckpt"))
    model, camera = trainer.pipeline.eval().model, trainer.pipeline.views.full_size_camera(0)
    comparison = Comparison(model, switch, trainer.source_folder)
    comparison.looks |= {1: Look("source", beside=kept), 2: Look("source"), 3: Look(), 4: Look("before_after", 0.5)}

    def shown(browser: int | None) -> torch.Tensor:
        monkeypatch.setattr(comparison_module, "_browser", lambda: browser)
        return model.get_outputs_for_camera(camera)["rgb"]

    edited, middle, source, third, both, nobody = (shown(browser) for browser in (9, 1, 2, 3, 4, None))
    assert torch.equal(edited, third) and torch.equal(edited, nobody)
    assert len({tuple(picture.flatten().tolist()) for picture in (edited, middle, source)}) == 3
    assert torch.equal(both, side_by_side(source, edited, 0.5))
    assert torch.equal(edited, shown(9))
    trainer.restore_state(kept)
    trainer.pipeline.eval()
    assert torch.equal(middle.clamp(0, 1), render(model, camera))


def test_nothing_is_rendered_twice_unless_it_is_looked_at(
    finished: Any, make_config: Any, prepare: Any, switch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepare(make_config("splat"))
    model, camera = trainer.pipeline.model, trainer.pipeline.views.full_size_camera(0)
    renders: list[int] = []
    usual = model.get_outputs

    def counted(camera: Any) -> Any:
        renders.append(model.num_points)
        return usual(camera)

    monkeypatch.setattr(model, "get_outputs", counted)
    comparison = Comparison(model, switch, finished("splat").base_dir / "reconstruction", lambda: None)
    model.eval()
    with torch.no_grad():
        outputs = model.get_outputs_for_camera(camera)
        assert set(SHOWN.values()) <= set(outputs) and len(renders) == 1
        switch.split, switch.split_output_render = True, "source"
        model.get_outputs_for_camera(camera)
    assert len(renders) == 3 and comparison.available


def test_the_source_cannot_be_interrupted(finished: Any, make_config: Any, prepare: Any, switch: Any) -> None:
    """Nerfstudio's viewer breaks off a render by raising in any line: the weights must be back nevertheless."""
    trainer = prepare(make_config("splat"))
    model, camera = trainer.pipeline.eval().model, trainer.pipeline.views.full_size_camera(0)
    comparison = Comparison(model, switch, finished("splat").base_dir / "reconstruction")
    inside: list[str] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_name == "functional_call":
            inside.append(event)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        comparison.before(camera)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert not inside


def test_side_by_side() -> None:
    black, white = torch.zeros(2, 8, 3), torch.full((2, 8, 3), 0.5)
    assert side_by_side(black, white, 0.5)[0, :, 0].tolist() == [0, 0, 0, 0, 1, 0.5, 0.5, 0.5]
    assert side_by_side(black, white, 1.0)[0, :, 0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert side_by_side(black, white, 0.0)[0, :, 0].tolist() == [1] + [0.5] * 7
