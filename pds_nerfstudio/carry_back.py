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
_REPLACED = (0.04, 0.12)
"""Changes, of 0..1, from which the source's detail begins to fade and from which it is gone."""


def carry_back(source: Images, before: Shrunk, after: Shrunk) -> Images:
    """Apply the change from `before` to `after` to `source`.

    Where nothing has changed, the source stays as it is, to the bit; where much has, what the model made takes its
    place, and no ghost of the source's detail is left. In between the two are mixed.

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
    """Return how much of a change counts, and how much of the source's detail it replaces, at each pixel.

    Args:
        before: In 0..1.
        after: In 0..1.
    """
    change = (after - before).abs().amax(1, keepdim=True)
    change = F.avg_pool2d(change, 5, stride=1, padding=2, count_include_pad=False)  # no lone pixel of noise counts
    taken, replaced = (((change - low) / (high - low)).clamp(0, 1) for low, high in (_TAKEN, _REPLACED))
    return taken, replaced


def compose(
    source: Float[Tensor, "*#pixels"],
    before: Float[Tensor, "*#pixels"],
    after: Float[Tensor, "*#pixels"],
    taken: Float[Tensor, "*#pixels"],
    replaced: Float[Tensor, "*#pixels"],
) -> Float[Tensor, "*#pixels"]:
    """Return pixels of the source with the change in them: each by itself, so as many of a picture as one needs.

    Args:
        source: In 0..1.
        before: The small source, enlarged.
        after: The same after the edit.
        taken: How much of the change counts, enlarged; where it is 0 the source stays, to the bit.
        replaced: How much of the source's detail is replaced, enlarged.
    """
    edited = (after + (1 - replaced) * (source - before)).clamp(0, 1)
    return torch.where(taken > 0, torch.lerp(source, edited, taken), source)
