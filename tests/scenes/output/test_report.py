"""history/ and report.html of a run."""

import base64
import io
import itertools
import json
import math
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from nerfstudio.utils import writer
from PIL import Image

from pds_nerfstudio import __version__
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.page import Picture, jpeg
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.output.history import STRIP_PICTURES, History, Moment
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.output.report import PAGE_BYTES, Measures, View, add_measures, report, write_report
from pds_nerfstudio.scenes.output.results import shown_views
from pds_nerfstudio.video import write_video


class Page(HTMLParser):
    """What a browser makes of a page.

    Attributes:
        addresses: That the page refers to.
        tags: With the names of their attributes, and the values of those that no person writes.
        described: The values of attributes that are read to people.
        shown: All text but that of scripts and styles.
        open: The tags that are open at its end.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.described: list[str] = []
        self.shown = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        spoken = ("alt", "aria-label", "title")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        self.described += [value or "" for name, value in attrs if name in spoken]
        self.tags.append((tag, [(name, name if name in spoken else value) for name, value in attrs]))
        if tag not in ("img", "input", "meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.shown += data


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


def test_before_is_the_reconstruction_with_the_photo_beside_it(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, shown = finished("splat"), list[View]()

    def keep(views: list[View], **_: Any) -> str:
        shown.extend(views)
        return ""

    monkeypatch.setattr("pds_nerfstudio.scenes.output.report.report", keep)
    monkeypatch.setattr("pds_nerfstudio.scenes.output.report.write_text", lambda *_: None)
    weights = {name: weight.clone() for name, weight in run.pipeline.model.state_dict().items()}
    write_report(run.base_dir, run)
    assert all(torch.equal(weights[name], weight) for name, weight in run.pipeline.model.state_dict().items())
    before = FinishedEdit(run.base_dir / "config.yml").reconstruction
    assert before is not None
    for view, i in zip(shown, shown_views(run.pipeline.views), strict=True):
        expected = to_bytes(render(before, run.pipeline.views.full_size_camera(i)))
        assert np.abs(view.before.astype(int) - expected).max() <= 1
        assert view.photo is not None and np.array_equal(view.photo, to_bytes(run.pipeline.views.full_size_image(i)))


def test_source_and_edit_turn_side_by_side(finished: Any) -> None:
    run = finished("splat")
    reader = imageio_ffmpeg.read_frames(str(run.base_dir / "turntable.mp4"))
    assert next(reader)["size"] == (2 * 48, 32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)  # imageio_ffmpeg's pipes
        assert len(list(reader)) == 3


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
    assert {b - a for a, b in itertools.pairwise(chosen)} <= {3, 4}


def strict(line: str) -> Any:
    """Read JSON as every reader but Python's own does: NaN and Infinity are none."""
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_step_without_a_number_is_null_in_its_line_and_nan_when_read_back(tmp_path: Path) -> None:
    history = History(tmp_path, 0)
    history.add(Moment(7, math.inf, math.nan, 0.25))
    line = (history.folder / "steps.jsonl").read_text()
    assert strict(line) == {"step": 7, "loss": None, "gradient_rms": None, "seconds": 0.25}
    (moment,) = History.read(tmp_path).moments
    assert (moment.step, moment.seconds) == (7, 0.25) and math.isnan(moment.gradient_rms)


def test_lines_of_earlier_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "steps.jsonl").write_text(
        '{"step": 7, "loss": 1.5, "gradient_rms": NaN, "seconds": 0.25}\n'
    )
    (moment,) = History.read(tmp_path).moments
    assert moment.loss == 1.5 and math.isnan(moment.gradient_rms)


def page_of(folder: Path, **changes: Any) -> str:
    """A report with as little on it as there can be, but for what is given."""
    history = History(folder, 0)
    history.add(Moment(0, 1.0, 0.5, 0.1))
    picture = np.zeros((4, 6, 3), np.uint8)
    given: dict[str, Any] = {
        "title": ("a cat", "a dog"),
        "views": [View("0001", picture, picture)],
        "turntable": None,
        "history": history,
        "figures": {},
        "settings": {},
        "record": folder / "session.jsonl",
    }
    return report(**given | changes)


def noise_view(name: str) -> View:
    picture = np.zeros((4, 6, 3), np.uint8)
    return View(name, picture, picture + np.uint8(90), picture)


