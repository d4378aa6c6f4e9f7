"""Edit drawn things of the embedded world in every way that is to be compared, and score all against the true edits.

Writes one line a finished edit, so that a run that was cut goes on where it was, and from these a table (on screen and
as table.json), a plot of success versus fidelity, and a contact sheet.

    python scripts/benchmark_edits.py --cases 64 --pairs 32 --seed 7 --out outputs/benchmark
    python scripts/benchmark_edits.py --variants pds pds,localize=0 pds,guidance_scale=15,steps=500 dds sds,localize=0
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import tyro
from jaxtyping import Float
from representations import REPRESENTATIONS, Representation, Setup, Variant
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.cases import ATTRIBUTE_OF, OF_PHOTOS, PAIR, EditCase, draw_cases
from pds_nerfstudio.evaluation.toyworld import score
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL, find_model
from pds_nerfstudio.toyworld.grammar import Style

COLUMNS = (
    "success",
    "kept",
    "psnr_true",
    "psnr_true_unedited",
    "psnr_inside",
    "psnr_outside",
    "psnr_source",
    "ssim_true",
    "ssim_outside",
    "perceptual_true",
    "perceptual_source",
    "consistency",
    "seconds",
)
"""Of the table on the screen; table.json has all scores."""


MOST_DECIBELS = 60.0
"""What a picture gets that is the same to the byte, so that means stay finite."""
FIDELITY = {
    "psnr_true": "dB to the true edit",
    "psnr_outside": "dB to the source where nothing should change",
}


@dataclass
class Benchmark:
    """What to compare."""

    variants: tuple[str, ...] = ("pds", "dds", "sds,localize=0", "dds,localize=0,refine=0", "sds,localize=0,refine=0")
    """Ways to edit: an objective, and after commas any options that differ from the defaults of the representation, as
    name=value with the names of the guidance's options (guidance_scale, localize, t_max ...) or of the edit's (steps,
    latent_lr, parameters ...). Without mask and refinement, baselines are as published."""
    representation: str = "image"
    """What is edited: image, svg, or splat or nerf (minutes an edit without a GPU)."""
    kinds: tuple[str, ...] = ()
    """Kinds of edits to draw, in turn: arms, hat added, hat removed, balloon, color, subject, ground, sky, style. Given
    none, all but style; of an svg all but the last three."""
    cases: int = 64
    """Edits to draw of these kinds."""
    pairs: int = 32
    """Edits to draw that change two attributes at once."""
    seed: int = 0
    """Of what is drawn, and of the guidance's noise."""
    size: int = 128
    """Side of the pictures, in pixels."""
    views: int = 6
    """Held-out cameras to judge a scene from; a picture has its one."""
    batch: int = 8
    """Pictures to edit at a time in one process: large on a GPU. They share one stream of noise, so another number
    gives other results."""
    jobs: int = 1
    """Processes to work at a time."""
    device: str = "auto"
    """Where to work; 'auto' takes the first GPU, else the CPU."""
    sheet_cases: int = 12
    """Cases to show on the contact sheet."""
    out: Path = Path("outputs/benchmark")
    """Folder for the results. A second call with the same folder does what is missing there."""


@dataclass(frozen=True)
class Block:
    """Cases that are edited together: the unit of work, and of what is not done again."""

    representation: str
    variant: Variant
    setup: Setup
    model: str
    cases: tuple[EditCase, ...]

    def make(self) -> Representation:
        """What edits the cases."""
        return REPRESENTATIONS[self.representation](self.variant, self.setup)

    def keys(self) -> list[str]:
        """For each case, everything that its result depends on."""
        setup = {name: value for name, value in asdict(self.setup).items() if name != "out"}
        settings = self.make().settings() | setup | {"representation": self.representation, "model": self.model}
        settings["together"] = [case.index for case in self.cases]
        return [json.dumps(settings | asdict(case), sort_keys=True) for case in self.cases]

    def run(self) -> list[dict[str, Any]]:
        """Edit and score the cases, and save their pictures; returns a row for each."""
        rows = []
        for key, case, result in zip(self.keys(), self.cases, self.make().edit(self.cases), strict=True):
            files = {}
            for what in ("before", "truth", "edited"):
                files[what] = hashlib.sha256(f"{what} {key}".encode()).hexdigest()[:16] + ".png"
                save_row(getattr(result, what), self.setup.out / "pictures" / files[what])
            scores = plain(asdict(score(case.source, case.target, result.before, result.truth, result.edited)))
            about = {"variant": self.variant.text, "kind": case.kind, "index": case.index, "prompts": case.prompts}
            rows.append({"key": key, **about, "scores": scores | {"seconds": result.seconds}, "pictures": files})
        return rows


