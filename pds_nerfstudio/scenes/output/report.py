"""report.html: an edit on one page that needs nothing but a browser, no network and no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pds_nerfstudio.again import command_in
from pds_nerfstudio.measures import decibels
from pds_nerfstudio.page import (
    VIEW_SIDE,
    Fineness,
    Picture,
    as_text,
    command_section,
    data_url,
    heading,
    image_url,
    page,
    slider,
)
from pds_nerfstudio.scenes.output.before import SceneBefore
from pds_nerfstudio.scenes.output.history import History
from pds_nerfstudio.scenes.output.pictures import plot, to_bytes
from pds_nerfstudio.scenes.output.results import shown_views
from pds_nerfstudio.scenes.progress import clock, peak_memory_gb
from pds_nerfstudio.scenes.run import Run
from pds_nerfstudio.verdict import Change
from pds_nerfstudio.video import shrink_video
from pds_nerfstudio.whole_files import write_text

PAGE_BYTES = 3_000_000
"""Largest size of a report, whatever the scene, so that it can be sent to others."""
_VIEWS_SHARE, _VIDEO_SHARE, _STRIP_SHARE = 0.5, 0.25, 0.05
"""Shares of the page; the rest is for its text, which the next two numbers bound."""
_MOST_REQUESTS = 80
_VIEW_SIDE, _VIDEO_SIDE, _STRIP_SIDE = VIEW_SIDE, 640, 256
"""Pixels of the longer side, if the page has room for them."""
_MEASURES_BEGIN, _MEASURES_END = "<!-- measures -->", "<!-- end of measures -->"


@dataclass(frozen=True)
class Measures:
    """A table of what was measured after the run."""

    title: str
    """By what, in a few words."""
    columns: Sequence[str]
    """Above the numbers, from the second column on."""
    rows: Sequence[Sequence[str]]
    """Each begins with what was measured."""
    note: str = ""
    """What a reader should know of it."""


@dataclass(frozen=True)
class View:
    """A view before and after the edit, in pictures of one size."""

    name: str
    """Name of its image file, without the ending."""
    before: Picture
    """The scene before the edit; the photo, where the run has not kept that scene."""
    after: Picture
    """The edit."""
    photo: Picture | None = None
    """The photo, where that is another picture."""


def write_report(folder: Path, run: Run) -> Path:
    """Write report.html of a run whose results lie in `folder` already; return its path."""
    sources, prompts = run.pipeline.views, run.pipeline.settings
    before = SceneBefore.of(run.pipeline.model, run.source_folder)
    frames = json.loads((folder / "edited_views" / "transforms.json").read_text())["frames"]
    views = []
    for i in shown_views(sources):
        edited = folder / "edited_views" / frames[i]["file_path"]
        photo, after = to_bytes(sources.full_size_image(i)), np.array(Image.open(edited))
        if before is None:
            views.append(View(edited.stem, photo, after))
        else:
            views.append(View(edited.stem, to_bytes(before.render(sources.full_size_camera(i))), after, photo))
    turntable = folder / "turntable.mp4"
    page = report(
        title=(prompts["src_prompt"], prompts["tgt_prompt"]),
        views=views,
        turntable=turntable if turntable.exists() else None,
        history=run.history,
        figures=figures(run, views),
        settings=run.facts,
        record=run.base_dir / "session.jsonl",
        start=run.pipeline.plan.start,
        command=command_in(run.base_dir),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def figures(run: Run, views: Sequence[View]) -> dict[str, str]:
    """Return what was measured, by its name."""
    moments = run.history.moments
    seconds = sum(moment.seconds for moment in moments)
    changes = [float(np.square((view.after.astype(float) - view.before) / 255).mean()) for view in views]
    change = torch.tensor(sum(changes) / len(changes), dtype=torch.float64)
    return {
        "edit steps": str(len(moments)),
        "time in these steps": clock(seconds),
        "seconds a step": f"{seconds / max(1, len(moments)):.3g}",
        "peak memory": f"{peak_memory_gb():.2f} GB",
        "PSNR of the edited views to those before": f"{decibels(change, most=100):.1f} dB",
        "steps left out (gradient not finite)": str(run.skipped_steps),
    }


def report(
    title: tuple[str, str],
    views: Sequence[View],
    turntable: Path | None,
    history: History,
    figures: Mapping[str, str],
    settings: Mapping[str, str],
    record: Path,
    start: int = 0,
    command: Sequence[str] = (),
) -> str:
    """Return the page, of `PAGE_BYTES` at most.

    Args:
        title: The source prompt, which may be empty, and the target prompt.
        views: To compare.
        turntable: An mp4; the page has a smaller copy.
        history: For the plots and the strip.
        figures: What was measured, by its name.
        settings: Of the run, by their names.
        record: Of the session; what it holds beyond the beginning is shown.
        start: The first step of the edit; steps are shown from there.
        command: That made the edit, in lines.
    """
    verdict = Change.between([view.before for view in views], [view.after for view in views]).words
    plots = [
        plot(label, {label: [(step - start, value) for step, value in history.series(name)]}, width=320)
        for name, label in (
            ("loss", "loss"),
            ("gradient_rms", "gradient (root mean square)"),
            ("seconds", "seconds a step"),
        )
    ]
    parts = [
        heading(*title, verdict),
        _views(views),
        _turntable(turntable, both=views[0].photo is not None),
        _strip(history, start),
        f'<section><h2>Over the steps</h2><div class="plots">{"".join(plots)}</div></section>',
        _figures(figures),
        _MEASURES_BEGIN + _MEASURES_END,
        f"<section><h2>Settings</h2>{_table(list(settings.items()))}</section>",
        command_section(command),
        _asked(record, start),
    ]
    return page(" → ".join(filter(None, title)), parts)


def add_measures(path: Path, tables: Sequence[Measures]) -> bool:
    """Write tables into a report that exists, in place of those that were added before.

    Args:
        path: Of report.html.
        tables: To add.

    Returns:
        Whether there is such a report, with a place for them; those of earlier versions have none.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(_MEASURES_BEGIN)
    _, end, after = rest.partition(_MEASURES_END)
    if not begin or not end:
        return False
    shown = [
        f"<h3>{as_text(table.title)}</h3>{f'<p>{as_text(table.note)}</p>' if table.note else ''}"
        f"{_table(table.rows, ('', *table.columns))}"
        for table in tables
    ]
    section = f"<section><h2>Measured by pds-eval</h2>{''.join(shown)}</section>"
    write_text(path, before + begin + section + end + after)
    return True


