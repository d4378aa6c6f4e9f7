"""What an edit has made, as points of surfaces: new Gaussians begin there, instead of in its haze.

A splat that distillation has edited is a cloud of large, faint Gaussians about right in all views, and a fit that goes
on from it stays soft. A reconstruction is sharp because it begins with small Gaussians on the surfaces. So does a fit
to redrawn views: each view says which of its pixels have changed, the edited scene how deep they are, and the other
views whether they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.scenes.models.look import Look

_OPAQUE = 0.5
"""Opacity from which a pixel has a depth to speak of."""
_SAME_DEPTH = 0.04
"""Share of its depth within which two views see one surface."""
_SAME_COLOR = 0.25
"""Largest difference of a colour's channels, of 0..1, between two views of one surface: light differs with the side."""
_FEWEST = 2
"""Other views that have to see a point where the first one does."""
_MOST_THROUGH = 0.5
"""Views that look through a point at something behind it, as a share of those that see it: more, and it floats."""
_MOST_UNCHANGED = 0.5
"""Views in which nothing has changed at a point, as a share of those that see it: more, and it was there before. What
counts as changed reaches over the edge of what has, to whatever is behind it."""
_TRIED = 4
"""Points that are tried for each that is wanted."""


@dataclass(frozen=True)
class Seeds:
    """Points of the surfaces that an edit has made or changed."""

    means: Float[Tensor, "seeds 3"]
    """Where they are."""
    colors: Float[Tensor, "seeds 3"]
    """In 0..1."""


def find_seeds(looks: Sequence[Look], changed: Sequence[Bool[Tensor, "height width"]], n: int) -> Seeds:
    """Return up to `n` points of what has changed, of those on which the views agree.

    Args:
        looks: Redrawn views, with the depths of the edited scene; where that is haze, the opacity should say 0.
        changed: Which pixels of each have changed.
        n: How many.
    """
    where = [(mask & (look.opacity > _OPAQUE)).nonzero() for look, mask in zip(looks, changed, strict=True)]
    share = min(1.0, _TRIED * n / max(1, sum(map(len, where))))
    points, colors, own = [], [], []
    for index, (look, pixels) in enumerate(zip(looks, where, strict=True)):
        some = pixels[torch.randperm(len(pixels), device=pixels.device)[: round(share * len(pixels))]]
        points.append(look.points()[some[:, 0], some[:, 1]])
        colors.append(look.color[some[:, 0], some[:, 1]])
        own.append(torch.full_like(some[:, 0], index))
    seeds = Seeds(torch.cat(points), torch.cat(colors))
    agreed = agreement(looks, changed, seeds, torch.cat(own)).nonzero()[:, 0]
    some = agreed[torch.randperm(len(agreed), device=agreed.device)[:n]]
    return Seeds(seeds.means[some], seeds.colors[some])


def agreement(
    looks: Sequence[Look], changed: Sequence[Bool[Tensor, "height width"]], seeds: Seeds, own: Int[Tensor, " seeds"]
) -> Bool[Tensor, " seeds"]:
    """Return which points other views see as well, as something that has changed, and do not look through.

    Args:
        looks: The views.
        changed: Which pixels of each have changed.
        seeds: The points.
        own: The view that each point is from, which says nothing more of it.
    """
    seen, through, unchanged = torch.zeros_like(own), torch.zeros_like(own), torch.zeros_like(own)
    for index, (look, mask) in enumerate(zip(looks, changed, strict=True)):
        at, depth = look.project(seeds.means)
        height, width = look.depth.shape
        column, row = at.floor().long().unbind(-1)
        framed = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height) & (own != index)
        row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        there, opaque = look.depth[row, column], look.opacity[row, column] > _OPAQUE
        alike = (look.color[row, column] - seeds.colors).abs().amax(-1) < _SAME_COLOR
        sees = framed & opaque & ((there - depth).abs() <= _SAME_DEPTH * depth) & alike
        seen += sees
        unchanged += sees & ~mask[row, column]
        through += framed & opaque & (there > (1 + _SAME_DEPTH) * depth)
    return (seen >= _FEWEST) & (through <= _MOST_THROUGH * seen) & (unchanged <= _MOST_UNCHANGED * seen)
