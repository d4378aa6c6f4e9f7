"""The gallery, of edits that take no time in place of the real ones."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from pds_nerfstudio.evaluation.cases import EditCase
from pds_nerfstudio.evaluation.representations import REPRESENTATIONS, Edited, Setup, Variant
from pds_nerfstudio.toyworld.grammar import Style

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Yield the script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("make_gallery")
    del sys.modules["make_gallery"]


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the cases that are edited; from here on, all edits are the true ones."""
    numbers: list[int] = []

    class Perfect:
        batch: int | None = 1
        style: Style = "photo"

        def __init__(self, variant: Variant, setup: Setup) -> None:
            self.size = setup.size

        def settings(self) -> dict[str, Any]:
            return {"guidance": {}}

        def edit(self, cases: Sequence[EditCase]) -> list[Edited]:
            numbers.extend(case.index for case in cases)
            before, truth = torch.zeros(1, 3, self.size, self.size), torch.ones(1, 3, self.size, self.size)
            return [Edited(before, truth, truth, 1.0) for _ in cases]

    for name in ("image", "splat", "svg"):
        monkeypatch.setitem(REPRESENTATIONS, name, Perfect)
    return numbers


def test_page_sheet_and_table(script: ModuleType, edited: list[int], tmp_path: Path) -> None:
    gallery = script.Gallery(tmp_path, pictures=3, splats=1, drawings=1)
    script.main(gallery)
    assert sorted(edited) == [0, 0, 0, 1, 2]
    page = (tmp_path / "index.html").read_text()
    assert page.count('type="range"') == 5
    assert page.count('alt="true edit"') == 5
    table = (tmp_path / "gallery.md").read_text()
    assert table.count("60.0 dB to the true edit (0.0 unedited)") == 5  # equal, and all different
    sheet = Image.open(tmp_path / "gallery.jpg")
    assert sheet.size == (3 * 128, 9 * (128 + 22))
    assert sheet.getpixel((64, 22 + 64)) == (0, 0, 0)
    assert sheet.getpixel((64, 2 * 22 + 128 + 64)) == (255, 255, 255)
    script.main(gallery)  # nothing is made again
    assert len(edited) == 5