def test_the_first_pair_is_large_and_the_photo_stands_beside_it(tmp_path: Path) -> None:
    text = page_of(tmp_path, views=[noise_view(name) for name in ("0001", "0002", "0003")])
    first, rest = text[text.index('class="first"') :].split('<div class="grid">', 1)
    assert first.count('type="range"') == 1 and "Photo of view 0001" in first
    assert rest.count('type="range"') == 2 and "Photo of" not in rest
    assert "100% of the picture has clearly changed" in Page(text).shown


def test_steps_are_counted_from_the_first_that_edits(tmp_path: Path) -> None:
    history = History(tmp_path, 1)
    for step in (400, 450):
        history.add(Moment(step, 1.0, 0.5, 0.1))
        history.add_pictures(step, np.zeros((3, 9, 3), np.uint8), np.zeros((3, 3, 3), np.uint8))
    record = write_record(tmp_path, ["a cow"])
    record.write_text(record.read_text().replace('"step": 3', '"step": 425'))
    page = Page(page_of(tmp_path, history=history, record=record, start=400))
    assert "After step 0" in page.described and "After step 50" in page.described
    assert "25" in page.shown and not re.search(r"4[0-9][0-9]", page.shown)


def test_the_command_and_the_version_are_on_it(tmp_path: Path) -> None:
    lines = ["ns-train pds-splat \\", "    --pipeline.tgt-prompt '<b>\x1b[31ma dog</b>'"]
    shown = Page(page_of(tmp_path, command=lines)).shown
    assert "ns-train pds-splat \\\n    --pipeline.tgt-prompt '<b>a dog</b>'" in shown and __version__ in shown
    assert "Made by" not in Page(page_of(tmp_path)).shown


def test_all_that_is_seen_is_said_in_words_too(finished: Any) -> None:
    page = Page((finished("splat").base_dir / "report.html").read_text())
    seen = [dict(attributes) for tag, attributes in page.tags if tag in ("img", "video", "input")]
    assert seen and all({"alt", "aria-label"} & one.keys() for one in seen) and all(page.described)


def write_record(folder: Path, prompts: list[str]) -> Path:
    lines: list[dict[str, Any]] = [{"step": 0, "action": "set", "time": "1"}]
    lines += [{"step": 3, "action": "edit", "time": "2", "settings": {"tgt_prompt": prompt}} for prompt in prompts]
    record = folder / "session.jsonl"
    record.write_text("\n".join(map(json.dumps, lines)))
    return record


HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "{body} {title} $title $body ${body} %s &lt;b&gt;",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00\x9b1m \u202ereversed",
    "-->]]></title></style><img src=x onerror=alert(1)>",
    "\udcff, of a file name that is no UTF-8",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_person_writes_is_shown_and_never_acted_on(text: str, tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)

    def written(text: str) -> str:
        record = write_record(tmp_path, [text])
        named = {text: text}
        views = [View(text, picture, picture)]
        return page_of(tmp_path, title=(text, text), views=views, figures=named, settings=named, record=record)

    page, plain = Page(written(text)), Page(written("plain"))
    assert not page.open
    assert page.tags == plain.tags  # with the same attributes: the text has made none
    expected = one_line(text)
    assert page.shown.count(expected) == plain.shown.count("plain") >= 8
    assert page.described.count(f"Before and after, view {expected}") == 1
    written(text).encode()


def test_a_prompt_in_any_script_is_shown(tmp_path: Path) -> None:
    page = Page(page_of(tmp_path, title=("狐狸 🦊", "лиса\nв шляпе 👨‍🎨")))
    assert "狐狸 🦊 → лиса в шляпе 👨‍🎨" in page.shown


