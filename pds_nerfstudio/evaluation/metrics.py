"""Pure functions from pictures to numbers. Pictures are (batch, 3, height, width) in 0..1; numbers are per picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.evaluation.consistency import Features
from pds_nerfstudio.measures import decibels

_TILES_AT_A_TIME = 16

Measure = Callable[
    [
        Float[Tensor, "batch 3 height width"],
        Float[Tensor, "batch 3 height width"],
        Bool[Tensor, "batch height width"] | None,
    ],
    Float[Tensor, " batch"],
]
"""Compares pictures with a reference, within some pixels or (None) everywhere: a number for each picture."""


def measure_named(path: str) -> tuple[str, Measure]:
    """Return the name and the function of a user's own measure, given as module:function.

    Raises:
        UserError: If it can't be imported, or is no function.
    """
    try:
        measure = resolve_name(path)
    except Exception as error:  # The import of a user's module can raise anything.
        raise UserError(
            f"The measure '{path}' can't be imported ({first_line(error)}): give module:function."
        ) from error
    if ":" not in path or not callable(measure):
        raise UserError(f"The measure '{path}' is no function: give module:function.")
    return path.rpartition(":")[2], measure


def compared(
    measure: Measure,
    before: Float[Tensor, "batch 3 height width"],
    truth: Float[Tensor, "batch 3 height width"],
    edited: Float[Tensor, "batch 3 height width"],
) -> dict[str, float]:
    """Return what a measure says of an edit, as means over its views.

    Args:
        measure: What to compare by.
        before: The unedited pictures.
        truth: The true edit.
        edited: The edit.

    Returns:
        "true": compared with the true edit. "source": with the unedited pictures. "inside": with the true edit, where
        it changes something. "outside": with the unedited pictures, elsewhere.
    """
    inside = changed_region(before, truth)
    pairs = {"true": (truth, None), "source": (before, None), "inside": (truth, inside), "outside": (before, ~inside)}
    return {name: mean(measure(edited, reference, where)) for name, (reference, where) in pairs.items()}


def by_own_measures(
    paths: Sequence[str],
    before: Float[Tensor, "batch 3 height width"],
    truth: Float[Tensor, "batch 3 height width"],
    edited: Float[Tensor, "batch 3 height width"],
) -> dict[str, float]:
    """Return the results of `compared` by the user's own measures, as NAME_true and so on.

    Args:
        paths: Each as `measure_named` takes it.
        before: The unedited pictures.
        truth: The true edit.
        edited: The edit.

    Raises:
        UserError: If there is no such measure.
    """
    return {
        f"{name}_{place}": value
        for name, measure in map(measure_named, paths)
        for place, value in compared(measure, before, truth, edited).items()
    }


def psnr(
    image: Float[Tensor, "batch 3 height width"],
    reference: Float[Tensor, "batch 3 height width"],
    where: Bool[Tensor, "batch height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return the peak signal-to-noise ratio in dB: −10·log₁₀ of the mean square error.

    Args:
        image: To judge.
        reference: The truth.
        where: Pixels to count; None counts all. A picture with no pixel to count gets NaN.
    """
    return decibels(_mean_where((image - reference).square().mean(1), where))


