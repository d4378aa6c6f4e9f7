"""history/ and report.html of a run."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nerfstudio.utils import writer
from PIL import Image

from pds_nerfstudio.scenes.history import STRIP_PICTURES, History, Moment
from pds_nerfstudio.scenes.report import report


class Page(HTMLParser):
    """The addresses that a page refers to, and the tags that are open at its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data")]
        if tag not in ("img", "input", "meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", ["splat", "nerf"])
class TestFinishedRun:
    def test_its_report_needs_no_other_file_and_no_network(self, kind: str, finished: Any) -> None:
        text = (finished(kind).base_dir / "report.html").read_text()
        page = Page(text)
        assert not page.open
        assert page.addresses and all(address.startswith("data:") for address in page.addresses)
        outside = re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"data:[^\"]*", "", text))
        assert set(outside) <= {"http://www.w3.org"}  # the name of SVG, which nothing fetches
        assert "@import" not in text and "url(" not in text

    def test_it_has_the_views_the_settings_and_the_plots(self, kind: str, finished: Any) -> None:
        text = (finished(kind).base_dir / "report.html").read_text()
        assert text.count('type="range"') == 6 and text.count("<svg") == 3
        assert "a cat" in text and "a dog" in text and "guidance scale" in text and f"pds-{kind}" in text

    def test_numbers_and_pictures_are_kept_as_it_runs(self, kind: str, finished: Any) -> None:
        run = finished(kind)
        history = History.read(run.base_dir)
        assert [moment.step for moment in history.moments] == [2, 3, 4]
        assert all(np.isfinite([m.loss, m.gradient_rms, m.seconds]).all() for m in history.moments)
        assert {path.name for path in history.folder.glob("*.jpg")} == {
            "triptych-000000002.jpg",
            "view-000000002.jpg",
        }
        with Image.open(run.base_dir / "strip.jpg") as strip, Image.open(history.folder / "view-000000002.jpg") as view:
            assert strip.size == view.size


def test_pictures_go_through_nerfstudios_writers(
    make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepare(make_config("splat", steps=3, steps_per_picture=2))
    put: list[tuple[str, int, Any]] = []
    monkeypatch.setattr(writer, "EVENT_WRITERS", [object()])
    monkeypatch.setattr(writer, "write_out_storage", lambda: None)
    monkeypatch.setattr(writer, "put_image", lambda name, image, step: put.append((name, step, tuple(image.shape))))
    trainer.train()
    assert [entry[:2] for entry in put] == [(f"Edit/{n}", step) for step in (2, 4) for n in ("triptych", "view")]
    (_, _, (height, width, _)), (_, _, view) = put[:2]
    assert (height, width) == (view[0], 3 * view[1])


def test_a_strip_is_spread_evenly(tmp_path: Path) -> None:
    history = History(tmp_path, 1)
    assert history.write_strip(tmp_path / "strip.jpg") is None
    history.folder.mkdir()
    for step in range(31):
        Image.new("RGB", (4, 3), (step, 0, 0)).save(history.folder / f"view-{step:09d}.jpg")
    chosen = list(history.strip())
    assert len(chosen) == STRIP_PICTURES and chosen[0] == 0 and chosen[-1] == 30
    assert {b - a for a, b in zip(chosen, chosen[1:], strict=False)} <= {3, 4}


def test_what_a_user_writes_is_text_on_the_page(tmp_path: Path) -> None:
    history = History(tmp_path, 0)
    history.add(Moment(0, 1.0, 0.5, 0.1))
    picture = np.zeros((4, 6, 3), np.uint8)
    record = tmp_path / "session.jsonl"
    record.write_text(
        '{"step": 0, "action": "set", "time": "1"}\n'
        '{"step": 3, "action": "edit", "time": "2", "settings": {"tgt_prompt": "<b>bold</b>"}}\n'
    )
    text = report(
        title=("a <script>", 'a "quote" & {body}'),
        pairs=[(picture, picture)],
        turntable=None,
        history=history,
        figures={"x<": "y<"},
        settings={},
        record=record,
    )
    assert not Page(text).open
    assert "a &lt;script&gt;" in text and "x&lt;" in text and "&lt;b&gt;bold&lt;/b&gt;" in text
    assert text.count("<script>") == 1
