"""Edit drawings of the embedded world as SVGs with several objectives, and score them against the true edits.

Leaves a table (on screen, as JSON and as Markdown) and a contact sheet. An edit that is done already is not run
again, so a cut run goes on where it was.

    python scripts/evaluate_svg_edits.py --seed 1 --jobs 2 --out outputs/svg-edits
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.toyworld import score
from pds_nerfstudio.guidance.guidance import GuidanceConfig
from pds_nerfstudio.guidance.objectives import OBJECTIVES, ObjectiveName
from pds_nerfstudio.runs import load_config
from pds_nerfstudio.scenes.results import contact_sheet
from pds_nerfstudio.toyworld.drawing import PAPER, drawing
from pds_nerfstudio.toyworld.grammar import LIMBED, VALUES, Attributes, caption, edit, sample
from pds_nerfstudio.vector.cli import SvgEdit, run
from pds_nerfstudio.vector.color import parse_color
from pds_nerfstudio.vector.document import Document
from pds_nerfstudio.vector.edit_loop import VectorEditConfig, drawing_guidance
from pds_nerfstudio.vector.rasterizer import Rasterizer

SIDE = 128
COLUMNS = ("success", "kept", "psnr_true", "psnr_true_unedited", "psnr_outside", "perceptual_true", "paths", "minutes")


@dataclass
class Evaluation:
    """What to edit, and how."""

    out: Path = Path("outputs/svg-edits")
    """Folder for the drawings, the edits and the results."""
    count: int = 16
    """Drawings to edit."""
    edits: tuple[str, ...] = ("arms", "hat", "color", "subject")
    """Attributes that the drawings have changed, one after another."""
    objectives: tuple[ObjectiveName, ...] = ("pds", "dds", "sds")
    """Of pds, dds, sds and dreamcatalyst."""
    seed: int = 0
    """Of the drawings, the edits and the noise."""
    jobs: int = 1
    """Edits to run at a time."""
    edit: VectorEditConfig = field(default_factory=lambda: VectorEditConfig(background=PAPER))
    """How a drawing follows the guidance."""
    guidance: GuidanceConfig = field(default_factory=drawing_guidance)
    """The guidance; its objective and seed are those above."""


@dataclass(frozen=True)
class Case:
    """One drawing and its edit."""

    name: str
    source: Attributes
    target: Attributes


def cases(count: int, edits: tuple[str, ...], seed: int) -> list[Case]:
    """Drawings and edits, the same for the same arguments."""
    rng = random.Random(seed)
    found: list[Case] = []
    while len(found) < count:
        name = edits[len(found) % len(edits)]
        source = dataclasses.replace(sample(rng, held_out=None), style="drawing", ground="grass", sky="day")
        values = [value for value in VALUES[name] if value != getattr(source, name)]
        if name == "subject" and source.subject in LIMBED:
            values = [value for value in values if value in LIMBED]
        try:
            target = edit(source, name, rng.choice(values))
        except ValueError:  # a ball has no arms to raise
            continue
        found.append(Case(f"{len(found):02d}-{name}", source, target))
    return found


def task(evaluation: Evaluation, case: Case, objective: ObjectiveName) -> SvgEdit:
    """The edit of one case as a configuration of pds-svg."""
    guidance = dataclasses.replace(evaluation.guidance, objective=objective, seed=evaluation.seed)
    if OBJECTIVES[objective].contrast is None:
        guidance.localize = 0.0  # one prediction has nothing to be compared with
    return SvgEdit(
        svg=evaluation.out / "drawings" / f"{case.name}.svg",
        src_prompt=caption(case.source),
        tgt_prompt=caption(case.target),
        output_dir=evaluation.out / objective,
        edit=dataclasses.replace(evaluation.edit, seed=evaluation.seed),
        guidance=guidance,
    )


def perform(config: SvgEdit) -> None:
    """Run one edit, with what it prints in a file."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = config.output_dir / config.svg.stem
    if folder.exists():
        shutil.rmtree(folder)  # what a cut run left
    config.output_dir.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "w") as sys.stdout:
        run(config)


