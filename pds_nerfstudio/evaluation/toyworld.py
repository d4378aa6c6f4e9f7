"""Scores an edited scene of the embedded world against the true edit, from cameras it was never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pds_nerfstudio.evaluation import metrics
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.dataset import photograph, walk_around
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes
from pds_nerfstudio.toyworld.renderer import Cameras

Pictures = Float[Tensor, "views 3 height width"]

HELD_OUT_SEED = 1000
"""Scenes are photographed with small seeds; these cameras are none of theirs."""


@dataclass(frozen=True)
class EditScores:
    """How an edit did, as means over views.

    Attributes:
        success: Share of the views in which the classifier sees what the edit asked for.
        kept: Share of the other attributes that it still reads as in the source.
        psnr_true: dB to the true edit.
        psnr_true_unedited: dB that the true pictures of the unedited scene have to the true edit: what doing nothing
            would score.
        psnr_source: dB to the unedited scene.
        psnr_outside: dB to the unedited scene where the true edit changes nothing.
        ssim_true: Structural similarity to the true edit.
        perceptual_true: LPIPS-like distance to the true edit, on the classifier's features.
        perceptual_source: The same to the unedited scene.
    """

    success: float
    kept: float
    psnr_true: float
    psnr_true_unedited: float
    psnr_source: float
    psnr_outside: float
    ssim_true: float
    perceptual_true: float
    perceptual_source: float


@dataclass(frozen=True)
class Judgement:
    """Scores, and the pictures they were given for."""

    scores: EditScores
    source: Pictures
    truth: Pictures
    edited: Pictures


def held_out_cameras(n: int, width: int = 128, height: int = 128, seed: int = HELD_OUT_SEED) -> Cameras:
    """Cameras to judge from; `seed` says which."""
    return walk_around(n, seed, width, height)


def judge(
    source: Attributes,
    target: Attributes,
    cameras: Cameras,
    render: Callable[[Cameras], Pictures],
) -> Judgement:
    """Score what `render` shows to `cameras`.

    Args:
        source: What the scene showed.
        target: What the edit was to make of it.
        cameras: In the world's own coordinates.
        render: The edited scene.
    """
    before, truth, edited = _pictures(source, cameras), _pictures(target, cameras), render(cameras).cpu().float()
    return Judgement(score(source, target, before, truth, edited), before, truth, edited)


def score(source: Attributes, target: Attributes, before: Pictures, truth: Pictures, edited: Pictures) -> EditScores:
    """Score pictures of an edit.

    Args:
        source: What was there.
        target: What the edit was to make of it.
        before: Pictures of the source.
        truth: The same views of the target.
        edited: The same views of the edit.
    """
    classifier = AttributeClassifier.load()
    read = classifier.read(edited)
    same, right = [], []
    for field in fields(Attributes):
        was, wanted = getattr(source, field.name), getattr(target, field.name)
        if was != wanted:
            right.append(read[field.name] == VALUES[field.name].index(wanted))
        elif source.shows(field.name) and target.shows(field.name):
            same.append(read[field.name] == VALUES[field.name].index(was))
    unchanged = ~metrics.changed_region(before, truth)
    return EditScores(
        success=torch.stack(right).all(0).float().mean().item(),
        kept=torch.stack(same).float().mean().item(),
        psnr_true=metrics.mean(metrics.psnr(edited, truth)),
        psnr_true_unedited=metrics.mean(metrics.psnr(before, truth)),
        psnr_source=metrics.mean(metrics.psnr(edited, before)),
        psnr_outside=metrics.mean(metrics.psnr(edited, before, unchanged)),
        ssim_true=metrics.mean(metrics.ssim(edited, truth)),
        perceptual_true=metrics.mean(metrics.perceptual_distance(classifier.features, edited, truth)),
        perceptual_source=metrics.mean(metrics.perceptual_distance(classifier.features, edited, before)),
    )


def _pictures(thing: Attributes, cameras: Cameras) -> Pictures:
    images: list[UInt8[np.ndarray, "height width 3"]] = [image for image, _ in photograph(thing, cameras)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def is_toyworld_scene(data: Path) -> bool:
    """Whether a data set knows its true edit."""
    from pds_nerfstudio.toyworld.dataset import RECORD

    return (data / RECORD).is_file()
