"""A change that a model has made to a small picture, carried back to the large one, whose detail it never saw."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.latents import resize

Images = Float[Tensor, "batch 3 height width"]
Shrunk = Float[Tensor, "batch 3 model_height model_width"]
"""Images at the size that the model works at."""
Shares = Float[Tensor, "batch 1 model_height model_width"]
"""Of 0..1, for each pixel of such images."""

_TAKEN = (0.01, 0.03)
"""Changes, of 0..1, from which an edit begins to count and from which it counts in full."""
_LARGE = (0.02, 0.06)
"""Changes, of 0..1, from which it begins to matter whether the source's structure is still there, and fully does."""
_FLAT = 1e-4
"""Variance in a neighbourhood, summed over colours, that could as well be noise."""


def carry_back(source: Images, before: Shrunk, after: Shrunk) -> Images:
    """Apply the change from `before` to `after` to `source`.

    Where nothing has changed, the source stays as it is, to the bit. Where something has, what the model made takes its
    place, under the source's detail as far as that belongs there: all of it where a thing has another colour or light,
    and no ghost of it where there is another thing.

    Args:
        source: In 0..1, of any size.
        before: The source as the model works with it, at the model's size.
        after: The same after the edit.
    """
    size = (source.shape[-2], source.shape[-1])
    before, after = before.to(source), after.to(source)
    small = before, after, *shares(before, after)
    return compose(source, *(resize(part, size) for part in small))


def shares(before: Shrunk, after: Shrunk) -> tuple[Shares, Shares]:
    """Return how much of a change counts, and how much of the source's detail stays in it, at each pixel.

    Args:
        before: In 0..1.
        after: In 0..1.
    """
    change = _around((after - before).abs().amax(1, keepdim=True))  # no lone pixel of noise counts
    taken, large = (((change - low) / (high - low)).clamp(0, 1) for low, high in (_TAKEN, _LARGE))
    lost = large * (1 - _kept_structure(before, after))
    # The model sees the edges of what is gone blurred, and the pixels beside them change less.
    return taken, 1 - F.max_pool2d(lost, 3, stride=1, padding=1)


def _kept_structure(before: Shrunk, after: Shrunk) -> Shares:
    """Return how much of the structure around each pixel is still there, which finer detail is taken to follow.

    It is the slope of a line that predicts the one picture from the other, times how well it does (the squared
    correlation): 1 where a colour is added, .4 where light falls to .4, 0 where something else is now. Where both are
    flat nothing speaks against 1.
    """
    mean_before, mean_after = _around(before), _around(after)

    def covariance(one: Shrunk, other: Shrunk, means: Shrunk) -> Shares:
        return (_around(one * other) - means).sum(1, keepdim=True)

    both = (covariance(before, after, mean_before * mean_after) + _FLAT).clamp_min(0)
    of_before = covariance(before, before, mean_before.square()).clamp_min(0) + _FLAT
    of_after = covariance(after, after, mean_after.square()).clamp_min(0) + _FLAT
    return (both / of_before * (both.square() / (of_before * of_after))).clamp(0, 1)


def _around(images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
    """Return the mean of 5×5 pixels, of fewer at the border."""
    return F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)


def compose(
    source: Float[Tensor, "*#pixels"],
    before: Float[Tensor, "*#pixels"],
    after: Float[Tensor, "*#pixels"],
    taken: Float[Tensor, "*#pixels"],
    detail: Float[Tensor, "*#pixels"],
) -> Float[Tensor, "*#pixels"]:
    """Return pixels of the source with the change in them: each by itself, so as many of a picture as one needs.

    Args:
        source: In 0..1.
        before: The small source, enlarged.
        after: The same after the edit.
        taken: How much of the change counts, enlarged; where it is 0 the source stays, to the bit.
        detail: How much of the source's detail stays in the change, enlarged.
    """
    edited = (after + detail * (source - before)).clamp(0, 1)
    return torch.where(taken > 0, torch.lerp(source, edited, taken), source)
