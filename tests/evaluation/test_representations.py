"""Scenes and drawings in the benchmark of edits: what is asked of ns-train, with runs that take no time."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation import representations
from pds_nerfstudio.evaluation.cases import draw_cases, named_cases
from pds_nerfstudio.evaluation.representations import REPRESENTATIONS, Setup, Variant
from pds_nerfstudio.evaluation.scene_edits import edit_scene
from pds_nerfstudio.evaluation.view_agreement import true_looks
from pds_nerfstudio.scenes.models.look import Look
from pds_nerfstudio.toyworld.grammar import Attributes, edit
from pds_nerfstudio.toyworld.renderer import Cameras

Runs = list[tuple[str, Path, list[str]]]
"""Runs of ns-train: method, folder, options."""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return a list of the runs that are asked for; their results are grey, their looks a man of half contrast."""
    noted: Runs = []

    def reconstruct(method: str, scene: Path, out: Path, source: Attributes, target: Attributes) -> Path:
        assert (scene / "transforms.json").exists()
        return out / "start"

    def edit_scene(
        method: str,
        scene: Path,
        out: Path,
        name: str,
        source: Attributes,
        target: Attributes,
        options: Sequence[object],
    ) -> None:
        noted.append((method, out / name, [str(option) for option in options]))

    def render(camera_to_world: Tensor, focal: Tensor, width: int, height: int) -> Tensor:
        return torch.full((len(focal), 3, height, width), 0.5)

    monkeypatch.setattr(representations, "reconstruct", reconstruct)
    monkeypatch.setattr(representations, "edit_scene", edit_scene)

    def looks_of(finished: object, cameras: Cameras) -> list[Look]:
        return [replace(look, color=look.color / 2) for look in true_looks(Attributes(), cameras)]

    monkeypatch.setattr(representations, "FinishedEdit", lambda path: SimpleNamespace(render=render))
    monkeypatch.setattr(representations, "looks_of", looks_of)
    return noted


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(seed=7, size=32, views=2, device="auto", out=tmp_path)


def test_a_variants_options_reach_their_places_on_the_command_line(runs: Runs, setup: Setup) -> None:
    text = "dds,guidance_scale=15,strength=0.2,refine_steps=9,steps=30,num_devices=2"
    (edited,) = REPRESENTATIONS["splat"](Variant(text), setup).edit(draw_cases(["arms"], 1, 0))
    ((method, _, options),) = runs
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert method == "pds-splat-toyworld"
    assert given.pop("--load-dir").endswith("start")
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


def test_edits_of_one_scene_share_it_and_nothing_else(runs: Runs, setup: Setup) -> None:
    case = draw_cases(["color"], 1, 0)
    for text in ("pds", "dds"):
        REPRESENTATIONS["nerf"](Variant(text), setup).edit(case)
    first, second = (run for _, run, _ in runs)
    assert first.parent == second.parent
    assert first != second
    assert (first.parent / "scene" / "transforms.json").exists()


def test_scenes_are_asked_whether_their_views_agree(runs: Runs, setup: Setup) -> None:
    man = named_cases(["arms=raised"])
    (edited,) = REPRESENTATIONS["splat"](Variant("pds"), setup).edit(man)
    assert edited.view_difference_ratio == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_drawings_are_edited_as_drawings(setup: Setup) -> None:
    representation = REPRESENTATIONS["svg"](Variant("pds,steps=1,fit_steps=30,refine_steps=0"), setup)
    cases = draw_cases(["arms"], 1, 0, representation.style)
    (edited,) = representation.edit(cases)
    (again,) = representation.edit(cases)
    pictures = (edited.before, edited.truth, edited.edited)
    assert all(picture.shape == (1, 3, 32, 32) and picture.min() >= 0 for picture in pictures)
    assert not torch.equal(edited.before, edited.truth)
    assert not torch.equal(edited.before, edited.edited)
    assert torch.equal(edited.edited, again.edited)
    assert math.isnan(edited.view_difference_ratio)
    assert edited.before[0, :, 0, 0].tolist() == pytest.approx([250 / 255] * 3)  # the paper


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_an_option_that_there_is_not_is_refused(name: str, setup: Setup) -> None:
    with pytest.raises(UserError, match="no option colour"):
        REPRESENTATIONS[name](Variant("pds,colour=3"), setup)


def test_a_run_that_fails_says_where_its_output_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ns-train").write_text("#!/bin/sh\necho out of memory\nexit 1\n")
    (tmp_path / "ns-train").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    man = Attributes()
    with pytest.raises(UserError, match=r"first failed.*train\.log"):
        edit_scene("pds-splat-toyworld", tmp_path, tmp_path, "first", man, edit(man, "hat", "top"), [])
    assert (tmp_path / "first" / "train.log").read_text() == "out of memory\n"
