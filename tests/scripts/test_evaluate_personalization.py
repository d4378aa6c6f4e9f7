"""The pictures that the evaluation of personalization learns from and is judged by."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pds_nerfstudio.toyworld.dataset import walk_around
from pds_nerfstudio.toyworld.geometry import PALETTE, build
from pds_nerfstudio.toyworld.grammar import Attributes
from pds_nerfstudio.toyworld.renderer import render

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Yield the script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("evaluate_personalization")
    del sys.modules["evaluate_personalization"]


@pytest.mark.parametrize("subject", ["man", "robot"])  # whose torso is a box
def test_a_shade_that_has_a_name_is_what_the_world_paints_by_it(script: ModuleType, subject: str) -> None:
    thing, cameras = Attributes(subject=subject, color="blue"), walk_around(2, 0, 24, 24)  # type: ignore[arg-type]
    painted = script.photograph(PALETTE["red"], thing, cameras)
    assert torch.equal(painted, render(build([replace(thing, color="red")]), cameras).rgb)


def test_no_shade_has_a_name_and_the_nearest_is_known(script: ModuleType) -> None:
    for shade, nearest in script.SHADES.values():
        distances = {name: torch.dist(torch.tensor(shade), torch.tensor(color)) for name, color in PALETTE.items()}
        assert min(distances, key=lambda name: distances[name]) == nearest
        assert distances[nearest] > 0.2
