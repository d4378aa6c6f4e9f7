"""The command: what it leaves, and that it never writes over anything."""

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.images.cli import HELP, ImageEdit, edit_picture, main, read_mask, read_picture, run
from pds_nerfstudio.images.edit_loop import ImageEditConfig, picture_guidance
from pds_nerfstudio.images.recipes import RECIPES
from pds_nerfstudio.runs import load_config, read_command

from .conftest import KnownGuidance


@pytest.fixture
def config(tmp_path: Path) -> ImageEdit:
    pixels = np.random.default_rng(0).integers(100, 255, (40, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "box.png")
    mask = np.zeros((40, 30), np.uint8)
    mask[:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return ImageEdit(
        image=tmp_path / "box.png",
        src_prompt="a box",
        tgt_prompt="a grey box",
        mask=tmp_path / "mask.png",
        output_dir=tmp_path / "out",
        preview_every=2,
        edit=ImageEditConfig(steps=5, latent_lr=0.1),
        guidance=GuidanceConfig(guidance_scale=3.0),
    )


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def edit(config: ImageEdit, guidance: KnownGuidance) -> Path:
    return edit_picture(config, read_picture(config), guidance)  # type: ignore[arg-type]


def test_what_an_edit_leaves(config: ImageEdit, guidance: KnownGuidance) -> None:
    path = edit(config, guidance)
    folder = path.parent
    assert folder == config.output_dir / "box"
    names = {"config.json", "edited.png", "before_after.png", "preview.png", "metrics.json"}
    names |= {"again.sh", "preview.html"}
    assert {file.name for file in folder.iterdir()} == names
    before, after = opened(config.image), opened(path)
    assert (after.size, after.mode) == (before.size, before.mode) == ((30, 40), "RGBA")
    old, new = np.asarray(before), np.asarray(after)
    assert np.array_equal(old[20:], new[20:]) and np.array_equal(old[..., 3], new[..., 3])
    assert not np.array_equal(old[:20], new[:20])
    assert opened(folder / "before_after.png").size == (60, 40)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["complete"] and [m["step"] for m in metrics["steps"]] == [1, 2, 3, 4, 5]
    assert 0 < metrics["share_of_pixels_changed"] <= 0.5 and 5 < metrics["psnr_to_source"] < 60


@pytest.mark.slow
def test_again_edits_again(config: ImageEdit, guidance: KnownGuidance, tmp_path: Path) -> None:
    folder = edit(config, guidance).parent
    words = ["--edit.steps", "1", "--edit.refine", "0", "--tgt-prompt", "a 'black' box"]
    done = subprocess.run(["sh", folder / "again.sh", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = load_config(ImageEdit, tmp_path / "out" / "box-2" / "config.json")
    assert again.tgt_prompt == words[-1] and again.edit.steps == 1 and again.mask == config.mask


def test_an_edit_never_writes_over_another(config: ImageEdit, guidance: KnownGuidance) -> None:
    first = edit(config, guidance)
    content = first.read_bytes()
    again = load_config(ImageEdit, first.parent / "config.json")
    assert again == config
    second = edit(again, guidance)
    assert second.parent == config.output_dir / "box-2"
    assert first.read_bytes() == content == second.read_bytes()


def test_an_interrupt_leaves_the_picture_so_far(
    config: ImageEdit, guidance: KnownGuidance, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = guidance.latent_loss

    def interrupted(target: Tensor, source: Tensor, progress: float, keys: range) -> Any:
        if progress > 0.5:
            raise KeyboardInterrupt
        return follow(target, source, progress, keys)

    monkeypatch.setattr(guidance, "latent_loss", interrupted)
    path = edit(config, guidance)
    assert path.read_bytes() != config.image.read_bytes()
    metrics = json.loads((path.parent / "metrics.json").read_text())
    assert not metrics["complete"] and len(metrics["steps"]) == 3


def test_a_second_interrupt_leaves_it_too(
    config: ImageEdit, guidance: KnownGuidance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(guidance, "redraw_latents", interrupted)
    assert edit(config, guidance).exists()


class TestMask:
    def test_brightness_or_opacity(self, tmp_path: Path) -> None:
        ramp = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (20, 1))
        Image.fromarray(ramp).save(tmp_path / "grey.png")
        Image.fromarray(np.dstack([ramp * 0, ramp])).save(tmp_path / "clear.png")
        expected = torch.from_numpy(ramp)[None, None] / 255
        for name in ("grey.png", "clear.png"):
            assert torch.allclose(read_mask(tmp_path / name, (20, 20)), expected, atol=1e-6)

    def test_another_size_is_refused(self, config: ImageEdit) -> None:
        assert config.mask is not None
        with pytest.raises(UserError, match="30×40 pixels and the picture 20×10"):
            read_mask(config.mask, (10, 20))

    def test_black_is_refused(self, tmp_path: Path) -> None:
        Image.new("L", (20, 20)).save(tmp_path / "m.png")
        with pytest.raises(UserError, match="black everywhere"):
            read_mask(tmp_path / "m.png", (20, 20))


def test_the_command_says_what_is_wrong_in_one_line(config: ImageEdit, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_with(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["pds-image", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
        return stopped.value.code

    prompts = ("--src-prompt", "a", "--tgt-prompt", "b")
    assert "none.png" in run_with("--image", config.image.with_name("none.png"), *prompts)
    assert "steps" in run_with("--image", config.image, *prompts, "--edit.steps", 0)
    assert "--preview-every is 0" in run_with("--image", config.image, *prompts, "--preview-every", 0)
    assert "c.json" in run_with("--repeat", config.image.with_name("c.json"))


def test_the_embedded_model_edits(tmp_path: Path) -> None:
    """Two real steps, on a picture of an awkward size."""
    pixels = np.random.default_rng(0).integers(0, 255, (50, 37, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "man.png")
    config = ImageEdit(tmp_path / "man.png", "a photo of a man", "a photo of a robot", output_dir=tmp_path)
    config.edit = ImageEditConfig(steps=2, latent_lr=1.0, refine_steps=2)
    first, second = opened(run(config)), opened(run(config))
    assert first.size == (37, 50)
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert not np.array_equal(np.asarray(first), pixels)


@pytest.mark.parametrize("method", ["flowedit", "flowalign", "dvrf"])
def test_the_embedded_model_edits_from_noise_to_none(method: Any, config: ImageEdit) -> None:
    """Three real steps, which the masks of the guidance and of the user bound."""
    flow_edit = FlowEditConfig(method, steps=3)
    config = replace(config, src_prompt="a photo of a man", tgt_prompt="a photo of a robot")
    config = replace(config, edit=ImageEditConfig(refine=0, flow_edit=flow_edit), guidance=picture_guidance())
    path = run(config)
    before, after = np.asarray(opened(config.image)), np.asarray(opened(path))
    assert np.array_equal(before[20:], after[20:]) and not np.array_equal(before[:20], after[:20])
    steps = json.loads((path.parent / "metrics.json").read_text())["steps"]
    changes = [step["latent_change_rms"] for step in steps]
    assert [step["step"] for step in steps] == [1, 2, 3] and 0 < changes[0] < changes[-1]
    assert load_config(ImageEdit, path.parent / "config.json").edit == config.edit


@pytest.mark.parametrize(
    ("recipe", "edit", "guidance"),
    [
        ("default", {}, {}),
        ("light", {"latent_lr": 0.1}, {"t_max": 0.98, "t_power": 3, "identity_weight": 0.3, "identity_inside": 1}),
        ("local", {"steps": 50}, {"t_max": 0.98, "t_power": 1, "identity_weight": 0.3, "identity_inside": 1}),
        ("style", {}, {"objective": "lusd"}),
    ],
)
def test_a_recipe_is_other_defaults(
    recipe: str, edit: dict[str, Any], guidance: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {recipe} <= set(RECIPES) == {"default", "light", "local", "style"}
    needed = ["--image", "a.png", "--src-prompt", "a cat", "--tgt-prompt", "a dog"]
    expected = ImageEdit(Path("a.png"), "a cat", "a dog")
    expected = replace(expected, edit=replace(expected.edit, **edit), guidance=replace(expected.guidance, **guidance))
    monkeypatch.setattr("sys.argv", ["pds-image", recipe, *needed])
    config = read_command(HELP, ImageEdit(Path(), "", ""), RECIPES)
    config.check()
    assert config == expected
    monkeypatch.setattr("sys.argv", ["pds-image", recipe, *needed, "--guidance.t-max", "0.5"])
    overridden = read_command(HELP, ImageEdit(Path(), "", ""), RECIPES)
    assert overridden == replace(expected, guidance=replace(expected.guidance, t_max=0.5))


def test_without_a_word_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pds-image", "--image", "a.png", "--src-prompt", "a", "--tgt-prompt", "b"])
    assert read_command(HELP, ImageEdit(Path(), "", ""), RECIPES) == ImageEdit(Path("a.png"), "a", "b")


def test_a_misspelt_recipe_is_answered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pds-image", "stile", "--image", "a.png"])
    with pytest.raises(SystemExit) as end:
        main()
    assert str(end.value) == "pds-image: there is no recipe 'stile': name one of default, light, local, style, or none."


def test_a_config_of_an_earlier_version_is_taken_up(tmp_path: Path) -> None:
    saved = asdict(ImageEdit(Path("a.png"), "a cat", "a dog"))
    saved["guidance"] |= {"objective": "lusd", "lusd": {"identity": 0.1, "first_std": 0.15, "last_std": 0.01}}
    saved["guidance"] |= {"ssd": {"trajectory": 2.0}, "dreamcatalyst": {"delta": 0.2}}
    (tmp_path / "config.json").write_text(json.dumps(saved, default=str))
    assert load_config(ImageEdit, tmp_path / "config.json").guidance.objective == "lusd,identity=0.1"
