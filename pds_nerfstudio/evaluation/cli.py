"""pds-eval: score a finished edit of a scene."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import Tensor

from pds_nerfstudio.checks import at_least, seeds
from pds_nerfstudio.command_help import CommandHelp, FirstOption, parse
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation import scene_scores, toyworld
from pds_nerfstudio.evaluation.by_words import VQA_LIBRARY, ByClip, ByVqa, WordJudge, has_vqa
from pds_nerfstudio.evaluation.edited_region import EditedRegion, MaskFolder, NothingKnown, Selection, State
from pds_nerfstudio.evaluation.metrics import by_own_measures, plain
from pds_nerfstudio.evaluation.scene_scores import SceneScores, StateScores
from pds_nerfstudio.evaluation.view_agreement import looks_of
from pds_nerfstudio.page import OfAnySize
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.output.report import Measures, add_measures
from pds_nerfstudio.scenes.output.results import before_and_after, contact_sheet
from pds_nerfstudio.toyworld.dataset import read_record
from pds_nerfstudio.toyworld.grammar import asked_edit, caption
from pds_nerfstudio.whole_files import whole_file, write_text

_SHOWN = 6
_SIDE = 512

HELP = CommandHelp(
    command="pds-eval",
    summary="Score a finished edit of a scene: beside its source, and by words.",
    options=(
        FirstOption("--load-config", "the config.yml of the edit", required=True),
        FirstOption("--masks", "where the edit may act: a folder of masks"),
        FirstOption("--clip", "a CLIP model to judge by, hub id or folder"),
        FirstOption("--edit", "in the embedded world: what was asked for"),
        FirstOption("--views", "cameras to judge from"),
        FirstOption("--out", "where scores and pictures go"),
    ),
    examples=(
        "pds-eval --load-config outputs/man/pds-splat/arms/config.yml",
        """\
