"""Scenes in the benchmark of edits: what is asked of ns-train, with runs that take no time."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.cases import draw_cases

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def representations(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, whose runs are noted and whose results are grey."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("representations")
    module.runs = []

    def reconstruct(method: str, scene: Path, out: Path, source: Any, target: Any) -> Path:
        assert (scene / "transforms.json").exists()
        return out / "start"

    def edit_scene(method: str, scene: Path, out: Path, name: str, source: Any, target: Any, options: Any) -> float:
        module.runs.append((method, out / name, [str(option) for option in options]))
        return 1.0

    def render(camera_to_world: torch.Tensor, focal: torch.Tensor, width: int, height: int) -> torch.Tensor:
        return torch.full((len(focal), 3, height, width), 0.5)

    monkeypatch.setattr(module, "reconstruct", reconstruct)
    monkeypatch.setattr(module, "edit_scene", edit_scene)
    monkeypatch.setattr("pds_nerfstudio.scenes.loading.FinishedEdit", lambda path: SimpleNamespace(render=render))
    yield module
    del sys.modules["representations"]


def setup(module: ModuleType, out: Path) -> Any:
    return module.Setup(seed=7, size=32, views=2, device="auto", out=out)


def test_a_variants_options_reach_their_places_on_the_command_line(representations: ModuleType, tmp_path: Path) -> None:
    text = "dds,guidance_scale=15,strength=0.2,refine_steps=9,steps=30,num_devices=2"
    scene = representations.REPRESENTATIONS["splat"](representations.Variant(text), setup(representations, tmp_path))
    (edited,) = scene.edit(draw_cases(["arms"], 1, 0))
    ((method, _, options),) = representations.runs
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert method == "pds-splat-toyworld" and given.pop("--load-dir").endswith("start")
    assert given == {
        "--pipeline.guidance.objective": "dds",
        "--pipeline.guidance.guidance-scale": "15",
        "--pipeline.refinement.strength": "0.2",
        "--pipeline.refine-steps": "9",
        "--max-num-iterations": "30",
        "--machine.num-devices": "2",
        "--show-edit": "False",
        "--pipeline.guidance.seed": "7",
    }
    assert edited.before.shape == edited.truth.shape == edited.edited.shape == (2, 3, 32, 32)
    assert not torch.equal(edited.before, edited.truth)


def test_edits_of_one_scene_share_it_and_nothing_else(representations: ModuleType, tmp_path: Path) -> None:
    case = draw_cases(["color"], 1, 0)
    for text in ("pds", "dds"):
        variant = representations.Variant(text)
        representations.REPRESENTATIONS["nerf"](variant, setup(representations, tmp_path)).edit(case)
    first, second = (run for _, run, _ in representations.runs)
    assert first.parent == second.parent and first != second
    assert (first.parent / "scene" / "transforms.json").exists()


def test_drawings_are_edited_as_drawings(representations: ModuleType, tmp_path: Path) -> None:
    variant = representations.Variant("pds,steps=1,fit_steps=30,refine_steps=0")
    representation = representations.REPRESENTATIONS["svg"](variant, setup(representations, tmp_path))
    cases = draw_cases(["arms"], 1, 0, representation.style)
    (edited,) = representation.edit(cases)
    (again,) = representation.edit(cases)
    pictures = (edited.before, edited.truth, edited.edited)
    assert all(picture.shape == (1, 3, 32, 32) and picture.min() >= 0 for picture in pictures)
    assert not torch.equal(edited.before, edited.truth) and not torch.equal(edited.before, edited.edited)
    assert torch.equal(edited.edited, again.edited)
    assert edited.before[0, :, 0, 0].tolist() == pytest.approx([250 / 255] * 3)  # the paper


def test_an_option_that_there_is_not_is_refused(representations: ModuleType, tmp_path: Path) -> None:
    for name in representations.REPRESENTATIONS:
        with pytest.raises(UserError, match="no option colour"):
            representations.REPRESENTATIONS[name](
                representations.Variant("pds,colour=3"), setup(representations, tmp_path)
            )
