"""pds-eval: score a finished edit of a scene."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation import clip, toyworld
from pds_nerfstudio.evaluation.metrics import by_own_measures
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.output.results import contact_sheet, to_bytes
from pds_nerfstudio.toyworld.dataset import read_record
from pds_nerfstudio.toyworld.grammar import asked_edit, caption

Pictures = Sequence[Float[Tensor, "3 _ _"]]

HELP = CommandHelp(
    command="pds-eval",
    summary="Score a finished edit of a scene: by its true edit, or by CLIP.",
    options=(
        FirstOption("--load-config", "the config.yml of the edit", required=True),
        FirstOption("--clip", "for real scenes: a CLIP model, hub id or folder"),
        FirstOption("--edit", "in the embedded world: what was asked for"),
        FirstOption("--views", "cameras to judge from"),
        FirstOption("--out", "where scores and pictures go"),
    ),
    examples=(
        "pds-eval --load-config outputs/man/pds-splat/arms/config.yml",
        """\
pds-eval --load-config outputs/clown/pds-splat/first/config.yml \\
    --clip openai/clip-vit-large-patch14""",
    ),
)


@dataclass
class Evaluation:
    """Score a finished edit.

    A scene of the embedded world is scored against the true edit, from cameras it was never trained on; any other scene
    by a CLIP model, from its training cameras.
    """

    load_config: Path
    """The config.yml of a finished edit."""
    views: int = 12
    """Cameras to judge from."""
    seed: int = toyworld.HELD_OUT_SEED
    """In the embedded world, the seed of the cameras; its scenes are photographed with other seeds."""
    edit: str = ""
    """In the embedded world, the edit that was asked for, as attribute=value; by default the one on record beside the
    scene."""
    clip: str = ""
    """For other scenes: the CLIP model to judge by, as a folder or a hub id."""
    measures: tuple[str, ...] = ()
    """In the embedded world, measures of your own to score by as well, each as module:function."""
    out: Path | None = None
    """Folder for scores.json and pictures.png; by default evaluation/ beside the config."""


@dataclass(frozen=True)
class Scored:
    """What an evaluation found."""

    title: str
    """By what was judged."""
    scores: dict[str, float]
    """Each score by its name; NaN where it says nothing."""
    pictures: dict[str, Pictures]
    """Rows of views, by what they show."""


@torch.no_grad()
def run(evaluation: Evaluation) -> Path:
    """Score, show, and save; return the folder of the results.

    Raises:
        UserError: If there is no such edit, or nothing to judge it by.
    """
    if evaluation.views < 1:
        raise UserError(f"--views is {evaluation.views}: give at least one.")
    finished = FinishedEdit(evaluation.load_config)
    score = score_toyworld if toyworld.is_toyworld_scene(finished.data) else score_by_clip
    scored = score(finished, evaluation)
    out = evaluation.out or evaluation.load_config.parent / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    scores = {name: value for name, value in scored.scores.items() if not math.isnan(value)}
    table = Table(title=scored.title, title_justify="left", min_width=60)
    table.add_column("score")
    table.add_column("value", justify="right")
    for name, value in scores.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    Console().print(table)
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    step = max(1, evaluation.views // 6)
    rows = {name: [to_bytes(view.permute(1, 2, 0)) for view in some[::step]] for name, some in scored.pictures.items()}
    contact_sheet(rows).save(out / "pictures.png")
    return out


def score_toyworld(finished: FinishedEdit, evaluation: Evaluation) -> Scored:
    """Score against the true edit.

    Raises:
        UserError: If the edit that was asked for is none.
    """
    source, target = read_record(finished.data)
    if evaluation.edit:
        target = asked_edit(source, evaluation.edit)
    cameras = toyworld.held_out_cameras(evaluation.views, seed=evaluation.seed)
    judgement = toyworld.judge(
        source, target, cameras, lambda c: finished.render(c.camera_to_world, c.focal, c.width, c.height)
    )
    own = by_own_measures(evaluation.measures, judgement.source, judgement.truth, judgement.edited)
    return Scored(
        "Against the true edit, on cameras never trained on (embedded world)",
        asdict(judgement.scores) | own,
        {
            f"source: {caption(source)}": list(judgement.source),
            f"true edit: {caption(target)}": list(judgement.truth),
            "this edit": list(judgement.edited),
        },
    )


def score_by_clip(finished: FinishedEdit, evaluation: Evaluation) -> Scored:
    """Score by CLIP, on training views.

    Raises:
        UserError: If no CLIP model is named, or it can't be had.
    """
    if not evaluation.clip:
        raise UserError(
            "This scene's true edit is not known, so it can only be judged by a CLIP model: give one with --clip, as a "
            "folder or a hub id such as openai/clip-vit-large-patch14."
        )
    model = clip.load_clip(evaluation.clip, finished.pipeline.device)
    config = finished.pipeline.config
    before, after = finished.before_and_after(evaluation.views)
    scores = asdict(clip.judge(model, before, after, config.src_prompt, config.tgt_prompt))
    return Scored(f"By CLIP ({evaluation.clip})", scores, {config.src_prompt: before, config.tgt_prompt: after})


def main() -> None:
    """Run the command `pds-eval`."""
    evaluation = tyro.cli(Evaluation, prog=HELP.command, description=HELP.text(Evaluation(Path())))
    try:
        out = run(evaluation)
    except UserError as error:
        sys.exit(f"Error: {error}")
    print(f"Wrote {out / 'scores.json'} and {out / 'pictures.png'}")
