"""Edit one scene of the embedded world in several ways with several objectives, and score all against the true edits.

Reconstructs the scene once, edits it from there with `ns-train`, and leaves a table (on screen, as JSON and as
Markdown) and a contact sheet. An edit that is done already is not run again, so a cut run goes on where it was.

    python scripts/compare_objectives.py --method pds-splat-toyworld --out outputs/compare
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image
from scene_edits import ROOT, edit_scene, reconstruct

from pds_nerfstudio.scenes.output.results import contact_sheet
from pds_nerfstudio.toyworld.grammar import Attributes, edit

_SDS = "--pipeline.guidance.objective sds --pipeline.guidance.localize 0 --pipeline.photometric-loss-mult 0"
OBJECTIVES = {
    "pds": [],
    "dds": ["--pipeline.guidance.objective", "dds"],
    # One prediction has nothing to be compared with: SDS has no mask, and so nothing outside it to hold on to.
    "sds": _SDS.split(),
}
COLUMNS = (
    "success",
    "kept",
    "psnr_true",
    "psnr_true_unedited",
    "psnr_outside",
    "perceptual_true",
    "minutes",
    "peak_gb",
)


@dataclass
class Comparison:
    """What to compare."""

    method: Literal["pds-splat-toyworld", "pds-nerf-toyworld"] = "pds-splat-toyworld"
    """How scenes are edited."""
    edits: tuple[str, ...] = ("arms=raised", "hat=top", "color=red", "subject=robot")
    """Edits, as attribute=value."""
    objectives: tuple[str, ...] = ("pds", "dds", "sds")
    """Of pds, dds and sds."""
    thing: Attributes = field(default_factory=Attributes)
    """The scene."""
    size: int = 128
    """Side of the scene's images, in pixels."""
    seed: int = 0
    """Of the guidance's noise."""
    views: int = 12
    """Held-out cameras to judge from."""
    jobs: int = 1
    """Edits to run at a time."""
    out: Path = Path("outputs/compare")
    """Folder for the scene, the runs and the results."""


def main(comparison: Comparison) -> None:
    """Scene, reconstruction, edits, table."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // comparison.jobs)))
    out = comparison.out / comparison.method
    scene, first = comparison.out / f"scene-{comparison.size}", comparison.edits[0]
    if not (scene / "transforms.json").exists():
        size = ["--width", comparison.size, "--height", comparison.size]
        run(ROOT / "scripts" / "make_toyworld_scene.py", "--out", scene, "--edit", first, *size)
    reconstruct(comparison.method, scene, out, comparison.thing, edit(comparison.thing, *first.split("=", 1)))

    cases = [(e, o) for e in comparison.edits for o in comparison.objectives]
    running: list[tuple[str, subprocess.Popen]] = []
    for e, objective in cases:
        name = f"{e.replace('=', '-')}-{objective}"
        if (out / name / "scores.json").exists():
            continue
        while len(running) >= comparison.jobs:
            running = [job for job in running if not finished(*job)]
            time.sleep(1)
        command = [sys.executable, __file__, "--one", name, e, objective, *sys.argv[1:]]
        running.append((name, subprocess.Popen(command)))
    while running:
        running = [job for job in running if not finished(*job)]
        time.sleep(1)
    report(comparison, out, cases)


def one(comparison: Comparison, name: str, e: str, objective: str) -> None:
    """Run and score a single edit; in a process of its own, so that its peak memory is its own."""
    out = comparison.out / comparison.method
    scene = comparison.out / f"scene-{comparison.size}"
    target = edit(comparison.thing, *e.split("=", 1))
    reconstruction = reconstruct(comparison.method, scene, out, comparison.thing, target)
    began = time.monotonic()
    options = [*OBJECTIVES[objective], "--load-dir", reconstruction, "--show-edit", False]
    options += ["--pipeline.guidance.seed", comparison.seed]
    peak = edit_scene(comparison.method, scene, out, name, comparison.thing, target, options)
    minutes = (time.monotonic() - began) / 60
    config = out / name / comparison.method / "run" / "config.yml"
    options = ["--load-config", config, "--edit", e, "--views", comparison.views, "--out", out / name]
    run(ROOT / "scripts" / "evaluate.py", *options)
    path = out / name / "scores.json"
    scores = json.loads(path.read_text()) | {"minutes": minutes, "peak_gb": peak}
    path.write_text(json.dumps(scores, indent=2) + "\n")


def run(script: Path, *arguments: object) -> None:
    """Run another script of this folder."""
    subprocess.run([sys.executable, str(script), *map(str, arguments)], check=True)


def finished(name: str, process: subprocess.Popen) -> bool:
    """Whether a job is done; its failure ends the comparison."""
    code = process.poll()
    if code:
        raise SystemExit(f"Error: {name} failed, see above")
    return code is not None


def report(comparison: Comparison, out: Path, cases: list[tuple[str, str]]) -> None:
    """The table and the contact sheet of all cases."""
    rows = []
    for e, objective in cases:
        scores = json.loads((out / f"{e.replace('=', '-')}-{objective}" / "scores.json").read_text())
        rows.append({"edit": e, "objective": objective} | {column: scores[column] for column in COLUMNS})
    for objective in comparison.objectives:
        some = [row for row in rows if row["objective"] == objective]
        mean = {column: float(np.mean([row[column] for row in some])) for column in COLUMNS}
        rows.append({"edit": "mean", "objective": objective} | mean)
    lines = ["| edit | objective | " + " | ".join(c.replace("_", " ") for c in COLUMNS) + " |"]
    lines.append("|" + "---|" * (len(COLUMNS) + 2))
    lines += [
        f"| {row['edit']} | {row['objective']} | " + " | ".join(f"{row[column]:.3g}" for column in COLUMNS) + " |"
        for row in rows
    ]
    (out / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    strips = {}
    for e in comparison.edits:
        for objective in comparison.objectives:
            sheet = Image.open(out / f"{e.replace('=', '-')}-{objective}" / "pictures.png")
            third = sheet.height // 3
            if objective == comparison.objectives[0]:
                strips[f"{e}: source"] = cells(sheet, 0)
                strips[f"{e}: true edit"] = cells(sheet, third)
            strips[f"{e}: {objective}"] = cells(sheet, 2 * third)
    contact_sheet(strips, side=128).save(out / "sheet.png")
    print(f"Wrote {out / 'table.json'}, {out / 'table.md'} and {out / 'sheet.png'}")


def cells(sheet: Image.Image, top: int, side: int = 256, strip: int = 22) -> list[np.ndarray]:
    """The first six pictures of a row of a contact sheet."""
    return [
        np.array(sheet.crop((c * side, top + strip, (c + 1) * side, top + strip + side)))
        for c in range(min(6, sheet.width // side))
    ]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    if sys.argv[1:2] == ["--one"]:
        name, e, objective = sys.argv[2:5]
        one(tyro.cli(Comparison, args=sys.argv[5:]), name, e, objective)
    else:
        main(tyro.cli(Comparison, description=__doc__))
