"""An edited file opens in Chromium and looks as the rasteriser says; skipped where there is no Chromium."""

import base64
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.svg.document import Document

EXAMPLES = Path(__file__).parents[2] / "examples" / "svg"
FILES = ["noto/rocket.svg", "noto/robot.svg", "noto-v1/owl.svg", "noto-v1/rainbow.svg", "fluent-emoji-flat/fox.svg"]
SIDE = 160
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def _edited(path: Path) -> tuple[bytes, Tensor]:
    """The file after an edit that moves everything a little, and how that should look."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        editor = VectorEditor(Document.read(path), SIDE)
    generator = torch.Generator().manual_seed(0)
    amount = {"paths": 6.0, "points": 1.5, "widths": 2.0, "colors": 0.1, "opacities": 0.1}
    for name, change in editor.changes.items():
        change.data += amount.get(name, 1.0) * torch.randn(change.shape, generator=generator)
    editor.project()
    with torch.no_grad():
        return editor.svg(), editor.render()[0]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_edited_files_look_the_same_in_chromium(tmp_path: Path) -> None:
    edits = [_edited(EXAMPLES / name) for name in FILES]
    images = [
        f'<img width="{SIDE}" height="{SIDE}" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
        for svg, _ in edits
    ]
    page = tmp_path / "page.html"
    page.write_text(f'<body style="margin:0;display:flex;background:white">{"".join(images)}')
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--force-device-scale-factor=1", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--screenshot={tmp_path / 'page.png'}", f"--window-size={SIDE * len(FILES)},{SIDE}", page.as_uri()]
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=240)
    seen = torch.from_numpy(np.array(Image.open(tmp_path / "page.png").convert("RGB"))).permute(2, 0, 1) / 255
    for k, (name, (_, expected)) in enumerate(zip(FILES, edits, strict=True)):
        theirs = seen[:, :SIDE, k * SIDE : (k + 1) * SIDE]
        assert psnr(theirs, expected) > 38, name
