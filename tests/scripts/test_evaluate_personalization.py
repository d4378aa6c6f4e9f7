"""The evaluation of personalization: what it shows, what it says of it, how it scores, and that it runs."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.toyworld.dataset import walk_around
from pds_nerfstudio.toyworld.geometry import PALETTE, build
from pds_nerfstudio.toyworld.grammar import Attributes, caption
from pds_nerfstudio.toyworld.renderer import orbit, render

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Yield the script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("evaluate_personalization")
    del sys.modules["evaluate_personalization"]


def test_a_part_is_painted_as_the_world_would(script: ModuleType) -> None:
    thing, cameras = Attributes(color="blue"), walk_around(2, 0, 24, 24)
    look = script.Look(thing, ("torso", "arm"), PALETTE["red"], "red")  # a man's shirt
    raised = replace(thing, color="red", arms="raised")
    assert torch.equal(look.photograph("raised", cameras), render(build([raised]), cameras).rgb)


def test_the_word_stands_where_captions_have_the_colour(script: ModuleType) -> None:
    for look in script.LOOKS.values():
        assert look.prompts(look.thing.color) == (caption(look.thing), caption(replace(look.thing, arms="raised")))
    assert script.LOOKS["raglan"].prompts("")[0] == "a photo of a man on the grass"
    assert script.LOOKS["bear"].prompts("")[0] == "a photo of a bear on the grass"


@pytest.mark.parametrize("name", ["raglan", "rust"])
def test_the_vae_can_hold_a_look(script: ModuleType, name: str) -> None:
    """It could not hold all shades that an earlier form of this evaluation asked for."""
    model = Denoiser.from_pretrained("toyworld", "cpu", torch.float32)
    case = script.Case(script.LOOKS[name], orbit(torch.tensor([20.0]), torch.tensor([12.0])))
    seen = case.score(model.decode_latents(model.encode_image(case.truth).detach()))
    assert seen.off < 0.15 and seen.changed > case.score(case.source).changed + 6


def test_the_true_edit_has_the_best_scores_and_no_edit_is_no_success(script: ModuleType) -> None:
    case = script.Case(script.LOOKS["raglan"], orbit(torch.tensor([10.0]), torch.tensor([12.0])))
    best, none = case.score(case.truth), case.score(case.source)
    assert (best.raised, best.off) == (1, 0) and best.whole == best.changed == float("inf")
    assert (none.raised, none.off > 0.2) == (0, True) and none.changed < none.whole < 40


def test_a_small_run_leaves_a_table_and_a_sheet(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = "--steps 1 --samples 1 --views 1 --prior-pictures 0 --edits 1 --edit-steps 1 --device cpu"
    monkeypatch.setattr(script, "METHODS", {"FlowEdit": "flowedit"})
    monkeypatch.setattr(sys, "argv", ["x", "--looks", "bear", *small.split(), "--out", str(tmp_path)])
    script.main()
    table = (tmp_path / "looks" / "table.md").read_text()
    for says in ("no word", "colour of the body", "token, no LoRA", "token, LoRA"):
        assert f"| bear | FlowEdit, redrawn | {says} |" in table and f"| mean | FlowEdit | {says} |" in table
    with Image.open(tmp_path / "looks" / "bear" / "sheet.png") as sheet:
        assert sheet.height > 6 * 128
