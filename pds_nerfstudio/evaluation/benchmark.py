"""pds-benchmark: edit things of the embedded world in every way to compare, and score all against the true edits.

Writes one line a finished edit, so that a run that was cut goes on where it was. `sheet.py` makes of these lines a
table, a plot of success versus fidelity, and a contact sheet.
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

import PIL.Image
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pds_nerfstudio.checks import at_least, known, seeds
from pds_nerfstudio.command_help import CommandHelp, FirstOption, parse
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.cases import ATTRIBUTE_OF, OF_PHOTOS, PAIR, EditCase, draw_cases, named_cases
from pds_nerfstudio.evaluation.metrics import by_own_measures, plain
from pds_nerfstudio.evaluation.representations import REPRESENTATIONS, Representation, Setup, Variant
from pds_nerfstudio.evaluation.sheet import Row, report
from pds_nerfstudio.evaluation.toyworld import Pictures, score
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL, find_model
from pds_nerfstudio.toyworld.grammar import Style
from pds_nerfstudio.whole_files import append_line, as_json, whole_file

MOST_DECIBELS = 60.0
"""The PSNR of a picture that equals its reference to the byte; finite, so that means are finite too."""

HELP = CommandHelp(
    command="pds-benchmark",
    summary="Compare ways to edit by the true edits of the embedded world.",
    options=(
        FirstOption("--variants", "ways to edit: objective,option=value,..."),
        FirstOption("--representation", "what is edited: image, svg, splat or nerf"),
        FirstOption("--cases", "edits to draw that change one attribute"),
        FirstOption("--pairs", "edits to draw that change two"),
        FirstOption("--kinds", "kinds of edits to draw"),
        FirstOption("--seed", "seed of the drawn edits and of the noise"),
        FirstOption("--jobs", "processes to work at a time"),
        FirstOption("--out", "folder of results; none is made twice"),
    ),
    examples=(
        "pds-benchmark --cases 16 --pairs 8 --seed 7 --variants pds dds",
        """\
pds-benchmark --variants pds pds,guidance_scale=15,steps=200 \\
    sds,localize=0""",
        """\
pds-benchmark --representation splat --edits arms=raised hat=top \\
    --variants pds dds""",
    ),
)


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
    edits: tuple[str, ...] = ()
    """Edits of one thing, a man in a blue shirt, to make in place of drawn ones, as attribute=value: arms=raised
    hat=top ... Scenes share one reconstruction."""
    seed: int = 0
    """Seed of the drawn edits, and of the guidance's noise."""
    measures: tuple[str, ...] = ()
    """Measures of your own to score by as well, each as module:function."""
    size: int = 128
    """Side of the pictures, in pixels."""
    views: int = 6
    """Held-out cameras to judge a scene from; a single picture has only one."""
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
    """Folder for the results. A second call with the same folder makes only what is missing there."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        known(self, "representation", REPRESENTATIONS, " or ")
        at_least(self, 1, "batch", "jobs", "views", "size")
        at_least(self, 0, "cases", "pairs", "sheet_cases")
        seeds(self, "seed")
        if not self.edits and max(self.cases, self.pairs) < 1:
            raise UserError("There is nothing to do: give --cases or --pairs.")


@dataclass(frozen=True)
class Block:
    """Cases that are edited together: the unit of work, which is done again as a whole or not at all."""

    representation: str
    """Its name in `REPRESENTATIONS`."""
    variant: Variant
    """The way to edit."""
    setup: Setup
    """What it has in common with all other blocks."""
    model: str
    """The diffusion model, by its `fingerprint`."""
    cases: tuple[EditCase, ...]
    """The edits to make."""
    measures: tuple[str, ...] = ()
    """The user's own measures, each as module:function."""

    def make(self) -> Representation:
        """Return the representation that edits the cases."""
        return REPRESENTATIONS[self.representation](self.variant, self.setup)

    def keys(self) -> list[str]:
        """Return a key for each case: everything that its result depends on."""
        setup = {name: value for name, value in asdict(self.setup).items() if name != "out"}
        settings = self.make().settings() | setup | {"representation": self.representation, "model": self.model}
        settings["together"] = [case.index for case in self.cases]
        if self.measures:  # else left out, so that records of older versions stay valid
            settings["measures"] = self.measures
        return [json.dumps(settings | asdict(case), sort_keys=True) for case in self.cases]

    def run(self) -> list[Row]:
        """Edit and score the cases, save their pictures, and return a row for each."""
        rows = []
        for key, case, result in zip(self.keys(), self.cases, self.make().edit(self.cases), strict=True):
            files = {}
            for what in ("before", "truth", "edited"):
                files[what] = hashlib.sha256(f"{what} {key}".encode()).hexdigest()[:16] + ".png"
                save_row(getattr(result, what), self.setup.out / "pictures" / files[what])
            seen = result.before, result.truth, result.edited
            scores = asdict(score(case.source, case.target, *seen))
            scores["view_difference_ratio"] = result.view_difference_ratio
            scores = plain(scores | by_own_measures(self.measures, *seen), MOST_DECIBELS)
            about = {"variant": self.variant.text, "kind": case.kind, "index": case.index, "prompts": case.prompts}
            rows.append({"key": key, **about, "scores": scores | {"seconds": result.seconds}, "pictures": files})
        return rows


