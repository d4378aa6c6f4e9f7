"""The command: what it leaves, and what it refuses."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.runs import load_config, save_config
from pds_nerfstudio.vector.edit.cli import SvgEdit, edit_svg, main, run
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.loop import VectorEditConfig
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Towards

SVG = b'<svg viewBox="0 0 8 8"><path id="a" d="M1 1L7 1L7 7L1 7Z" fill="red"/><!-- kept --></svg>'

GUIDED = VectorEditConfig(fit_steps=0, steps=5, refine_steps=0, colors_lr=0.05)


class Darken(Guidance):
    """A guidance that wants black; Ctrl-C is pressed after a share of the steps."""

    def __init__(self, interrupted_at: float = 2.0) -> None:
        self.interrupted_at = interrupted_at

    def __call__(self, image: Tensor, source_image: Tensor, progress: float, keys: Any = None) -> Any:
        if progress > self.interrupted_at:
            raise KeyboardInterrupt
        return SimpleNamespace(loss=image.sum(), finite=torch.tensor(True), metrics={"mean": image.mean().detach()})


@pytest.fixture
def config(tmp_path: Path) -> SvgEdit:
    (tmp_path / "box.svg").write_bytes(SVG)
    return SvgEdit(
        svg=tmp_path / "box.svg",
        src_prompt="a red box",
        tgt_prompt="a dark box",
        output_dir=tmp_path / "out",
        canvas=32,
        save_every=2,
        edit=GUIDED,
        guidance=GuidanceConfig(guidance_scale=3.0),
    )


def _edit(config: SvgEdit, guidance: Guidance | None = None) -> Path:
    file = edit_svg(config, Document.read(config.svg), guidance or Darken())
    assert file.name == "final.svg"
    return file.parent


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def _middle(path: Path) -> tuple[int, int, int]:
    color = _opened(path).getpixel((16, 16))
    assert isinstance(color, tuple)
    red, green, blue = (int(part) for part in color)
    return red, green, blue


def test_a_compressed_drawing_stays_one(config: SvgEdit, tmp_path: Path) -> None:
    (tmp_path / "box.svgz").write_bytes(gzip.compress(SVG))
    config = replace(config, svg=tmp_path / "box.svgz")
    file = edit_svg(config, Document.read(config.svg), Darken())
    assert file.name == "final.svgz" and b"<!-- kept -->" in gzip.decompress(file.read_bytes())


def test_what_an_edit_leaves(config: SvgEdit) -> None:
    folder = _edit(config)
    assert folder == config.output_dir / "box"
    final = (folder / "final.svg").read_bytes()
    assert final != SVG and final.endswith(b"<!-- kept --></svg>") and b'id="a"' in final
    assert _opened(folder / "before.png").size == _opened(folder / "after.png").size == (32, 32)
    assert _middle(folder / "after.png")[0] < _middle(folder / "before.png")[0] == 255
    assert _opened(folder / "preview.png").width == 2 * 256  # no draft
    assert (folder / "preview.html").read_text().count('type="range"') == 1
    with Image.open(folder / "history.gif") as history:
        assert history.n_frames == 4  # type: ignore[attr-defined]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["complete"] and [m["step"] for m in metrics["steps"]] == [1, 2, 3, 4, 5]
    assert metrics["steps"][0]["mean"] > metrics["steps"][-1]["mean"] and metrics["psnr_to_source"] > 0


def test_the_draft_is_left_beside_what_paths_made_of_it(config: SvgEdit) -> None:
    config.edit = VectorEditConfig(draft=ImageEditConfig(steps=40, refine=0), fit_steps=120)
    folder = _edit(config, Towards(SVG.replace(b'"red"', b'"blue"'), 32))
    for name in ("draft", "after"):
        red, _, blue = _middle(folder / f"{name}.png")
        assert blue > red, name
    three = np.asarray(_opened(folder / "preview.png"))[-256:]
    assert three.shape == (256, 3 * 256, 3)
    for place, name in enumerate(("before", "draft", "after")):
        middle = three[128, 256 * place + 128]
        assert np.abs(middle.astype(int) - _middle(folder / f"{name}.png")).max() <= 2, name
    text = (folder / "preview.html").read_text()
    assert "a red box" in text and "a dark box" in text and "default-src 'none'" in text
    assert re.findall(r'<input type="range"[^>]*aria-label="([^"]*)"', text) == [
        "Before and after, the drawing",
        "Draft and after, the drawing",
    ]
    assert not (_edit(replace(config, edit=GUIDED)) / "draft.png").exists()


def test_a_draft_made_elsewhere_needs_no_prompts_and_no_model(config: SvgEdit, monkeypatch: pytest.MonkeyPatch) -> None:
    blue = SVG.replace(b'"red"', b'"blue"')
    picture = VectorEditor(Document(blue), 64).render()[0].detach().permute(1, 2, 0)
    Image.fromarray((picture * 255).round().byte().numpy()).save(config.svg.with_name("blue.png"))
    monkeypatch.setattr(Guidance, "from_config", lambda *_: pytest.fail("no model is needed"))
    drafted = replace(
        config, src_prompt="", tgt_prompt="", canvas=0, draft=config.svg.with_name("blue.png"), edit=VectorEditConfig()
    )
    file = run(drafted)
    assert file.read_bytes() == SVG.replace(b'"red"', b'"#0000ff"')
    assert _opened(file.with_name("draft.png")).size == (64, 64)
    assert load_config(SvgEdit, file.with_name("config.json")) == drafted


def test_without_prompts_there_must_be_a_draft(config: SvgEdit) -> None:
    config.src_prompt = config.tgt_prompt = " "
    with pytest.raises(UserError, match="give src_prompt and tgt_prompt, or a draft"):
        config.check()
    config.draft = Path("draft.png")
    with pytest.raises(UserError, match="give src_prompt and tgt_prompt"):  # `edit.steps` ask a model
        config.check()
    config.edit = VectorEditConfig()
    config.check()


def test_an_interrupt_leaves_the_drawing_so_far(config: SvgEdit) -> None:
    folder = _edit(config, Darken(interrupted_at=0.5))
    assert (folder / "final.svg").read_bytes() != SVG and (folder / "after.png").exists()
    assert not json.loads((folder / "metrics.json").read_text())["complete"]


def test_no_history_on_request(config: SvgEdit) -> None:
    config.history = "none"
    assert not (_edit(config) / "history.gif").exists()


def test_a_video_on_request(config: SvgEdit) -> None:
    config.history = "mp4"
    config.check()
    assert imageio_ffmpeg.count_frames_and_secs(_edit(config) / "history.mp4")[0] == 4


def test_a_video_without_ffmpeg_is_refused(config: SvgEdit, monkeypatch: pytest.MonkeyPatch) -> None:
    config.history = "mp4"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "no-such-program")
    with pytest.raises(UserError, match="pip install imageio-ffmpeg, or set history to gif"):
        config.check()


@pytest.mark.slow
def test_again_edits_again(config: SvgEdit, tmp_path: Path) -> None:
    folder = _edit(config)
    words = ["--edit.steps", "1", "--edit.draft.steps", "1", "--only", "#a, .b"]
    done = subprocess.run(["sh", folder / "again.sh", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = load_config(SvgEdit, tmp_path / "out" / "box-2" / "config.json")
    assert again.only == "#a, .b" and again.tgt_prompt == config.tgt_prompt


def test_the_saved_config_repeats_the_edit(config: SvgEdit) -> None:
    folder = _edit(config)
    first = (folder / "final.svg").read_bytes()
    again = load_config(SvgEdit, folder / "config.json")
    assert again == config
    assert (_edit(again) / "final.svg").read_bytes() == first


def test_prompts_carry_the_style(config: SvgEdit) -> None:
    assert config.prompts == ("a red box", "a dark box")
    config.style, config.style_suffix = "pixelart", " on a table "
    assert config.prompts[1] == "a dark box, pixel art, on a white background, on a table"
    config.src_prompt = " "
    assert config.prompts[0] == ""


@pytest.mark.parametrize("change", [{"canvas": -1}, {"save_every": 0}, {"edit": VectorEditConfig(steps=-1)}])
def test_nonsense_is_refused(config: SvgEdit, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(UserError):
        config.check()


def test_the_command_says_what_is_wrong_in_one_line(config: SvgEdit, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_with(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["pds-svg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
        return stopped.value.code

    prompts = ("--src-prompt", "a", "--tgt-prompt", "b")
    assert "none.svg" in run_with("--svg", config.svg.with_name("none.svg"), *prompts)
    assert "--edit.steps is -1" in run_with("--svg", config.svg, *prompts, "--edit.steps", -1)
    draft = run_with("--svg", config.svg, *prompts, "--edit.draft.refine-steps", 0)
    assert draft == "--edit.draft.refine-steps is 0: give at least 1."
    assert "c.json" in run_with("--repeat", config.svg.with_name("c.json"))
    save_config(config, config.svg.with_name("c.json"))
    config.svg.unlink()
    assert "box.svg" in run_with("--repeat", config.svg.with_name("c.json"))