def finished(config: SvgEdit) -> bool:
    """Whether an edit is done.

    Raises:
        UserError: it was done with other options.
    """
    folder = config.output_dir / config.svg.stem
    if not (folder / "metrics.json").exists():
        return False
    if load_config(SvgEdit, folder / "config.json") != config:
        raise UserError(f"{folder} was edited with other options: give another --out.")
    return json.loads((folder / "metrics.json").read_text())["complete"]


def picture(svg: bytes) -> Tensor:
    """A drawing on its paper, [1, 3, h, w]."""
    document = Document(svg)
    paper = parse_color(PAPER)
    assert paper is not None
    background = torch.tensor(paper[:3])[:, None, None].expand(3, SIDE, SIDE)
    return Rasterizer(document.scene).render(document.parameters, SIDE, SIDE, document.view(SIDE, SIDE), background)[
        None
    ]


def judge(case: Case, config: SvgEdit) -> dict:
    """The scores of an edit."""
    folder = config.output_dir / case.name
    result, source = (folder / "final.svg").read_bytes(), config.svg.read_bytes()
    before, truth, edited = (picture(svg) for svg in (source, drawing(case.target).encode(), result))
    scores = dataclasses.asdict(score(case.source, case.target, before, truth, edited))
    return scores | {
        "paths": float(result.count(b"<path") == source.count(b"<path")),
        "minutes": json.loads((folder / "metrics.json").read_text())["seconds"] / 60,
    }


def main(evaluation: Evaluation) -> None:
    """Drawings, edits, table."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // evaluation.jobs)))
    todo = cases(evaluation.count, evaluation.edits, evaluation.seed)
    (evaluation.out / "drawings").mkdir(parents=True, exist_ok=True)
    for case in todo:
        for name, thing in ((case.name, case.source), (f"{case.name}-true", case.target)):
            (evaluation.out / "drawings" / f"{name}.svg").write_text(drawing(thing))
    tasks = {(case.name, o): task(evaluation, case, o) for o in evaluation.objectives for case in todo}
    left = [config for config in tasks.values() if not finished(config)]
    with ProcessPoolExecutor(evaluation.jobs, get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(perform, left), 1):
            print(f"{done} of {len(left)} edits", flush=True)
    with torch.no_grad():
        report(evaluation, todo, lambda case, o: judge(case, tasks[case.name, o]))


def report(evaluation: Evaluation, todo: list[Case], scores: Callable[[Case, ObjectiveName], dict]) -> None:
    """The table and the contact sheet of all cases."""
    rows = [
        {"case": case.name, "target": caption(case.target), "objective": o} | scores(case, o)
        for case in todo
        for o in evaluation.objectives
    ]
    (evaluation.out / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    lines = ["| edit | objective | " + " | ".join(c.replace("_", " ") for c in COLUMNS) + " |"]
    lines.append("|" + "---|" * (len(COLUMNS) + 2))
    for name in (*evaluation.edits, "all"):
        for o in evaluation.objectives:
            some = [r for r in rows if r["objective"] == o and (name == "all" or r["case"].endswith(name))]
            if some:
                means = [f"{np.mean([row[column] for row in some]):.3g}" for column in COLUMNS]
                lines.append(f"| {name} | {o} | " + " | ".join(means) + " |")
    (evaluation.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))

    def strip(file: Callable[[Case], Path]) -> list[np.ndarray]:
        pictures = [picture(file(case).read_bytes())[0] for case in todo]
        return [(p.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy() for p in pictures]

    drawings = evaluation.out / "drawings"
    strips = {
        "source": strip(lambda case: drawings / f"{case.name}.svg"),
        "true edit": strip(lambda case: drawings / f"{case.name}-true.svg"),
    }
    for o in evaluation.objectives:
        strips[o] = strip(lambda case, o=o: evaluation.out / o / case.name / "final.svg")  # type: ignore[misc]
    contact_sheet(strips, side=SIDE).save(evaluation.out / "sheet.png")
    print(f"Wrote {', '.join(str(evaluation.out / name) for name in ('table.json', 'table.md', 'sheet.png'))}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Evaluation, description=__doc__))
    except UserError as error:
        sys.exit(f"Error: {error}")