def run(benchmark: Benchmark) -> None:
    """Make the edits that are missing, and report on all.

    Raises:
        UserError: If an option means nothing, or a run of ns-train fails.
    """
    blocks = plan(benchmark)
    (benchmark.out / "pictures").mkdir(parents=True, exist_ok=True)
    record = benchmark.out / "cases.jsonl"
    done = read(record)
    wanted = [(block.variant.text, key) for block in blocks for key in block.keys()]
    by_keys = {tuple(block.keys()): block for block in blocks}  # two variants may mean the same
    missing = [block for keys, block in by_keys.items() if any(key not in done for key in keys)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        total, left = (sum(len(block.cases) for block in some) for some in (by_keys.values(), missing))
        bar = progress.add_task("Editing", total=total, completed=total - left)
        for rows in work(missing, benchmark.jobs):
            for row in rows:
                done[row["key"]] = row
                append_line(record, as_json(row))
            progress.advance(bar, len(rows))
    rows = [done[key] | {"variant": variant} for variant, key in wanted]
    report(rows, benchmark.out, benchmark.size, benchmark.sheet_cases)


def read(record: Path) -> dict[str, Row]:
    """Return the rows of finished cases by their keys."""
    done = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # the run was cut in the middle of a line
            continue
        done[row["key"]] = row
    return done


def plan(benchmark: Benchmark) -> list[Block]:
    """Return the blocks of all edits that the options ask for.

    Raises:
        UserError: If an option means nothing.
    """
    benchmark.check()
    setup = Setup(benchmark.seed, benchmark.size, benchmark.views, benchmark.device, benchmark.out)
    blocks = []
    for text in benchmark.variants:
        representation = REPRESENTATIONS[benchmark.representation](Variant(text), setup)
        model = fingerprint(representation.settings()["guidance"].get("model", EMBEDDED_MODEL))
        step = representation.batch or benchmark.batch
        for cases in _cases(benchmark, representation.style):
            for first in range(0, len(cases), step):
                some = tuple(cases[first : first + step])
                blocks.append(Block(benchmark.representation, Variant(text), setup, model, some, benchmark.measures))
    return blocks


def _cases(benchmark: Benchmark, style: Style) -> tuple[list[EditCase], list[EditCase]]:
    """Return the edits of one attribute, and those of two."""
    if benchmark.edits:
        return named_cases(benchmark.edits, style), []
    kinds = benchmark.kinds or tuple(kind for kind in ATTRIBUTE_OF if style == "photo" or kind not in OF_PHOTOS)
    try:
        singles = draw_cases(kinds, benchmark.cases, benchmark.seed, style)
        return singles, draw_cases([PAIR], benchmark.pairs, benchmark.seed, style)
    except ValueError as error:
        raise UserError(f"{error}.") from None


def fingerprint(model: str) -> str:
    """Return a model's name, with a hash of its weights where they are at hand: other weights give other results."""
    if model != EMBEDDED_MODEL and not Path(model).is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(find_model(model).rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return f"{model} {digest.hexdigest()[:12]}"


def work(blocks: Sequence[Block], jobs: int) -> Iterator[list[Row]]:
    """Yield the rows of each block as they get done, in this process or in several."""
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


def save_row(pictures: Pictures, path: Path) -> None:
    """Save views side by side."""
    row = torch.cat(list(pictures), dim=2).permute(1, 2, 0)
    with whole_file(path) as unfinished:
        PIL.Image.fromarray((row.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()).save(unfinished)


def main() -> None:
    """Run the command `pds-benchmark`."""
    try:
        run(parse(Benchmark, HELP.command, HELP.text(Benchmark())))
    except UserError as error:
        sys.exit(f"Error: {error.on_command_line()}")
