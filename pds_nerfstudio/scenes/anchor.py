"""The photometric anchor: what an edit is not about is held to the source images, at their full size.

The guidance looks at views of some 512² pixels; what a scene holds beyond that is free to drift in its sight. So each
step also compares full-size views with the source images, of splats the step's view, of NeRFs random rays of all
views, and leaves out what the edit is about. On average over the draws it is the mean over all pixels of all views.

Only of a view of more pixels than a step may render a part is compared, which counts for no more than it does in the
whole. It must not make up for the others: Adam, which remembers the small gradients of many steps, answers one that is
many times as large with a leap, away from what fits.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pds_nerfstudio.scenes.views import Part, SourceViews

_TILE = 16
"""Pixels along a side of a tile of gsplat's, at whose borders Gaussians are cut off: a part consists of whole tiles."""
_SHARE = 0.5
"""Pixels of a part, as a share of those that a step may render anyway: what a part costs is to be little beside it."""
_SIDE = 128
"""Places along a side of a view for which is known whether the edit is about them; a mask of latents has fewer."""


@dataclass(frozen=True)
class Pixels:
    """Some pixels of full-size views, beside what the scene shows there."""

    views: Int[Tensor, " n"]
    """Of which view each is."""
    places: Float[Tensor, "n 2"]
    """How far down and to the right its centre lies, as shares of the view's height and width."""
    source: Float[Tensor, "n 3"]
    """Of the source images, in 0..1."""
    shown: Float[Tensor, "n 3"]
    """What the scene shows, with gradients."""
    weight: float | None
    """Of each in a mean over the views of a step. None: they are drawn evenly from all views."""
    squared: bool
    """Whether distances count squared. They do as in the scene's reconstruction: a loss of another size than that which
    the optimisers know would begin with steps much too long."""


class Anchor:
    """Holds a scene to its source images, outside what the edit is about.

    Args:
        views: Of the scene.
        seed: Of what is drawn for splats.
        device: Of the scene.
    """

    def __init__(self, views: SourceViews, seed: str, device: torch.device | str) -> None:
        self.views = views
        self._seed = seed
        self._inside = torch.zeros(len(views), _SIDE, _SIDE, dtype=torch.uint8, device=device)
        self._known = torch.zeros(len(views), device=device)
        self._learned: set[int] = set()
        sizes = [views.full_size(index) for index in range(len(views))]
        self._all_sizes = torch.tensor(sizes, device=device)

    def learn(self, index: int, mask: Float[Tensor, "1 height width"] | None) -> None:
        """Take in what the edit is about in a view. Before, the view says nothing.

        Args:
            index: Of the view.
            mask: In 0..1 and of any size; not finite where the edit may be about anything. None: all of it is held.
        """
        if mask is None:
            self._inside[index] = 0
        else:
            places = F.interpolate(mask[None].float(), (_SIDE, _SIDE), mode="bilinear")[0, 0]
            self._inside[index] = (places.nan_to_num(1.0) * 255).round().to(torch.uint8)
        self._known[index] = 1.0
        self._learned.add(index)

    def forget(self) -> None:
        """Forget what the edit is about."""
        self._known.zero_()
        self._learned.clear()

    def state_dict(self) -> dict[int, UInt8[Tensor, "rows columns"]]:
        """Return what is known of views, by their numbers, for a checkpoint."""
        return {index: self._inside[index].cpu() for index in sorted(self._learned)}

    def load_state_dict(self, state: Mapping[int, UInt8[Tensor, "rows columns"]]) -> None:
        """Go on with what is known of views, and forget all else."""
        self.forget()
        for index, inside in state.items():
            self._inside[index], self._known[index] = inside.to(self._inside.device), 1.0
            self._learned.add(index)

    def part(self, index: int, step: int) -> Part:
        """Draw one of the parts of a full-size view, each alike.

        A part has about half as many pixels as a step may render; a view that is no larger than that is one part.

        Args:
            index: Of the view.
            step: Decides, with the seed, what is drawn.
        """
        parts = parts_of(*self.views.full_size(index), self.views.fine_side)
        return random.Random(f"{self._seed}/{step}/{index}").choice(parts)

    def pixels(self, index: int, part: Part, shown: Float[Tensor, "height width 3"], share: float) -> Pixels:
        """Return the pixels of a part of a view.

        Args:
            index: Of the view.
            part: Of it.
            shown: What the scene shows there.
            share: Of the view in the mean over a step's views.
        """
        height, width = self.views.full_size(index)
        rows, columns = (
            torch.arange(side.start, side.stop, device=shown.device) + 0.5 for side in (part.rows, part.columns)
        )
        places = torch.cartesian_prod(rows / height, columns / width)
        views = torch.full((len(places),), index, device=shown.device)
        source = self.views.full_size_image(index, part.rows, part.columns)
        mask = self.views.full_size_mask(index, part.rows, part.columns)
        if mask is not None:  # what the data set masks out is compared with itself
            source = torch.where(mask[..., None], source, shown.detach())
        return Pixels(views, places, source.reshape(-1, 3), shown.reshape(-1, 3), share / (height * width), False)

    def rays(
        self, indices: Int[Tensor, "rays 3"], source: Float[Tensor, "rays 3"], shown: Float[Tensor, "rays 3"]
    ) -> Pixels:
        """Return the pixels of rays that are drawn evenly from all views.

        Args:
            indices: View, row and column of each.
            source: Their colours in the source images.
            shown: What the scene shows there.
        """
        views = indices[:, 0]
        places = (indices[:, 1:] + 0.5) / self._all_sizes[views]
        return Pixels(views, places, source, shown, weight=None, squared=True)

    def distance(self, pixels: Sequence[Pixels]) -> Float[Tensor, ""]:
        """Return the mean distance of what is shown from the source images, a pixel counting as it lies outside."""
        return torch.stack([self._distance(part) for part in pixels]).sum()

    def _distance(self, pixels: Pixels) -> Float[Tensor, ""]:
        rows, columns = (pixels.places * _SIDE).long().clamp(0, _SIDE - 1).unbind(-1)
        inside = self._inside[pixels.views, rows, columns].float() / 255
        counts = (1 - inside) * self._known[pixels.views]
        weight = pixels.weight
        if weight is None:  # rays of views that nothing is known of count for nothing, those of the others for more
            weight = len(self.views) / max(1, len(self._learned)) / len(pixels.views)
        difference = pixels.shown.float() - pixels.source
        distances = difference.square() if pixels.squared else difference.abs()
        return weight * (counts * distances.mean(-1)).sum()


def parts_of(height: int, width: int, side: float) -> list[Part]:
    """Return the parts of a picture: rectangles that together are all of it, of about the same size.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        side: A picture of no more pixels than a square of this side is one part.
    """
    if height * width <= side * side:
        return [Part(slice(0, height), slice(0, width))]
    rows, columns = (_borders(length, side * math.sqrt(_SHARE)) for length in (height, width))
    return [Part(*both) for both in itertools.product(rows, columns)]


def _borders(length: int, about: float) -> list[slice]:
    """Return the pieces of about a length that a side is cut into, between tiles."""
    n = max(1, round(length / about))
    borders = sorted({*(round(k * length / n / _TILE) * _TILE for k in range(n)), length})
    return [slice(*both) for both in itertools.pairwise(borders)]
