"""Whether an edit changes neighbouring views alike, measured on any network's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Features = Callable[[Float[Tensor, "batch 3 height width"]], Sequence[Float[Tensor, "batch _ _ _"]]]


def pooled_features(features: Features, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _"]:
    """Return one vector a picture: each layer's mean over places, at length 1, one after another."""
    return torch.cat([F.normalize(layer.mean((2, 3)), dim=1) for layer in features(image)], dim=1)


def direction_consistency(
    before: Float[Tensor, "views features"], after: Float[Tensor, "views features"]
) -> Float[Tensor, " pairs"]:
    """Return whether an edit changes neighbouring views alike: the cosine of their changes.

    Haque et al. (2023) take it of CLIP's features, between the frames of a camera path. A view that did not change
    points nowhere and scores 0 with its neighbours. What lies outside the edit cancels out.

    Args:
        before: A vector for each view of the unedited scene, in the order in which cameras are neighbours.
        after: The same of the edited scene.

    Returns:
        A number in −1..1 for each two views in a row; none for a single view.
    """
    change = after - before
    return F.cosine_similarity(change[:-1], change[1:], dim=1)
