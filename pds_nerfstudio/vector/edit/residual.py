"""What a draft shows and a drawing does not: regions of one colour each."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from pds_nerfstudio.vector.edit.likeness import color_distance, oklab
from pds_nerfstudio.vector.edit.palette import nearest_color

FINER = 3
"""Regions have so many pixels for each of the picture's, so that edges lie where colours are half and half."""
_DIFFERENT = 2.0
"""Colour difference from which a pixel is not what it should be."""
_PLAINLY = 5.0
"""Colour difference from which that is so even of thin regions; fainter ones have to be thicker."""
_ALIKE = 7.0
"""Colour difference up to which pixels are of one colour."""
_MOST_COLORS = 8
_SMALLEST = 4e-4
"""Least area of a region, as a share of the picture."""
_THINNEST = 0.8
"""Least distance of some point of a region from its edge, in pixels of the picture."""

Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class Region:
    """A piece of a draft that a drawing does not explain."""

    mask: Mask
    """Where it is; `FINER` times as fine as the picture."""
    color: tuple[float, float, float]
    """What it should be, sRGB in 0..1."""
    whole: Mask
    """The same with what is around it and has its colour already."""
    depth: float
    """Distance of its innermost point from its edge, in pixels of the picture."""

    @property
    def area(self) -> float:
        """Return its area in pixels of the picture."""
        return float(self.mask.sum()) / FINER**2

    @property
    def center(self) -> Float[np.ndarray, "2"]:
        """Return the middle of all its points on the canvas, x and y."""
        return (np.argwhere(self.mask).mean(0)[::-1] + 0.5) / FINER


def finer(picture: Float[Tensor, "c h w"]) -> Float[Tensor, "c fine_h fine_w"]:
    """Return a picture with `FINER` times as many pixels on a side, in between the others."""
    return F.interpolate(picture[None], scale_factor=FINER, mode="bilinear", align_corners=False)[0]


def regions(
    draft: Float[Tensor, "3 h w"],
    now: Float[Tensor, "3 h w"],
    paper: Float[Tensor, "3 h w"],
    palette: Float[Tensor, "k 3"],
    allowed: Bool[Tensor, "h w"] | None = None,
) -> list[Region]:
    """Return the regions in which a draft shows a colour that a drawing does not show there, the largest first.

    Args:
        draft: What should be seen.
        now: What is seen of the drawing.
        paper: What lies below the drawing; nothing is to be painted in its colour.
        palette: The drawing's own colours, which are taken where they are near.
        allowed: Where regions may be; anywhere by default.
    """
    fine = finer(draft).cpu()
    difference = torch.minimum(*(color_distance(fine, finer(other).cpu()) for other in (now, paper)))
    wrong = difference > _DIFFERENT
    if allowed is not None:
        wrong &= finer(allowed[None].float()).cpu()[0] > 0.5
    mask = _opened(wrong.numpy())
    if not mask.any():
        return []
    colors = _colors(fine, mask)
    if not colors:
        return []
    near = torch.stack([color_distance(fine, torch.tensor(c)[:, None, None]) for c in colors])
    labels = ndimage.median_filter(near.argmin(0).numpy().astype(np.int16), 2 * FINER - 1)
    found = []
    for label, color in enumerate(colors):
        pieces, count = ndimage.label(mask & (labels == label))
        alike, _ = ndimage.label((labels == label) & (near[label].numpy() < _ALIKE))
        for piece in range(1, count + 1):
            region = pieces == piece
            if region.sum() < max(_SMALLEST * mask.size, FINER**2):
                continue
            depth = float(ndimage.distance_transform_edt(np.pad(region, 1)).max()) / FINER
            faintness = _PLAINLY / float(difference[torch.from_numpy(region)].median())
            if depth >= _THINNEST * max(faintness, 1.0) ** 2:
                taken = nearest_color(palette.new_tensor(color), palette).tolist()
                whole = region | np.isin(alike, np.setdiff1d(alike[region], [0]))
                found.append(Region(region, (taken[0], taken[1], taken[2]), whole, depth))
    return sorted(found, key=lambda region: -region.area)


def _opened(mask: Mask) -> Mask:
    """Return a mask without what is thinner than the edges that no two pictures draw alike."""
    core = ndimage.binary_erosion(mask, iterations=FINER // 2)
    return np.asarray(ndimage.binary_dilation(core, iterations=FINER // 2 + 1) & mask)


def _colors(fine: Float[Tensor, "3 h w"], mask: Mask) -> list[tuple[float, float, float]]:
    """Return the colours that flat parts of a picture have within a mask, the most frequent first."""
    gradient = color_distance(fine[:, :-1, :-1], fine[:, 1:, 1:]) + color_distance(fine[:, 1:, :-1], fine[:, :-1, 1:])
    flat = torch.nn.functional.pad(gradient < _ALIKE / FINER, (0, 1, 0, 1)).numpy() & mask
    if flat.sum() < 0.1 * mask.sum():
        flat = mask
    pixels = fine[:, torch.from_numpy(flat)]
    lab, found = oklab(pixels) * 100, list[tuple[float, float, float]]()
    least = max(_SMALLEST * mask.size / 2, 1)
    while pixels.shape[1] > least and len(found) < _MOST_COLORS:
        cells, counts = torch.unique((lab / 4).floor(), dim=1, return_counts=True)
        center = (cells[:, counts.argmax()] + 0.5) * 4
        for _ in range(3):  # the mode, to which the mean of its surroundings leads
            close = (lab - center[:, None]).norm(dim=0) < _ALIKE
            if not close.any():
                break
            center = lab[:, close].mean(1)
        if not close.any():
            break
        if int(close.sum()) > least:
            red, green, blue = ((pixels[:, close].median(1).values * 255).round() / 255).tolist()
            found.append((red, green, blue))
        lab, pixels = lab[:, ~close], pixels[:, ~close]
    return found