def ssim(
    image: Float[Tensor, "batch 3 height width"],
    reference: Float[Tensor, "batch 3 height width"],
    where: Bool[Tensor, "batch height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return the structural similarity (Wang et al. 2004), 1 for equal pictures; `where` as in `psnr`."""
    value, similarity = structural_similarity_index_measure(
        image, reference, data_range=1.0, reduction="none", return_full_image=True
    )
    return value if where is None else _mean_where(similarity.mean(1), where)


def perceptual_distance(
    features: Features,
    image: Float[Tensor, "batch 3 height width"],
    reference: Float[Tensor, "batch 3 height width"],
    where: Bool[Tensor, "batch height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return LPIPS (Zhang et al. 2018, equation 1) with all channel weights 1: 0 for equal pictures, at most 4.

    Features are normalised over channels at each place, and their squared difference is averaged over places and
    layers.

    Args:
        features: A network's layers, each (batch, channels, height, width).
        image: To judge.
        reference: The truth.
        where: As in `psnr`. A feature counts by the share of its place that does.
    """
    distances = []
    for a, b in zip(features(image), features(reference), strict=True):
        distance = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1)
        share = None if where is None else F.adaptive_avg_pool2d(where.float(), (distance.shape[1], distance.shape[2]))
        distances.append(_mean_where(distance, share))
    return torch.stack(distances).mean(0)


def perceptual_in_tiles(
    features: Features,
    image: Float[Tensor, "3 height width"],
    reference: Float[Tensor, "3 height width"],
    where: Bool[Tensor, "height width"] | None = None,
    side: int = 128,
) -> Float[Tensor, ""]:
    """Return `perceptual_distance` of one large picture at its full size: of its tiles, weighted by pixels that count.

    A network that looks at small pictures sees of a large one, made small, nothing of what is finer. Its tiles it sees
    as they are, few at a time, so that memory is bounded.

    Args:
        features: As in `perceptual_distance`.
        image: To judge.
        reference: The truth.
        where: As in `psnr`. What doesn't count is taken from the reference, so that no feature sees it from where
            something counts.
        side: Of a tile, in pixels. At the right and below the picture's last pixels are repeated, and don't count.
    """
    height, width = image.shape[-2:]
    counted = torch.ones(height, width, device=image.device) if where is None else where.float()
    image = torch.where(counted > 0, image, reference)
    beyond = (0, -width % side, 0, -height % side)
    tiles = [_tiles(F.pad(picture[None], beyond, mode="replicate")[0], side) for picture in (image, reference)]
    share = _tiles(F.pad(counted[None], beyond), side)[:, 0]
    pixels = share.sum((1, 2))
    total = image.new_zeros(())
    for some in pixels.nonzero()[:, 0].split(_TILES_AT_A_TIME):
        values = perceptual_distance(features, tiles[0][some], tiles[1][some], share[some] > 0)
        total = total + (values * pixels[some]).sum()
    return total / pixels.sum()


def _tiles(picture: Float[Tensor, "channels height width"], side: int) -> Float[Tensor, "tiles channels side side"]:
    """Return the tiles of a picture whose sides are multiples of theirs."""
    return picture.unfold(1, side, side).unfold(2, side, side).flatten(1, 2).transpose(0, 1)


def gradient_energy(
    image: Float[Tensor, "batch 3 height width"], where: Bool[Tensor, "batch height width"] | None = None
) -> Float[Tensor, " batch"]:
    """Return how much detail pictures have: the mean over pixels and channels of (∂ₓI)² + (∂ᵧI)².

    Derivatives are differences from a pixel to the next one on its right and to the one below it. Beside the energy of
    another picture of the same view it says how sharp a picture is: where a blur makes of a step one over n pixels, a
    n-th is left of its energy.

    Args:
        image: In 0..1.
        where: As in `psnr`. Only differences between pixels that both count are taken.
    """
    down, across = image.diff(dim=2)[..., :-1], image.diff(dim=3)[:, :, :-1]
    energy = (down.square() + across.square()).mean(1)
    if where is None:
        return energy.mean((1, 2))
    return _mean_where(energy, where[:, :-1, :-1] & where[:, 1:, :-1] & where[:, :-1, 1:])


def plain(scores: Mapping[str, float], most_decibels: float = math.inf) -> dict[str, float | None]:
    """Return scores that JSON can hold: what is not finite becomes null.

    Args:
        scores: By their names.
        most_decibels: No score whose name begins with psnr is larger.
    """
    least = {name: min(value, most_decibels) if name.startswith("psnr") else value for name, value in scores.items()}
    return {name: value if math.isfinite(value) else None for name, value in least.items()}


def _mean_where(
    values: Float[Tensor, "batch height width"], where: Shaped[Tensor, "batch height width"] | None
) -> Float[Tensor, " batch"]:
    """Return the mean of each picture's values, weighted by `where`; NaN where all weights are 0."""
    if where is None:
        return values.mean((1, 2))
    return (values * where).sum((1, 2)) / where.sum((1, 2))


def changed_region(
    before: Float[Tensor, "batch 3 height width"],
    after: Float[Tensor, "batch 3 height width"],
    threshold: float = 4 / 255,
    margin: int = 2,
) -> Bool[Tensor, "batch height width"]:
    """Return where two pictures of one camera differ, and `margin` pixels around it.

    Args:
        before: A picture.
        after: The same view after a change.
        threshold: Differences up to this, in any channel, don't count.
        margin: Pixels by which the region grows on all sides.
    """
    differs = ((before - after).abs().amax(1, keepdim=True) > threshold).float()
    return F.max_pool2d(differs, 2 * margin + 1, stride=1, padding=margin)[:, 0] > 0


def mean(values: Float[Tensor, " batch"]) -> float:
    """Return the mean of the values that aren't NaN (of views without a pixel to count); infinite if one is."""
    return values.nanmean().item()
