"""Score an edited scene of the embedded world against the true edit, from cameras it was never trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pds_nerfstudio.evaluation import metrics
from pds_nerfstudio.evaluation.consistency import direction_consistency, pooled_features
from pds_nerfstudio.evaluation.view_agreement import Looks, beside_true_edit
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.dataset import RECORD, photograph, walk_around
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes
from pds_nerfstudio.toyworld.renderer import Cameras

Pictures = Float[Tensor, "views 3 height width"]

HELD_OUT_SEED = 1000
"""Scenes are photographed with small seeds, so their cameras are never these."""


@dataclass(frozen=True)
class EditScores:
    """How an edit did, as means over views.

    "Outside" is where the true edit changes nothing (there the source is the truth), "inside" is the rest.
    """

    success: float
    """Share of the views in which the classifier sees what the edit asked for."""
    kept: float
    """Share of the other attributes that it still reads as in the source."""
    details: float
    """Share of the attributes that come with the edit (the colour of a new hat) that it reads as in the target prompt;
    NaN if there are none."""
    psnr_true: float
    """dB to the true edit."""
    psnr_true_unedited: float
    """PSNR of the unedited scene against the true edit, in dB: what doing nothing would score."""
    psnr_source: float
    """dB to the unedited scene."""
    psnr_inside: float
    """dB to the true edit, inside."""
    psnr_outside: float
    """dB to the unedited scene, outside."""
    ssim_true: float
    """Structural similarity to the true edit."""
    ssim_source: float
    """The same to the unedited scene."""
    ssim_inside: float
    """To the true edit, inside."""
    ssim_outside: float
    """To the unedited scene, outside."""
    perceptual_true: float
    """LPIPS-like distance to the true edit, on the classifier's features."""
    perceptual_source: float
    """The same to the unedited scene."""
    perceptual_inside: float
    """To the true edit, inside."""
    perceptual_outside: float
    """To the unedited scene, outside."""
    sharpness_inside: float
    """Energy of the edit's gradients as a multiple of the true edit's, inside: 1 is as sharp, less is blurred."""
    sharpness_outside: float
    """The same beside the unedited scene's, outside."""
    consistency: float
    """Whether neighbouring views change alike, −1..1 (see `consistency.direction_consistency`, here on the classifier's
    features); NaN for a single view."""
    consistency_true: float
    """The same of the true edit."""
    view_difference_ratio: float = math.nan
    """How far neighbouring views disagree, as a multiple of the true edit's (`view_agreement.beside_true_edit`): 1
    is as well as can be, more is worse; NaN for a single picture."""


@dataclass(frozen=True)
class Judgement:
    """Scores, and the pictures they were given for."""

    scores: EditScores
    """How the edit did."""
    source: Pictures
    """The unedited scene."""
    truth: Pictures
    """The true edit."""
    edited: Pictures
    """The edit."""


def held_out_cameras(n: int, width: int = 128, height: int = 128, seed: int = HELD_OUT_SEED) -> Cameras:
    """Return cameras to judge from; `seed` says which."""
    return walk_around(n, seed, width, height)


def judge(
    source: Attributes,
    target: Attributes,
    cameras: Cameras,
    render: Callable[[Cameras], Pictures],
    looks: Looks | None = None,
) -> Judgement:
    """Score what `render` shows to `cameras`.

    Args:
        source: What the scene showed.
        target: What the edit was to make of it.
        cameras: In the world's own coordinates.
        render: The edited scene.
        looks: The same with its depth; None if it has none.
    """
    before, truth, edited = pictures(source, cameras), pictures(target, cameras), render(cameras).cpu().float()
    scores = score(source, target, before, truth, edited)
    if looks is not None:
        scores = replace(scores, view_difference_ratio=beside_true_edit(target, cameras, looks))
    return Judgement(scores, before, truth, edited)


def score(source: Attributes, target: Attributes, before: Pictures, truth: Pictures, edited: Pictures) -> EditScores:
    """Score pictures of an edit.

    Args:
        source: What the unedited pictures show.
        target: What the edit was to make of it.
        before: The unedited pictures.
        truth: The same views of the true edit.
        edited: The same views of the edit.
    """
    classifier = AttributeClassifier.load()
    read = classifier.read(edited)
    right: list[Tensor] = []
    same: list[Tensor] = []
    along: list[Tensor] = []
    for field in fields(Attributes):
        was, wanted = getattr(source, field.name), getattr(target, field.name)
        as_wanted = read[field.name] == VALUES[field.name].index(wanted)
        if was != wanted:
            right.append(as_wanted)
        elif target.shows(field.name):
            (same if source.shows(field.name) else along).append(as_wanted)
    perceptual = partial(metrics.perceptual_distance, classifier.features)
    measures: dict[str, metrics.Measure] = {"psnr": metrics.psnr, "ssim": metrics.ssim, "perceptual": perceptual}
    compared = {
        f"{name}_{place}": value
        for name, measure in measures.items()
        for place, value in metrics.compared(measure, before, truth, edited).items()
    }
    seen = [pooled_features(classifier.features, images) for images in (before, truth, edited)]
    return EditScores(
        success=torch.stack(right).all(0).float().mean().item(),
        kept=torch.stack(same).float().mean().item(),
        details=torch.stack(along).float().mean().item() if along else float("nan"),
        psnr_true_unedited=metrics.mean(metrics.psnr(before, truth)),
        **compared,
        **_sharpness(before, truth, edited),
        consistency=metrics.mean(direction_consistency(seen[0], seen[2])),
        consistency_true=metrics.mean(direction_consistency(seen[0], seen[1])),
    )


_ROUNDED = 1e-5
"""Energy of gradients that rounding to bytes may make of an even surface: twice 2/12 of a byte's step squared, and as
much again for the noise of what is sampled."""


def _sharpness(before: Pictures, truth: Pictures, edited: Pictures) -> dict[str, float]:
    """Return, by the names of the scores, how much detail there is beside that which should be; NaN if none should."""
    inside = metrics.changed_region(before, truth)
    energies = {
        place: [metrics.mean(metrics.gradient_energy(images, where)) for images in (edited, reference)]
        for place, reference, where in (("inside", truth, inside), ("outside", before, ~inside))
    }
    return {f"sharpness_{place}": own / its if its > _ROUNDED else math.nan for place, (own, its) in energies.items()}


def pictures(thing: Attributes, cameras: Cameras) -> Pictures:
    """Return what the cameras see of a thing, rounded to bytes as a file would be."""
    images: list[UInt8[np.ndarray, "height width 3"]] = [image for image, _ in photograph(thing, cameras)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def is_toyworld_scene(data: Path) -> bool:
    """Return whether a data set knows its true edit."""
    return (data / RECORD).is_file()
