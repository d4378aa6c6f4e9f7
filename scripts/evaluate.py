"""Score an edited scene.

A scene of the embedded world is scored against the true edit, from cameras it was never trained on; any other scene by
a CLIP model, if one is named:

    python scripts/evaluate.py --load-config outputs/man/pds-splat/.../config.yml
    python scripts/evaluate.py --load-config ... --clip openai/clip-vit-large-patch14
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation import clip, toyworld
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.output.results import contact_sheet, to_bytes
from pds_nerfstudio.scenes.trainer import one_line_errors
from pds_nerfstudio.toyworld.dataset import read_record
from pds_nerfstudio.toyworld.grammar import caption, edit


@dataclass
class Evaluation:
    """What to score."""

    load_config: Path
    """The config.yml of a finished edit."""
    views: int = 12
    """Cameras to judge from."""
    seed: int = toyworld.HELD_OUT_SEED
    """Which cameras, in the embedded world; its scenes are photographed with other seeds."""
    edit: str = ""
    """In the embedded world, the edit that was asked for, as attribute=value; by default the one on record beside the
    scene."""
    clip: str = ""
    """For other scenes: the CLIP model to judge by, as a folder or a hub id."""
    out: Path | None = None
    """Folder for scores.json and pictures.png; by default evaluation/ beside the config."""


def main(evaluation: Evaluation) -> None:
    """Score, show and save."""
    with one_line_errors():
        if evaluation.views < 1:
            raise UserError(f"--views is {evaluation.views}: give at least one.")
        finished = FinishedEdit(evaluation.load_config)
        score = score_toyworld if toyworld.is_toyworld_scene(finished.data) else score_by_clip
        title, scores, pictures = score(finished, evaluation)
    out = evaluation.out or evaluation.load_config.parent / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    table = Table(title=title, title_justify="left", min_width=60)
    table.add_column("score")
    table.add_column("value", justify="right")
    scores = {name: value for name, value in scores.items() if not math.isnan(value)}  # NaN: says nothing here
    for name, value in scores.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    Console().print(table)
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    step = max(1, evaluation.views // 6)
    rows = {name: [to_bytes(image.permute(1, 2, 0)) for image in images[::step]] for name, images in pictures.items()}
    contact_sheet(rows).save(out / "pictures.png")
    print(f"Wrote {out / 'scores.json'} and {out / 'pictures.png'}")


Scored = tuple[str, dict[str, float], dict[str, list[Tensor]]]


def score_toyworld(finished: FinishedEdit, evaluation: Evaluation) -> Scored:
    """Scores against the true edit."""
    source, target = read_record(finished.data)
    if evaluation.edit:
        try:
            target = edit(source, *evaluation.edit.split("=", 1))
        except (TypeError, ValueError) as error:
            raise UserError(f"--edit {evaluation.edit}: {error}; give attribute=value.") from None
    cameras = toyworld.held_out_cameras(evaluation.views, seed=evaluation.seed)
    judgement = toyworld.judge(
        source, target, cameras, lambda c: finished.render(c.camera_to_world, c.focal, c.width, c.height)
    )
    pictures = {
        f"source: {caption(source)}": list(judgement.source),
        f"true edit: {caption(target)}": list(judgement.truth),
        "this edit": list(judgement.edited),
    }
    return "Against the true edit, on cameras never trained on (embedded world)", asdict(judgement.scores), pictures


def score_by_clip(finished: FinishedEdit, evaluation: Evaluation) -> Scored:
    """Scores by CLIP, on training views."""
    if not evaluation.clip:
        raise UserError(
            "This scene's true edit is not known, so it can only be judged by a CLIP model: give one with --clip, as a "
            "folder or a hub id such as openai/clip-vit-large-patch14."
        )
    model = clip.load_clip(evaluation.clip, finished.pipeline.device)
    config = finished.pipeline.config
    before, after = finished.before_and_after(evaluation.views)
    scores = asdict(clip.judge(model, before, after, config.src_prompt, config.tgt_prompt))
    return f"By CLIP ({evaluation.clip})", scores, {config.src_prompt: before, config.tgt_prompt: after}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(tyro.cli(Evaluation, description=__doc__))
