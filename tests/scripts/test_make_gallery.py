"""The gallery, of edits that take no time in place of the real ones."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, which can edit only by handing out the true edit."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    script = importlib.import_module("make_gallery")
    representations = sys.modules["representations"]

    class Perfect:
        batch, style = 1, "photo"
        edited: list[int] = []

        def __init__(self, variant, setup):
            self.size = setup.size

        def settings(self):
            return {"guidance": {}}

        def edit(self, cases):
            self.edited.extend(case.index for case in cases)
            before, truth = torch.zeros(1, 3, self.size, self.size), torch.ones(1, 3, self.size, self.size)
            return [representations.Edited(before, truth, truth, 1.0) for _ in cases]

    for name in ("image", "splat", "svg"):
        monkeypatch.setitem(representations.REPRESENTATIONS, name, Perfect)
    script.edited = Perfect.edited
    yield script
    for name in ("make_gallery", "benchmark_edits", "representations", "scene_edits"):
        if name not in before:
            sys.modules.pop(name, None)


def test_page_sheet_and_table(script: ModuleType, tmp_path: Path) -> None:
    gallery = script.Gallery(tmp_path, pictures=3, splats=1, drawings=1)
    script.main(gallery)
    assert sorted(script.edited) == [0, 0, 0, 1, 2]
    page = (tmp_path / "index.html").read_text()
    assert page.count('type="range"') == 5 and page.count('alt="true edit"') == 5
    table = (tmp_path / "gallery.md").read_text()
    assert table.count("60.0 dB to the true edit (0.0 unedited)") == 5  # equal, and all different
    sheet = Image.open(tmp_path / "gallery.jpg")
    assert sheet.size == (3 * 128, 9 * (128 + 22))
    assert sheet.getpixel((64, 22 + 64)) == (0, 0, 0) and sheet.getpixel((64, 2 * 22 + 128 + 64)) == (255, 255, 255)
    script.main(gallery)  # nothing is made again
    assert len(script.edited) == 5
