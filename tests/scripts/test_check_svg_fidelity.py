"""The comparison with resvg: of drawings of any size and encoding, and of what is written after random edits."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    pytest.importorskip("resvg_py")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("check_svg_fidelity")
    sys.modules.pop("check_svg_fidelity", None)


def drawing(width: str, height: str, head: str = "") -> str:
    body = '<circle cx="12" cy="11" r="9" fill="tomato"/><path d="M3 4L22 9L7 24z" fill-opacity=".5"/>'
    return f'{head}<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{body}</svg>'


@pytest.mark.parametrize(("width", "height"), [("100", "50.2"), ("99.5", "40"), ("24.5", "37.3"), ("64", "64")])
def test_drawings_of_odd_sizes_are_compared_where_resvg_puts_them(script: ModuleType, width: str, height: str) -> None:
    score = script.score(drawing(width, height).encode(), "a.svg", 128)
    assert score.to_resvg > 40 and score.to_truth > 45


def test_other_encodings_are_compared(script: ModuleType) -> None:
    text = drawing("64", "48", '<?xml version="1.0" encoding="UTF-16"?>')
    assert script.score(text.encode("utf-16"), "a.svg", 64).to_resvg > 40


def test_what_cannot_be_compared_is_counted(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.svg").write_text(drawing("40", "40"))
    (tmp_path / "bad.svg").write_text("<svg")
    script.compare((tmp_path / "good.svg", tmp_path / "bad.svg"), size=64)
    printed = capsys.readouterr().out
    assert "not compared: bad.svg" in printed and "all: 1 files, 1 at 45 dB" in printed


def test_an_edit_is_read_again_as_it_was_held(script: ModuleType) -> None:
    trip = script.round_trip(drawing("64", "48").encode(), "a.svg", 128, seed=1)
    assert trip.written > 45 and trip.to_truth > 45
    assert (trip.basic, trip.stayed) == (1, 1)
