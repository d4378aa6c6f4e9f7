import json
from dataclasses import replace
from types import SimpleNamespace

import imageio_ffmpeg
import pytest
import torch
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.runs import load_config, save_config
from pds_nerfstudio.vector.edit.cli import SvgEdit, edit_svg, main
from pds_nerfstudio.vector.edit.loop import VectorEditConfig
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Towards

SVG = b'<svg viewBox="0 0 8 8"><path id="a" d="M1 1L7 1L7 7L1 7Z" fill="red"/><!-- kept --></svg>'

GUIDED = VectorEditConfig(fit_steps=0, steps=5, refine_steps=0, colors_lr=0.05)


def _darken(image, source_image, progress, keys=None):
    return SimpleNamespace(loss=image.sum(), finite=torch.tensor(True), metrics={"mean": image.mean().detach()})


@pytest.fixture
def config(tmp_path):
    (tmp_path / "box.svg").write_bytes(SVG)
    return SvgEdit(
        svg=tmp_path / "box.svg",
        src_prompt="a red box",
        tgt_prompt="a dark box",
        output_dir=tmp_path / "out",
        save_every=2,
        edit=GUIDED,
        guidance=GuidanceConfig(guidance_scale=3.0),
    )


def _edit(config, guidance=_darken):
    return edit_svg(config, Document.read(config.svg), guidance, 32, torch.device("cpu"))


def test_what_an_edit_leaves(config):
    folder = _edit(config)
    assert folder == config.output_dir / "box"
    final = (folder / "final.svg").read_bytes()
    assert final != SVG and final.endswith(b"<!-- kept --></svg>") and b'id="a"' in final
    before, after = (Image.open(folder / f"{name}.png") for name in ("before", "after"))
    assert before.size == after.size == (32, 32)
    assert after.getpixel((16, 16))[0] < before.getpixel((16, 16))[0] == 255
    assert Image.open(folder / "history.gif").n_frames == 4
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["complete"] and [m["step"] for m in metrics["steps"]] == [1, 2, 3, 4, 5]
    assert metrics["steps"][0]["mean"] > metrics["steps"][-1]["mean"] and metrics["psnr_to_source"] > 0


def test_the_draft_is_left_beside_what_paths_made_of_it(config):
    config.edit = VectorEditConfig(draft=ImageEditConfig(steps=40, refine=0), fit_steps=120)
    folder = _edit(config, Towards(SVG.replace(b'"red"', b'"blue"'), 32))
    for name in ("draft", "after"):
        red, _, blue = Image.open(folder / f"{name}.png").getpixel((16, 16))
        assert blue > red, name
    assert not (_edit(replace(config, edit=GUIDED)) / "draft.png").exists()


def test_an_interrupt_leaves_the_drawing_so_far(config):
    def interrupted(image, source_image, progress, keys=None):
        if progress > 0.5:
            raise KeyboardInterrupt
        return _darken(image, source_image, progress, keys)

    folder = _edit(config, interrupted)
    assert (folder / "final.svg").read_bytes() != SVG and (folder / "after.png").exists()
    assert not json.loads((folder / "metrics.json").read_text())["complete"]


def test_no_history_on_request(config):
    config.history = "none"
    assert not (_edit(config) / "history.gif").exists()


def test_a_video_on_request(config):
    config.history = "mp4"
    config.check()
    assert imageio_ffmpeg.count_frames_and_secs(_edit(config) / "history.mp4")[0] == 4


def test_a_video_without_ffmpeg_is_refused(config, monkeypatch):
    config.history = "mp4"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "no-such-program")
    with pytest.raises(UserError, match="pip install imageio-ffmpeg, or set history to gif"):
        config.check()


def test_the_saved_config_repeats_the_edit(config):
    folder = _edit(config)
    first = (folder / "final.svg").read_bytes()
    again = load_config(SvgEdit, folder / "config.json")
    assert again == config
    assert (_edit(again) / "final.svg").read_bytes() == first


def test_prompts_carry_the_style(config):
    assert config.prompts == ("a red box", "a dark box")
    config.style, config.style_suffix = "pixelart", " on a table "
    assert config.prompts[1] == "a dark box, pixel art, on a white background, on a table"


@pytest.mark.parametrize("change", [{"canvas": -1}, {"save_every": 0}, {"edit": VectorEditConfig(steps=-1)}])
def test_nonsense_is_refused(config, change):
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(UserError):
        config.check()


def test_the_command_says_what_is_wrong_in_one_line(config, monkeypatch):
    def run_with(*arguments):
        monkeypatch.setattr("sys.argv", ["pds-svg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
        return stopped.value.code

    prompts = ("--src-prompt", "a", "--tgt-prompt", "b")
    assert "none.svg" in run_with("--svg", config.svg.with_name("none.svg"), *prompts)
    assert "steps" in run_with("--svg", config.svg, *prompts, "--edit.steps", -1)
    assert "c.json" in run_with("--repeat", config.svg.with_name("c.json"))
    save_config(config, config.svg.with_name("c.json"))
    config.svg.unlink()
    assert "box.svg" in run_with("--repeat", config.svg.with_name("c.json"))
