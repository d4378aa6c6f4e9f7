"""Whether views of an edited scene of the embedded world agree as well as those of its true edit, by their depths."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pds_nerfstudio.evaluation.metrics import mean
from pds_nerfstudio.evaluation.reprojection import APART, carried_over, view_difference
from pds_nerfstudio.evaluation.scene_scores import look_of
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.look import Look
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes
from pds_nerfstudio.toyworld.renderer import Cameras, render

Looks = Callable[[Cameras], Sequence[Look]]
"""What a scene shows cameras in the world's own coordinates; the looks may be in other ones."""
_RAYS = 3
"""Rays a pixel, along each axis: an odd number, so that one goes through its middle, where the depth is needed."""
_SKY = 1e3
"""Metres, in place of infinity."""


@torch.no_grad()
def beside_true_edit(target: Attributes, cameras: Cameras, looks: Looks) -> float:
    """Return how far views of an edit disagree with neighbouring ones, as a multiple of the true edit's.

    Each scene is carried over by its own depth. Both count the same pixels, those at which each shows a point that
    its neighbouring view sees too. So the sky does not count, which has no depth.

    Args:
        target: The true edit.
        cameras: The views. Each is compared with one 10° further around the subject.
        looks: The edited scene.

    Returns:
        1 if its views agree as well, more if they agree less; NaN if no pixel counts.
    """
    differences = []
    edit, truth = (_pairs(of, cameras) for of in (looks, functools.partial(true_looks, target)))
    for pairs in zip(edit, truth, strict=True):
        seen = torch.stack([carried_over(*pair)[1].cpu() for pair in pairs]).all(0)
        differences.append([view_difference(*pair, seen.to(pair[0].color.device)).item() for pair in pairs])
    own, its = (mean(column) for column in torch.tensor(differences).unbind(1))
    return own / its if its else math.nan


def _pairs(looks: Looks, cameras: Cameras) -> list[tuple[Look, Look]]:
    return list(zip(looks(cameras), looks(further_around(cameras)), strict=True))


def further_around(cameras: Cameras) -> Cameras:
    """Return cameras that look at the subject from 10° further around it, at the same height and distance."""
    cos, sin = math.cos(APART), math.sin(APART)
    turn = cameras.camera_to_world.new_tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])  # about the subject's axis
    return replace(cameras, camera_to_world=turn @ cameras.camera_to_world)


def true_looks(thing: Attributes, cameras: Cameras) -> list[Look]:
    """Return what cameras see of a thing, with its depth."""
    seen = render(build([thing], cameras.camera_to_world.device), cameras, supersample=_RAYS)
    center = seen.depth.new_tensor([cameras.width / 2, cameras.height / 2])

    def look(i: int, color: Tensor, distances: Tensor) -> Look:
        surface, focal = distances.isfinite().to(distances), cameras.focal[i].expand(2)
        flat = Look(color, torch.ones_like(distances), surface, cameras.camera_to_world[i], focal, center)
        return flat.at_distances(distances.clamp(max=_SKY))

    return [look(i, *view) for i, view in enumerate(zip(seen.rgb.movedim(1, -1), seen.depth, strict=True))]


def looks_of(finished: FinishedEdit, cameras: Cameras) -> list[Look]:
    """Return what cameras of the embedded world see of a finished edit."""
    moved = finished.cameras(cameras.camera_to_world, cameras.focal, cameras.width, cameras.height)
    return [look_of(finished.pipeline.model, moved[i : i + 1]) for i in range(len(cameras))]