pds-eval --load-config outputs/clown/pds-splat/first/config.yml \\
    --masks clown/masks --clip openai/clip-vit-large-patch14""",
    ),
)

WORDS = {
    "psnr_to_photos": ("PSNR to the photos, outside", "{:.1f} dB"),
    "psnr_to_reconstruction": ("PSNR to the reconstruction, outside", "{:.1f} dB"),
    "perceptual_to_photos": ("perceptual distance to photos, outside", "{:.4f}"),
    "perceptual_to_reconstruction": ("perceptual distance to reconstruction, outside", "{:.4f}"),
    "sharpness_outside": ("sharpness beside the photos, outside", "{:.2f}"),
    "sharpness_inside": ("sharpness beside the photos, inside", "{:.2f}"),
    "view_difference": ("difference between neighbouring views", "{:.4f}"),
}
"""The fields of `StateScores` in words, and how their numbers are written."""


@dataclass
class Evaluation:
    """Score a finished edit.

    Any scene is compared with its photos and its reconstruction, from its training cameras. A scene of the embedded
    world is also scored against the true edit, from cameras it was never trained on.
    """

    load_config: Path
    """The config.yml of a finished edit."""
    views: int = 12
    """Cameras to judge from: training views spread over all, or all if there are no more."""
    masks: Path | None = None
    """Folder of masks, white where the edit may act, each named as its photo: what is outside them should stay. By
    default the run's own selection, if it has one; else whole pictures count."""
    seed: int = toyworld.HELD_OUT_SEED
    """In the embedded world, the seed of the cameras; its scenes are photographed with other seeds."""
    edit: str = ""
    """In the embedded world, the edit that was asked for, as attribute=value; by default the one on record beside the
    scene."""
    clip: str = ""
    """A CLIP model to judge by as well, as a folder or a hub id."""
    vqa: str = ""
    """A model of VQAScore to judge by as well, such as clip-flant5-xl: needs the package t2v-metrics and, once, the
    model's download."""
    measures: tuple[str, ...] = ()
    """In the embedded world, measures of your own to score by as well, each as module:function."""
    out: Path | None = None
    """Folder for scores.json and pictures.png; by default evaluation/ beside the config."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 1, "views")
        seeds(self, "seed")


@dataclass(frozen=True)
class Scored:
    """What one judge found."""

    key: str
    """Its name in scores.json."""
    scores: dict[str, Any]
    """As JSON holds them, null where a score says nothing."""
    table: Measures
    """The same for people."""
    told: Sequence[str] = ()
    """The most important of it in sentences, which are printed in place of the table."""
    pictures: Mapping[str, Sequence[OfAnySize]] = field(default_factory=dict)
    """Rows of views, by what they show."""


@torch.no_grad()
def run(evaluation: Evaluation) -> Path:
    """Score, show, and save; return the folder of the results.

    Raises:
        UserError: If there is no such edit, or something to judge it by can't be had.
    """
    evaluation.check()
    finished = FinishedEdit(evaluation.load_config)
    scored = score_scene(finished, evaluation)
    if toyworld.is_toyworld_scene(finished.data):
        scored = [score_toyworld(finished, evaluation), *scored]
    out = evaluation.out or evaluation.load_config.parent / "evaluation"
    for one in scored:
        tell(one)
    for line in unasked(evaluation):
        Console().print(Text(line), soft_wrap=True)
    scores = {one.key: one.scores for one in scored}
    write_text(out / "scores.json", json.dumps(scores, indent=2, allow_nan=False) + "\n")
    with whole_file(out / "pictures.png") as unfinished:
        contact_sheet(next(one.pictures for one in scored if one.pictures)).save(unfinished)
    add_measures(evaluation.load_config.parent / "report.html", [one.table for one in scored])
    return out


def score_scene(finished: FinishedEdit, evaluation: Evaluation) -> list[Scored]:
    """Score beside the source and, by judges that were asked for, by the words.

    Raises:
        UserError: If a judge or the masks can't be had.
    """
    config, device = finished.pipeline.config, finished.pipeline.device
    judges: dict[str, WordJudge] = {}
    if evaluation.clip:
        judges["clip"] = ByClip(evaluation.clip, device, config.src_prompt, config.tgt_prompt)
    if evaluation.vqa:
        judges["vqascore"] = ByVqa(evaluation.vqa, device, config.tgt_prompt)
    region = region_of(finished, evaluation.masks)
    judge = scene_scores.SceneJudge(finished.views, finished.pipeline.model, finished.reconstruction, region)
    chosen = finished.spread_views(evaluation.views)
    shown = chosen[:: max(1, len(chosen) // _SHOWN)]
    rows: tuple[list[OfAnySize], list[OfAnySize]] = ([], [])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for index in progress.track(chosen, description="Comparing views"):
            seen = judge.see(index)
            for words in judges.values():
                words.see(seen.photo, seen.edited)
            if index in shown:
                for row, picture in zip(rows, (seen.photo, seen.edited), strict=True):
                    row.append(_small(picture))
    titles = before_and_after(config.src_prompt, config.tgt_prompt)
    scores = judge.scores()
    table = scene_table(scores, region.words, len(chosen), finished.reconstruction is not None)
    written = scene_json(scores, region.words, len(chosen))
    found = [Scored("scene", written, table, pictures=dict(zip(titles, rows, strict=True)))]
    return found + [Scored(key, words.scores(), words_table(words)) for key, words in judges.items()]


def region_of(finished: FinishedEdit, masks: Path | None) -> EditedRegion:
    """Return where the edit may act: by the user's masks, else by the run's selection, else nothing is known.

    Raises:
        UserError: If the masks are not there.
    """
    if masks is not None:
        return MaskFolder(masks, [Path(path) for path in finished.views.outputs.image_filenames])
    model, source = finished.pipeline.model, finished.reconstruction
    if finished.selection is None or not isinstance(model, EditSplatModel):
        return NothingKnown()
    return Selection(State(model, finished.selection), source if isinstance(source, EditSplatModel) else None)


def scene_json(scores: SceneScores, outside: str, views: int) -> dict[str, Any]:
    """Return the scores beside the source as scores.json holds them."""
    source = scores.reconstruction
    shares = {"outside_share": scores.outside_share, "view_difference_ratio": scores.view_difference_ratio}
    return {
        "views": views,
        "outside": outside,
        **plain(shares),
        "edit": plain(asdict(scores.edit)),
        "reconstruction": None if source is None else plain(asdict(source)),
    }


def scene_table(scores: SceneScores, outside: str, views: int, has_source: bool) -> Measures:
    """Return the scores beside the source as a table in words."""
    edit, source = asdict(scores.edit), asdict(scores.reconstruction or StateScores())
    rows = [
        (words, *(_written(state[name], form) for state in (edit, source)))
        for name, (words, form) in WORDS.items()
        if plain(edit)[name] is not None
    ]
    if plain({"ratio": scores.view_difference_ratio})["ratio"] is not None:
        rows.append(("the same, as a multiple of the reconstruction's", f"{scores.view_difference_ratio:.2f}", "1"))
    note = f"Outside: {outside}. "
    if scores.outside_share < 1:
        note += f"That is {scores.outside_share:.0%} of the pixels. "
    note += f"From {views} training views, at the size of the photos."
    if not has_source:
        note += " The run has not kept its reconstruction."
    return Measures("Beside its source", ("this edit", "reconstruction"), rows, note)


def words_table(judge: WordJudge) -> Measures:
    """Return what a judge by words found as a table."""
    scores = {name: value for name, value in judge.scores().items() if name != "model"}
    rows = [(name.replace("_", " "), _written(value)) for name, value in scores.items()]
    note = "No direction: the run has no source prompt." if scores.get("directional", 0) is None else ""
    return Measures(f"By {judge.name}", ("value",), rows, note)


def unasked(evaluation: Evaluation) -> list[str]:
    """Return what else could judge, in a line each."""
    lines = [] if evaluation.clip else ["No CLIP scores: name a model with --clip to have them."]
    if not evaluation.vqa:
        missing = "name a model with --vqa" if has_vqa() else f"its library {VQA_LIBRARY} is not installed"
        lines.append(f"No VQAScore: {missing}.")
    return lines


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
        source,
        target,
        cameras,
        lambda c: finished.render(c.camera_to_world, c.focal, c.width, c.height),
        partial(looks_of, finished),
    )
    own = by_own_measures(evaluation.measures, judgement.source, judgement.truth, judgement.edited)
    scores = plain(asdict(judgement.scores) | own, scene_scores.MOST_DECIBELS)
    rows = [(name.replace("_", " "), _written(value)) for name, value in scores.items() if value is not None]
    titles = (f"source: {caption(source)}", f"true edit: {caption(target)}", "this edit")
    views = (judgement.source, judgement.truth, judgement.edited)
    step = max(1, evaluation.views // _SHOWN)
    pictures = {title: [_small(view) for view in some[::step]] for title, some in zip(titles, views, strict=True)}
    table = Measures("Against the true edit, on cameras never trained on (embedded world)", ("value",), rows)
    return Scored("true_edit", scores, table, true_edit_in_words(scores), pictures)


def true_edit_in_words(scores: Mapping[str, float | None]) -> list[str]:
    """Return the scores against the true edit that say most, in sentences."""
    told = [
        f"The edit that was asked for is seen in {scores['success']:.0%} of the views.",
        f"Its PSNR to the true edit is {scores['psnr_true']:.1f} dB; doing nothing would score "
        f"{scores['psnr_true_unedited']:.1f} dB.",
    ]
    if scores["psnr_outside"] is not None:
        told.append(f"Where nothing should change, its PSNR to the source is {scores['psnr_outside']:.1f} dB.")
    if scores["view_difference_ratio"] is not None:
        ratio = scores["view_difference_ratio"]
        told.append(f"Neighbouring views differ {ratio:.1f} times as much as those of the true edit.")
    return told


def tell(scored: Scored) -> None:
    """Print what a judge found: in sentences where there are any, else as a table."""
    if not scored.told:
        show(scored.table)
        return
    Console().print(Text(scored.table.title, "italic"))
    for line in scored.told:
        Console().print(Text(f"  {line}"), soft_wrap=True)
    Console().print(Text(f"  All {len(scored.scores)} scores are in scores.json."), soft_wrap=True)


def show(table: Measures) -> None:
    """Print a table; its words are shown as they are."""
    printed = Table(title=Text(table.title), title_justify="left", min_width=60)
    printed.add_column("score")
    for column in table.columns:
        printed.add_column(column, justify="right")
    for row in table.rows:
        printed.add_row(*map(Text, row))
    Console().print(printed)
    if table.note:
        Console().print(Text(table.note), soft_wrap=True)


def _small(picture: Float[Tensor, "3 height width"]) -> OfAnySize:
    """Return a picture as bytes, made smaller if it is large."""
    image = PIL.Image.fromarray(to_bytes(picture.permute(1, 2, 0)))
    image.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.LANCZOS)
    return np.asarray(image)


def _written(value: Any, form: str = "{:.3f}") -> str:
    """Return a number as a table has it, a dash for none."""
    number = plain({"": value})[""] if isinstance(value, float) else value
    return "–" if number is None else form.format(number)


def main() -> None:
    """Run the command `pds-eval`."""
    evaluation = parse(Evaluation, HELP.command, HELP.text(Evaluation(Path())))
    try:
        out = run(evaluation)
    except UserError as error:
        sys.exit(f"Error: {error.on_command_line()}")
    print(f"Wrote {out / 'scores.json'} and {out / 'pictures.png'}")
