"""Score an edited scene: against the true edit if the scene is of the embedded world, by CLIP otherwise.

python scripts/evaluate.py --load-config outputs/man/pds-splat/.../config.yml
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from pds_nerfstudio.evaluation.toyworld import EditScores, held_out_cameras, judge
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.results import contact_sheet
from pds_nerfstudio.scenes.trainer import one_line_errors
from pds_nerfstudio.toyworld.dataset import read_record
from pds_nerfstudio.toyworld.grammar import caption


@dataclass
class Evaluation:
    """What to score."""

    load_config: Path
    """The config.yml of a finished edit."""
    views: int = 12
    """Cameras to judge from, none of which the scene was trained on."""
    seed: int = 1000
    """Which cameras; scenes are photographed with other seeds."""
    out: Path | None = None
    """Folder for scores.json and pictures.png; by default evaluation/ beside the config."""
    clip: str = ""
    """For scenes that are not of the embedded world: a CLIP model, as a folder or a hub id."""


def main(evaluation: Evaluation) -> None:
    """Score, show and save."""
    with one_line_errors():
        edit = FinishedEdit(evaluation.load_config)
        out = evaluation.out or evaluation.load_config.parent / "evaluation"
        out.mkdir(parents=True, exist_ok=True)
        source, target = read_record(edit.data)
        cameras = held_out_cameras(evaluation.views, seed=evaluation.seed)
        judgement = judge(source, target, cameras, lambda c: edit.render(c.camera_to_world, c.focal, c.width, c.height))
    show(judgement.scores)
    (out / "scores.json").write_text(json.dumps(asdict(judgement.scores), indent=2) + "\n")
    shown = range(0, evaluation.views, max(1, evaluation.views // 6))

    def row(images: torch.Tensor) -> list:
        return [(images[i].permute(1, 2, 0) * 255).round().byte().cpu().numpy() for i in shown]

    contact_sheet(
        {
            f"source: {caption(source)}": row(judgement.source),
            f"true edit: {caption(target)}": row(judgement.truth),
            "this edit": row(judgement.edited),
        }
    ).save(out / "pictures.png")
    print(f"Wrote {out / 'scores.json'} and {out / 'pictures.png'}")


def show(scores: EditScores) -> None:
    """A table on screen."""
    table = Table(title="The edit against the true edit, on cameras never trained on (embedded model)")
    table.add_column("score")
    table.add_column("value", justify="right")
    for name, value in asdict(scores).items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Evaluation, description=__doc__))