def main(benchmark: Benchmark) -> None:
    """Draw, edit what is missing, report."""
    blocks = plan(benchmark)
    (benchmark.out / "pictures").mkdir(parents=True, exist_ok=True)
    record = benchmark.out / "cases.jsonl"
    done = read(record)
    wanted = [(block.variant.text, key) for block in blocks for key in block.keys()]
    by_keys = {tuple(block.keys()): block for block in blocks}  # two texts may say the same
    missing = [block for keys, block in by_keys.items() if any(key not in done for key in keys)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, record.open("a") as lines:
        total, left = (sum(len(block.cases) for block in some) for some in (by_keys.values(), missing))
        bar = progress.add_task("Editing", total=total, completed=total - left)
        for rows in work(missing, benchmark.jobs):
            for row in rows:
                done[row["key"]] = row
                lines.write(json.dumps(row) + "\n")
            lines.flush()
            progress.advance(bar, len(rows))
    report(benchmark, [done[key] | {"variant": variant} for variant, key in wanted])


def read(record: Path) -> dict[str, dict[str, Any]]:
    """The rows of finished cases by their keys."""
    done = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # the run was cut in the middle of a line
            continue
        done[row["key"]] = row
    return done


def plan(benchmark: Benchmark) -> list[Block]:
    """All there is to do.

    Raises:
        UserError: If an option means nothing.
    """
    if benchmark.representation not in REPRESENTATIONS:
        choices = " or ".join(REPRESENTATIONS)
        raise UserError(f"There is no representation '{benchmark.representation}': choose {choices}.")
    for name in ("batch", "jobs", "views", "size"):
        if getattr(benchmark, name) < 1:
            raise UserError(f"{name} is {getattr(benchmark, name)}: give at least 1.")
    if max(benchmark.cases, benchmark.pairs) < 1:
        raise UserError("There is nothing to do: give --cases or --pairs.")
    setup = Setup(benchmark.seed, benchmark.size, benchmark.views, benchmark.device, benchmark.out)
    blocks = []
    for text in benchmark.variants:
        representation = REPRESENTATIONS[benchmark.representation](Variant(text), setup)
        model = fingerprint(representation.settings()["guidance"].get("model", EMBEDDED_MODEL))
        step = representation.batch or benchmark.batch
        for cases in _draw(benchmark, representation.style):
            for first in range(0, len(cases), step):
                some = tuple(cases[first : first + step])
                blocks.append(Block(benchmark.representation, Variant(text), setup, model, some))
    return blocks


def _draw(benchmark: Benchmark, style: Style) -> tuple[list[EditCase], list[EditCase]]:
    """The edits of one attribute, and those of two."""
    kinds = benchmark.kinds or tuple(kind for kind in ATTRIBUTE_OF if style == "photo" or kind not in OF_PHOTOS)
    try:
        singles = draw_cases(kinds, benchmark.cases, benchmark.seed, style)
        return singles, draw_cases([PAIR], benchmark.pairs, benchmark.seed, style)
    except ValueError as error:
        raise UserError(f"{error}.") from None


def fingerprint(model: str) -> str:
    """A model's name, with a hash of its weights where they are at hand: results of other weights are other results."""
    if model != EMBEDDED_MODEL and not Path(model).is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(find_model(model).rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return f"{model} {digest.hexdigest()[:12]}"


def work(blocks: Sequence[Block], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each block as they get done, in this process or in several."""
    if jobs == 1:
        yield from map(Block.run, blocks)
        return
    # Spawned, because a process that has used a GPU or threads must not be forked.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(Block.run, block) for block in blocks]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def save_row(pictures: Float[Tensor, "views 3 height width"], path: Path) -> None:
    """Save views side by side."""
    row = torch.cat(list(pictures), dim=2).permute(1, 2, 0)
    PIL.Image.fromarray((row.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()).save(path)


def report(benchmark: Benchmark, rows: list[dict[str, Any]]) -> None:
    """Table, plot and contact sheet of all cases."""
    drawn = tuple(dict.fromkeys(row["kind"] for row in rows if row["kind"] != PAIR))
    table: list[dict[str, Any]] = [
        {"variant": variant, "kind": kind, "cases": len(some), **means(some)}
        for kind, kinds in {"all single": drawn, **{kind: (kind,) for kind in (*drawn, PAIR)}}.items()
        for variant in dict.fromkeys(benchmark.variants)
        if (some := [row for row in rows if row["variant"] == variant and row["kind"] in kinds])
    ]
    head = ("kind", "variant", "cases", *COLUMNS)
    lines = ["| " + " | ".join(column.replace("_", " ") for column in head) + " |", "|" + "---|" * len(head)]
    for line in table:
        cells = (
            f"{v:.3g}" if isinstance(v := line[column], float) else "–" if v is None else str(v) for column in head
        )
        lines.append("| " + " | ".join(cells) + " |")
    print("\n".join(lines))
    out = benchmark.out
    (out / "table.json").write_text(json.dumps(table, indent=1) + "\n")
    (out / "table.md").write_text("\n".join(lines) + "\n")
    plot(table, out / "success-fidelity.png")
    sheet(benchmark, rows).save(out / "sheet.png")
    print(f"Wrote table.json, table.md, success-fidelity.png and sheet.png in {out}")


def plain(scores: dict[str, float]) -> dict[str, float | None]:
    """Scores as JSON can hold them: what does not exist as null, and equal pictures as the most decibels."""
    return {
        name: None if np.isnan(value) else min(value, MOST_DECIBELS) if name.startswith("psnr") else value
        for name, value in scores.items()
    }


def means(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The mean of each score over the cases that have it."""
    result: dict[str, float | None] = {}
    for name in rows[0]["scores"]:
        values = [value for row in rows if (value := row["scores"][name]) is not None]
        result[name] = float(np.mean(values)) if values else None
    return result


def plot(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Success against fidelity: to the true edit, and to the source where nothing should change."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for panel, (score_name, label) in zip(panels, FIDELITY.items(), strict=True):
        for kind, marker in (("all single", "o"), (PAIR, "^")):
            for line in (line for line in table if line["kind"] == kind and line[score_name] is not None):
                panel.scatter(line[score_name], line["success"], marker=marker)
                text = line["variant"] + (f" ({kind})" if kind == PAIR else "")
                panel.annotate(text, (line[score_name], line["success"]), xytext=(6, 4), textcoords="offset points")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
        panel.margins(x=0.2)
    panels[0].set_ylabel("success")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def sheet(benchmark: Benchmark, rows: Sequence[dict[str, Any]]) -> PIL.Image.Image:
    """Rows: source, true edit, each variant; columns: some cases, evenly picked."""
    from pds_nerfstudio.scenes.output.results import contact_sheet  # imports nerfstudio, which takes its time

    by_variant: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    first, *_ = by_variant.values()
    n = min(benchmark.sheet_cases, len(first))
    picked = [round(i * (len(first) - 1) / max(1, n - 1)) for i in range(n)]

    def strip(row: dict[str, Any], what: str) -> np.ndarray:
        picture = np.asarray(PIL.Image.open(benchmark.out / "pictures" / row["pictures"][what]))
        return picture[:, : benchmark.size]  # the first view

    strips = {"source": [strip(first[i], "before") for i in picked]}
    strips["true edit"] = [strip(first[i], "truth") for i in picked]
    strips |= {variant: [strip(some[i], "edited") for i in picked] for variant, some in by_variant.items()}
    return contact_sheet(strips, side=128)


if __name__ == "__main__":
    try:
        main(tyro.cli(Benchmark, description=__doc__))
    except UserError as error:
        sys.exit(f"Error: {error}")
