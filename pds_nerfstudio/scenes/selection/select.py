"""What of a scene may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.selection.carving import carve
from pds_nerfstudio.scenes.selection.config import SelectionConfig
from pds_nerfstudio.scenes.selection.masks import read_masks
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.selection.words import load_segmenter, masks_of_words
from pds_nerfstudio.scenes.views import SourceViews

Masks = Mapping[int, Float[Tensor, "_ _"]]
"""Of some views, by their numbers, in 0..1 and of their cameras' sizes."""

_LATTICE = 9
"""Points along a ball's diameter that are tried."""


@runtime_checkable
class Gaussians(Protocol):
    """What a selection has to know of a scene."""

    @property
    def means(self) -> Float[Tensor, "gaussians 3"]:
        """Their centres."""

    def contributions(
        self, camera: Cameras, weights: Float[Tensor, "height width channels"]
    ) -> Float[Tensor, "gaussians channels"]:
        """Return what each Gaussian adds to a picture, summed over its pixels with some weights."""


def select(config: SelectionConfig, scene: object, views: SourceViews) -> Bool[Tensor, " gaussians"] | Region:
    """Return what of a scene may change: which of its Gaussians or, if it has none, a region of space.

    Args:
        config: How to choose.
        scene: To choose from.
        views: Of the scene.

    Raises:
        UserError: If that is nothing, or there are no masks.
    """
    if isinstance(scene, Gaussians):
        return select_gaussians(config, scene, views)
    region = config.region(views.view_cameras.device)
    for said, masks in _all_masks(config, views):
        cells = carve(views.view_cameras, masks, config.threshold)
        if region.cells is not None:
            cells &= region.cells
        _refuse_none(cells, said)
        region = replace(region, cells=cells)
    if region.balls is not None:
        _refuse_none(region.contains(_points_in(region.balls)), "What --pipeline.only.balls leaves of the selection")
    return region


def _points_in(balls: Float[Tensor, "balls 4"]) -> Float[Tensor, "points 3"]:
    """Return points of a lattice in balls."""
    line = torch.linspace(-0.9, 0.9, _LATTICE, device=balls.device)
    lattice = torch.cartesian_prod(line, line, line)
    inside = lattice[lattice.norm(dim=-1) < 1]
    return (balls[:, None, :3] + balls[:, None, 3:] * inside).flatten(0, 1)


def select_gaussians(config: SelectionConfig, gaussians: Gaussians, views: SourceViews) -> Bool[Tensor, " gaussians"]:
    """Return which Gaussians may change: with their centre in box and balls, and most of their light in all masks.

    Raises:
        UserError: If that is none of them, or there are no masks.
    """
    means = gaussians.means.detach()
    free = config.region(means.device).contains(means)
    if config.balls and not bool(free.any()):
        where = "a ball of --pipeline.only.balls" + (" that is in the box, too" if any(config.obb_scale) else "")
        raise UserError(f"No Gaussian has its centre in {where}: pick with a larger brush, or elsewhere.")
    _refuse_none(free, f"--pipeline.only.obb-center {config.obb_center} and obb-scale {config.obb_scale}")
    for said, masks in _all_masks(config, views):
        free &= shares_inside(gaussians, views.view_cameras, masks) >= config.threshold
        _refuse_none(free, said)
    return free


def _all_masks(config: SelectionConfig, views: SourceViews) -> Iterator[tuple[str, Masks]]:
    """Yield each set of masks that is asked for, after the options that ask for it."""
    if config.masks is not None:
        yield f"--pipeline.only.masks {config.masks} at threshold {config.threshold}", read_masks(config.masks, views)
    if config.words:
        segment = load_segmenter(config.segmenter, views.view_cameras.device)
        yield (
            f"--pipeline.only.words {config.words!r} at threshold {config.threshold}",
            masks_of_words(config.words, segment, views),
        )


def shares_inside(
    gaussians: Gaussians, cameras: Cameras, masks: Mapping[int, Float[Tensor, "height width"]]
) -> Float[Tensor, " gaussians"]:
    """Return the share of what each Gaussian adds to some pictures that lies inside their masks; 0 of those unseen.

    What a Gaussian adds to a pixel is αT, its opacity there times the transmittance before it: votes of a semantic
    tracing (Chen et al., GaussianEditor, CVPR 2024), weighted by what is seen.

    Args:
        gaussians: Of the scene.
        cameras: Of all views.
        masks: Of some views, by their numbers, in 0..1 and of their cameras' sizes.
    """
    sums = torch.zeros(len(gaussians.means), 2, device=gaussians.means.device)
    for index, mask in masks.items():
        sums += gaussians.contributions(cameras[index : index + 1], torch.stack([mask, torch.ones_like(mask)], -1))
    return sums[:, 0] / sums[:, 1].clamp_min(torch.finfo(sums.dtype).tiny)


def _refuse_none(free: Bool[Tensor, "*_"], said: str) -> None:
    if not bool(free.any()):
        raise UserError(f"{said} holds nothing of the scene: there would be nothing to edit.")
