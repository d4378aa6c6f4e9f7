"""The examples, and the one in docs/extending.md, run and do what they say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes
from pds_nerfstudio.toyworld.renderer import orbit, render

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def texture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edit_texture", ROOT / "examples" / "texture" / "edit_texture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texture")


@pytest.fixture(scope="module")
def edited(texture: ModuleType, folder: Path) -> Tensor:
    """The texture after a short edit."""
    return texture.main(folder, steps=8, fit_steps=12).texture.detach()


class TestTexture:
    def test_a_mesh_shows_its_texture(self, texture: ModuleType) -> None:
        ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
        thing = texture.MeshTexture(ramp, texture.bent_sheet(), size=32)
        left, front, right = thing.source(None)[:, 0, 16]
        assert front[1:-1].diff().min() > 0 and front[16].item() == pytest.approx(0.5, abs=0.03)
        assert left[-1].item() == right[0].item() == pytest.approx(0.8)  # the wall, beside the far edge of the sheet

    def test_a_gradient_on_an_image_reaches_all_that_is_seen(self, texture: ModuleType) -> None:
        thing = texture.MeshTexture(torch.full((1, 3, 64, 64), 0.5), texture.bent_sheet(), size=64)
        gradients = torch.autograd.grad(thing.render(None).sum(), thing.grids)
        for gradient in gradients:
            edge = gradient.shape[-1] // 6
            assert bool(gradient.isfinite().all()) and gradient[..., edge:-edge, edge:-edge].min() > 0

    def test_the_gradient_of_the_guidance_reaches_the_texture(self, texture: ModuleType, tmp_path: Path) -> None:
        guided = texture.main(tmp_path, steps=1, fit_steps=0)
        assert all(bool(grid.isfinite().all()) and grid.count_nonzero() > 0.5 * grid.numel() for grid in guided.grids)

    def test_the_shirt_turns_red_and_the_rest_stays(self, texture: ModuleType, edited: Tensor) -> None:
        before, truth = (texture.photograph(thing) for thing in (texture.MAN, texture.GOAL))
        shirt = (truth - before).abs().amax(1, keepdim=True) > 0.2
        change = torch.where(shirt, edited - before, 0).sum((0, 2, 3)) / shirt.sum()
        assert change[0] > 0.1 and change[2] < -0.1, change
        assert (edited - truth).square().mean() < 0.8 * (before - truth).square().mean()
        assert torch.where(shirt, 0, edited - before).abs().mean() < 0.03

    def test_pictures_show_it(self, edited: Tensor, folder: Path) -> None:
        pixels = {}
        for name in ("before", "after"):
            with Image.open(folder / f"{name}.png") as image:
                assert image.size == (4 * 128, 128)
                pixels[name] = image.tobytes()
        assert pixels["before"] != pixels["after"]

    def test_a_seed_gives_the_same_bits(self, texture: ModuleType, tmp_path: Path) -> None:
        first, second, other = (texture.main(tmp_path, 1, 1, seed).texture.detach() for seed in (3, 3, 4))
        assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_documented_editable_thing_turns_day_into_night() -> None:
    """With a few steps; the rest of the code is as it stands there."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = text[text.index("## A new editable thing") :]
    (code,) = re.findall(r"^```python\n(.*?)^```", section[: section.index("\n## ", 3)], re.M | re.S)
    assert code.count("steps=60") == 1
    names: dict[str, Any] = {}
    exec(code.replace("steps=60", "steps=10"), names)
    night = render(build([Attributes(sky="night")]), orbit(torch.tensor([20.0]), torch.tensor([10.0]))).rgb
    before, after = ((picture - night).square().mean() for picture in (names["picture"], names["night"]))
    assert after < 0.8 * before, (before, after)
    assert not torch.equal(names["grade"].matrix, torch.eye(3, 4))