class TestMeasures:
    @staticmethod
    def table(text: str) -> Measures:
        return Measures(text, (text, "other"), ((text, "1.0", text),), text)

    def test_they_take_the_place_of_those_added_before(self, tmp_path: Path) -> None:
        path = tmp_path / "report.html"
        path.write_text(page_of(tmp_path), encoding="utf-8")
        before = Page(path.read_text(encoding="utf-8")).shown
        for text in ("first", "anew"):
            assert add_measures(path, [self.table(text)])
        page = Page(path.read_text(encoding="utf-8"))
        assert not page.open
        assert page.shown.count("anew") == 5 and "first" not in page.shown
        assert page.shown.startswith(before[: before.index("Settings")].rstrip())
        assert [file.name for file in tmp_path.glob("report*")] == ["report.html"]

    @pytest.mark.parametrize("text", HOSTILE)
    def test_their_text_is_shown_and_never_acted_on(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "report.html"
        pages = []
        for written in (text, "plain"):
            path.write_text(page_of(tmp_path), encoding="utf-8")
            add_measures(path, [self.table(written)])
            pages.append(Page(path.read_text(encoding="utf-8")))
        assert pages[0].tags == pages[1].tags and pages[0].shown.count(one_line(text)) == 5

    def test_where_no_report_has_a_place_for_them_nothing_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "report.html"
        assert not add_measures(path, []) and not path.exists()
        path.write_text("<p>of an earlier version</p>")
        assert not add_measures(path, []) and path.read_text() == "<p>of an earlier version</p>"


def test_without_a_source_prompt_the_title_is_the_target_alone(tmp_path: Path) -> None:
    page = Page(page_of(tmp_path, title=("", "give it a hat")))
    assert "give it a hat" in page.shown and "→" not in page.shown


class TestSize:
    """The page has no more than `PAGE_BYTES`, whatever it is made of."""

    @staticmethod
    def noise(height: int, width: int, seed: int = 0) -> Picture:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def test_of_large_pictures_full_of_detail(self, tmp_path: Path) -> None:
        """Noise is what compresses worst; each part of the page alone would have more than the page may."""
        wide, tall = self.noise(1080, 1920), self.noise(960, 540)
        history = History(tmp_path, 1)
        history.folder.mkdir()
        for step in range(STRIP_PICTURES):
            (history.folder / f"view-{step:09d}.jpg").write_bytes(jpeg(self.noise(512, 512)))
        turntable = write_video(tmp_path / "turntable.mp4", (self.noise(960, 540, i) for i in range(24)), 30)
        assert turntable.stat().st_size > PAGE_BYTES
        text = page_of(
            tmp_path,
            views=[View(f"view {i}", wide, wide) for i in range(3)] + [View(f"view {i}", tall, tall) for i in range(3)],
            turntable=turntable,
            history=history,
            record=write_record(tmp_path, ['"' * 1000] * 1000),
            settings={f"setting {i}": "<" * 1000 for i in range(20)},
        )
        assert len(text.encode()) <= PAGE_BYTES
        page = Page(text)
        assert [tag for tag, _ in page.tags].count("img") == 12 + STRIP_PICTURES
        assert [tag for tag, _ in page.tags].count("video") == 1
        assert all(address.startswith("data:") for address in page.addresses)

    def test_what_is_small_keeps_its_size(self, tmp_path: Path) -> None:
        tall = self.noise(960, 540) // 64 + 100
        text = page_of(tmp_path, views=[View("a", tall, tall)])
        files = [base64.b64decode(address.split(",")[1]) for address in Page(text).addresses]
        assert [Image.open(io.BytesIO(file)).size for file in files] == [(540, 960)] * 2

    def test_a_long_record_is_cut_to_its_end(self, tmp_path: Path) -> None:
        record = write_record(tmp_path, [f"prompt {i}" for i in range(100)])
        shown = Page(page_of(tmp_path, record=record)).shown
        assert "prompt 99" in shown and "prompt 10" not in shown and "of 100" in shown


class TestEverybodysPage:
    @pytest.fixture
    def text(self, tmp_path: Path) -> str:
        turntable = write_video(tmp_path / "turntable.mp4", [np.zeros((8, 8, 3), np.uint8)] * 3, 30)
        return page_of(tmp_path, turntable=turntable)

    def test_it_may_fetch_nothing(self, text: str) -> None:
        assert "default-src 'none'" in text

    def test_a_slider_is_an_input_with_a_name(self, text: str) -> None:
        (slider,) = (dict(attributes) for tag, attributes in Page(text).tags if tag == "input")
        assert slider["type"] == "range" and slider["aria-label"] == "aria-label"
        assert "Before and after, view 0001" in Page(text).described

    def test_nothing_moves_for_those_who_do_not_want_it(self, text: str) -> None:
        (video,) = (dict(attributes) for tag, attributes in Page(text).tags if tag == "video")
        assert "autoplay" not in video and {"muted", "playsinline", "controls"} <= video.keys()
        assert "prefers-reduced-motion" in text

    def test_it_has_a_dark_and_a_printed_form(self, text: str) -> None:
        assert "prefers-color-scheme: dark" in text and "@media print" in text and "width=device-width" in text
