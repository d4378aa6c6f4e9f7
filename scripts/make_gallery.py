"""Make a gallery of edits of the embedded world, drawn from a seed, beside their true edits.

Pictures, splats and drawings are edited. The script leaves a page with before/after sliders (index.html, for any
browser, offline), a sheet of all (gallery.jpg) and their prompts as a table (gallery.md). Edits that are done are not
made again, so a cut run goes on where it was; nothing is picked by hand.

    python scripts/make_gallery.py --seed 11 --jobs 2
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from pds_nerfstudio.contact_sheet import contact_sheet
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.benchmark import Benchmark, plan, read, run
from pds_nerfstudio.page import Picture, image_url, page, slider

FEW_KINDS = ("arms", "hat added", "color", "subject")


@dataclass
class Gallery:
    """What to show."""

    out: Path = Path("outputs/gallery")
    """Folder for the edits and the gallery."""
    pictures: int = 8
    """Edits of single pictures; the kinds of edits take turns."""
    splats: int = 4
    """Edits of Gaussian splats, each with its own reconstruction: minutes each without a GPU."""
    drawings: int = 4
    """Edits of SVG drawings."""
    seed: int = 0
    """Seed of the drawn edits, and of the guidance's noise."""
    views: int = 6
    """Held-out cameras to score a splat from; the first is shown."""
    jobs: int = 1
    """Edits to run at a time."""


@dataclass(frozen=True)
class Exhibit:
    """One edit."""

    prompts: tuple[str, str]
    """Source and target."""
    before: Picture
    """The source."""
    edited: Picture
    """The edit."""
    truth: Picture
    """What a perfect edit looks like."""
    scores: dict[str, float]
    """Of `evaluation.toyworld.EditScores`, by their names."""


def main(gallery: Gallery) -> None:
    """Make what is missing, then the page, the sheet and the table."""
    rooms = {
        "Pictures": list(rendered(gallery, "image", (), gallery.pictures)),
        "Gaussian splats, from a camera that was never trained on": list(
            rendered(gallery, "splat", FEW_KINDS, gallery.splats)
        ),
        "Drawings": list(rendered(gallery, "svg", FEW_KINDS, gallery.drawings)),
    }
    rooms = {title: exhibits for title, exhibits in rooms.items() if exhibits}
    (gallery.out / "index.html").write_text(gallery_page(rooms), "utf-8")
    sheet(rooms).save(gallery.out / "gallery.jpg", quality=88)
    (gallery.out / "gallery.md").write_text(table(rooms), "utf-8")
    print(f"Wrote index.html, gallery.jpg and gallery.md in {gallery.out}")


def rendered(gallery: Gallery, representation: str, kinds: tuple[str, ...], n: int) -> Iterator[Exhibit]:
    """Yield edits of the benchmark of edits, made where they are missing."""
    if not n:
        return
    benchmark = Benchmark(
        variants=("pds",),
        representation=representation,
        kinds=kinds,
        cases=n,
        pairs=0,
        seed=gallery.seed,
        views=gallery.views,
        batch=1,
        jobs=gallery.jobs,
        out=gallery.out / representation,
    )
    run(benchmark)
    rows = read(benchmark.out / "cases.jsonl")
    for block in plan(benchmark):
        for row in map(rows.__getitem__, block.keys()):
            before, edited, truth = (
                np.array(Image.open(benchmark.out / "pictures" / row["pictures"][what]))[:, : benchmark.size]
                for what in ("before", "edited", "truth")
            )
            yield Exhibit(row["prompts"], before, edited, truth, row["scores"])


def figures(exhibit: Exhibit) -> str:
    """Return how near the edit is to the true one, in words."""
    scores = exhibit.scores
    return f"{scores['psnr_true']:.1f} dB to the true edit ({scores['psnr_true_unedited']:.1f} unedited)"


def gallery_page(rooms: dict[str, list[Exhibit]]) -> str:
    """Return the page: sliders between before and after, each beside the true edit."""
    parts = [
        "<style>.two { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; } .two > img { width: 100%; }</style>",
        "<h1>A gallery of edits</h1><p>Before and after: move the handle. Beside it: the true edit. Drawn from a seed, "
        "none picked by hand; embedded model, default settings.</p>",
    ]
    for title, exhibits in rooms.items():
        cells = []
        for exhibit in exhibits:
            source, target = map(html.escape, exhibit.prompts)
            pair = slider(exhibit.before, exhibit.edited, exhibit.prompts[1])
            truth = f'<img src="{image_url(exhibit.truth)}" alt="true edit">'
            cells.append(
                f'<section><div class="two">{pair}{truth}</div>'
                f"<b>{target}</b><p>{source}<br>{figures(exhibit)}</p></section>"
            )
        parts.append(f'<h2>{html.escape(title)}</h2><div class="grid">{"".join(cells)}</div>')
    return page("A gallery of edits", parts)


def sheet(rooms: dict[str, list[Exhibit]], side: int = 128, columns: int = 8) -> Image.Image:
    """Return a sheet of all exhibits: source, edit and true edit above each other."""
    strips = {}
    for title, exhibits in rooms.items():
        for first in range(0, len(exhibits), columns):
            some, numbers = exhibits[first : first + columns], f"{first + 1} to {min(first + columns, len(exhibits))}"
            strips[f"{title}, {numbers}: source"] = [exhibit.before for exhibit in some]
            strips[f"{title}, {numbers}: edit"] = [exhibit.edited for exhibit in some]
            strips[f"{title}, {numbers}: true edit"] = [exhibit.truth for exhibit in some]
    return contact_sheet(strips, side=side)


def table(rooms: dict[str, list[Exhibit]]) -> str:
    """Return the prompts and figures as Markdown."""
    lines = []
    for title, exhibits in rooms.items():
        lines += [f"**{title}**", "", "| | source | target | |", "|---|---|---|---|"]
        lines += [
            f"| {number} | {exhibit.prompts[0]} | {exhibit.prompts[1]} | {figures(exhibit)} |"
            for number, exhibit in enumerate(exhibits, 1)
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main(tyro.cli(Gallery, description=__doc__))
    except UserError as error:
        sys.exit(f"Error: {error}")