def _bytes(share: float) -> int:
    """Return how many bytes files may have that take a share of the page; written as text they grow by a third."""
    return int(share * PAGE_BYTES * 3 / 4)


def _views(views: Sequence[View]) -> str:
    """Return the views to compare: the first large, with its photo beside it."""
    shown = [picture for view in views for picture in (view.before, view.after)]
    photos = [views[0].photo] if views[0].photo is not None else []
    fineness = Fineness.that_fits([*shown, *photos], _VIEW_SIDE, _bytes(_VIEWS_SHARE))
    compared = [
        f"<figure>{slider(view.before, view.after, f'view {view.name}', fineness)}"
        f"<figcaption>View {as_text(view.name)}</figcaption></figure>"
        for view in views
    ]
    beside = [
        f'<figure><img src="{image_url(photo, fineness)}" width="{photo.shape[1]}" height="{photo.shape[0]}" '
        f'alt="Photo of view {as_text(views[0].name)}"><figcaption>The photo of this view</figcaption></figure>'
        for photo in photos
    ]
    kept = "Before is the scene as it was reconstructed from the photos. " if photos else ""
    return (
        f"<section><h2>Before and after</h2><p>{kept}Drag the handle, or use the arrow keys.</p>"
        f'<div class="first">{compared[0]}{"".join(beside)}</div>'
        f'<div class="grid">{"".join(compared[1:])}</div></section>'
    )


def _turntable(path: Path | None, both: bool) -> str:
    video = None if path is None else shrink_video(path, _VIDEO_SIDE, _bytes(_VIDEO_SHARE))
    if video is None:
        return ""
    shown = "Before on the left, after on the right. " if both else ""
    kind = ' class="both"' if both else ""
    label = "The scene before and after the edit" if both else "The edited scene"
    return (
        "<section><h2>From all around</h2>"
        f'<video{kind} src="{data_url(video, "video/mp4")}" aria-label="{label}, from all around" '
        f"loop muted controls playsinline></video><p>{shown}In full size: turntable.mp4, beside this page.</p>"
        "</section>"
    )


def _strip(history: History, start: int) -> str:
    pictures = history.strip()
    if not pictures:
        return ""
    fineness = Fineness.that_fits(list(pictures.values()), _STRIP_SIDE, _bytes(_STRIP_SHARE))
    shown = [
        f'<figure><img src="{image_url(picture, fineness)}" alt="After step {step - start}">'
        f"<figcaption>{step - start}</figcaption></figure>"
        for step, picture in pictures.items()
    ]
    return (
        "<section><h2>Step by step</h2><p>The first view, after this step of the edit.</p>"
        f'<div class="strip">{"".join(shown)}</div></section>'
    )


def _figures(figures: Mapping[str, str]) -> str:
    shown = [f"<div><dt>{as_text(name)}</dt><dd>{as_text(value)}</dd></div>" for name, value in figures.items()]
    return f"<section><h2>Figures</h2><dl>{''.join(shown)}</dl></section>"


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str] = ()) -> str:
    """Return a table whose rows begin with what they are about."""
    head = "".join(f'<th scope="col">{as_text(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{as_text(first)}</th>{"".join(f"<td>{as_text(cell)}</td>" for cell in others)}</tr>'
        for first, *others in rows
    )
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _asked(record: Path, start: int) -> str:
    """Return what was asked for in the viewer: the lines of the record but the first, which says how the run began."""
    lines = record.read_text(encoding="utf-8").splitlines()[1:] if record.exists() else []
    if not lines:
        return ""
    rows = []
    for entry in map(json.loads, lines[-_MOST_REQUESTS:]):
        changes = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in entry.get("settings", {}).items())
        rows.append((str(max(0, entry["step"] - start)), entry["time"], entry["action"], changes))
    more = f"<p>The last {len(rows)} of {len(lines)}; session.jsonl has all.</p>" if len(rows) < len(lines) else ""
    table = _table(rows, ("before step", "at", "what", "with"))
    return f"<section><h2>Asked for in the viewer</h2>{more}{table}</section>"
