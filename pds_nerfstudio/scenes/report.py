"""report.html: an edit on one page that needs nothing but a browser, no network and no other file."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pds_nerfstudio.scenes.history import History
from pds_nerfstudio.scenes.pictures import data_url, jpeg, plot
from pds_nerfstudio.scenes.progress import clock, peak_memory_gb
from pds_nerfstudio.scenes.results import Picture, shown_views, to_bytes

if TYPE_CHECKING:
    from pds_nerfstudio.scenes.trainer import EditTrainer

_LARGEST_SIDE = 640
_MEDIA_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}


def write_report(folder: Path, trainer: EditTrainer) -> Path:
    """Write report.html of a run whose results lie in `folder` already; returns its path."""
    pipeline = trainer.pipeline
    views = shown_views(pipeline)
    before = [to_bytes(pipeline.views.full_size_image(i)) for i in views]
    images = json.loads((folder / "edited_views" / "transforms.json").read_text())["frames"]
    after = [np.array(Image.open(folder / "edited_views" / images[i]["file_path"])) for i in views]
    page = report(
        title=(pipeline.config.src_prompt, pipeline.config.tgt_prompt),
        pairs=list(zip(before, after, strict=True)),
        turntable=next(iter(sorted(folder.glob("turntable.*"))), None),
        history=trainer.history,
        figures=figures(trainer, before, after),
        settings=settings(trainer),
        record=trainer.base_dir / "session.jsonl",
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def figures(trainer: EditTrainer, before: Sequence[Picture], after: Sequence[Picture]) -> dict[str, str]:
    """What was measured, by its name."""
    moments = trainer.history.moments
    seconds = sum(moment.seconds for moment in moments)
    changes = [float(np.square((a.astype(float) - b) / 255).mean()) for a, b in zip(after, before, strict=True)]
    change = sum(changes) / len(changes)
    return {
        "edit steps": str(len(moments)),
        "time in these steps": clock(seconds),
        "seconds a step": f"{seconds / max(1, len(moments)):.3g}",
        "peak memory": f"{peak_memory_gb():.2f} GB",
        "PSNR of the edited to the source views": f"{-10 * math.log10(max(change, 1e-10)):.1f} dB",
        "steps left out (gradient not finite)": str(getattr(trainer.optimizers, "skipped", 0)),
    }


def settings(trainer: EditTrainer) -> dict[str, str]:
    """The settings of a run that a reader wants to know; config.yml has all."""
    config = trainer.config.pipeline
    session = {name: value for name, value in trainer.pipeline.settings.items() if not name.endswith("_prompt")}
    chosen = {
        "method": trainer.config.method_name,
        "data": config.datamanager.data,
        "model": config.guidance.model,
        **session,
        "num_inference_steps": config.guidance.num_inference_steps,
        "photometric_loss_mult": config.photometric_loss_mult,
        "lr_mult": config.lr_mult,
        "seed": config.guidance.seed,
    }
    return {name.replace("_", " "): str(value) for name, value in chosen.items()}


def report(
    title: tuple[str, str],
    pairs: Sequence[tuple[Picture, Picture]],
    turntable: Path | None,
    history: History,
    figures: Mapping[str, str],
    settings: Mapping[str, str],
    record: Path,
) -> str:
    """The page.

    Args:
        title: The source and the target prompt.
        pairs: Pictures before and after, of one size each.
        turntable: A video or gif.
        history: For the plots and the strip.
        figures: What was measured, by its name.
        settings: Of the run, by their names.
        record: Of the session; what it holds beyond the beginning is shown.
    """
    source, target = map(html.escape, title)
    plots = [
        plot("loss", {"loss": history.series("loss")}),
        plot("gradient (root mean square)", {"gradient": history.series("gradient_rms")}),
        plot("seconds a step", {"seconds": history.series("seconds")}),
    ]
    strip = [
        f'<figure><img src="{image_url(image)}" alt=""><figcaption>{step}</figcaption></figure>'
        for step, image in history.strip().items()
    ]
    sliders = [slider(*pair, f"view {number}") for number, pair in enumerate(pairs, 1)]
    parts = [
        f"<h1>{source} <span>→</span> {target}</h1>",
        "<h2>Before and after</h2><p>Move the handle, or use the arrow keys.</p>",
        '<div class="grid">' + "".join(sliders) + "</div>",
        *([f"<h2>From all around</h2>{_turntable(turntable)}"] if turntable else []),
        *([f'<h2>Step by step</h2><div class="strip">{"".join(strip)}</div>'] if strip else []),
        "<h2>Over the steps</h2>" + '<div class="plots">' + "".join(plots) + "</div>",
        '<div class="tables">' + _table("Figures", figures) + _table("Settings", settings) + "</div>",
        _asked(record),
    ]
    return page(f"{source} → {target}", parts)


def page(title: str, parts: Sequence[str]) -> str:
    """An HTML document in the style of the reports; `slider` works in it.

    Args:
        title: Escaped.
        parts: Of its body; empty ones are left out.
    """
    head, tail = _PAGE.split("{body}")
    return head.replace("{title}", title) + "\n".join(filter(None, parts)) + tail


def image_url(picture: Picture) -> str:
    """A picture, made smaller if it is large, as a URL to be written into a page."""
    image = Image.fromarray(picture)
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
    return data_url(jpeg(np.array(image), 88), "image/jpeg")


def slider(before: Picture, after: Picture, name: str) -> str:
    """Two pictures of one size over each other, with a handle between them.

    Args:
        before: On the left.
        after: On the right.
        name: What they show, for those who can't see them; escaped.
    """
    return (
        f'<div class="pair" style="--at:50%"><img src="{image_url(after)}" alt="after">'
        f'<img class="before" src="{image_url(before)}" alt="before"><i></i>'
        f'<input type="range" min="0" max="100" value="50" step="0.5" aria-label="before and after, {name}">'
        "</div>"
    )


def _turntable(path: Path) -> str:
    url = data_url(path.read_bytes(), _MEDIA_TYPES[path.suffix])
    if path.suffix == ".gif":
        return f'<img class="turntable" src="{url}" alt="turntable">'
    return f'<video class="turntable" src="{url}" autoplay loop muted controls playsinline></video>'


def _table(title: str, rows: Mapping[str, str]) -> str:
    body = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in rows.items())
    return f"<section><h2>{title}</h2><table>{body}</table></section>"


def _asked(record: Path) -> str:
    """What was asked for in the viewer: all lines of the record but the first, which says how the run began."""
    lines = record.read_text(encoding="utf-8").splitlines()[1:] if record.exists() else []
    rows = []
    for entry in map(json.loads, lines):
        changes = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in entry.get("settings", {}).items())
        cells = (str(entry["step"]), entry["time"], entry["action"], changes)
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    if not rows:
        return ""
    return (
        "<section><h2>Asked for in the viewer</h2><table><tr><th>before step</th><th>at</th><th>what</th><th></th></tr>"
        f"{''.join(rows)}</table></section>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h1 span { color: #e8824c; } h2 { font-size: 1.1em; margin: 1.8em 0 .5em; }
p { margin: .3em 0; opacity: .7; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
.pair { position: relative; line-height: 0; }
.pair img { width: 100%; border-radius: 6px; }
.pair .before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.pair i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; background: #fff;
  box-shadow: 0 0 4px #000; }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.pair:focus-within { outline: 2px solid #e8824c; border-radius: 6px; }
.turntable { max-width: 100%; min-width: 320px; border-radius: 6px; }
.strip { display: flex; gap: 4px; overflow-x: auto; }
.strip figure { margin: 0; text-align: center; font-size: 12px; opacity: .9; }
.strip img { width: 128px; display: block; border-radius: 4px; }
.plots { display: flex; flex-wrap: wrap; gap: 12px; }
.tables { display: flex; flex-wrap: wrap; gap: 0 48px; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); font-weight: normal; }
th { opacity: .7; }
</style>
</head>
<body>
{body}
<script>
for (const pair of document.querySelectorAll(".pair"))
  pair.querySelector("input").oninput = event => pair.style.setProperty("--at", event.target.value + "%");
</script>
</body>
</html>
"""
