"""Pictures looked up at any place: pixels that never change, and the tiles of patterns."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.blending import Rgba
from pds_nerfstudio.vector.raster.boxes import Box, intersection, is_empty
from pds_nerfstudio.vector.raster.scene import Picture

PER_PIXEL = 2
"""Samples along each side of a pixel."""


def canvas_points(box: Box, like: Tensor, per_pixel: int = 1) -> Float[Tensor, "h w 2"]:
    """Return the places of samples in a box of pixels, in canvas units.

    Args:
        box: The box.
        like: Has the device and dtype.
        per_pixel: Samples along each side of a pixel.
    """
    x, y, width, height = box
    step = (torch.arange(max(width, height) * per_pixel, device=like.device, dtype=like.dtype) + 0.5) / per_pixel
    across, down = step[: width * per_pixel] + x, step[: height * per_pixel] + y
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)


def mapped(points: Float[Tensor, "h w 2"], inverse: Float[Tensor, " 6"]) -> Float[Tensor, "h w 2"]:
    """Return where a map, given by its numbers, sends points."""
    return points @ inverse[:4].view(2, 2) + inverse[4:]


def sampled_tiles(tile: Rgba, points: Float[Tensor, "j i 2"], per_pixel: int) -> Float[Tensor, "4 y x"]:
    """Return the mean colour of pixels that are covered by a tile again and again.

    Args:
        tile: One tile.
        points: Places of the samples, in tiles.
        per_pixel: Samples along each side of a pixel.
    """
    height, width = tile.shape[1:]
    around = torch.nn.functional.pad(tile[None], (1, 1, 1, 1), mode="circular")
    inside = points - points.detach().floor()
    size = inside.new_tensor([width, height])
    places = 2 * (inside * size + 1) / (size + 2) - 1
    return _mean_per_pixel(torch.nn.functional.grid_sample(around, places[None], align_corners=False)[0], per_pixel)


def _mean_per_pixel(samples: Rgba, per_pixel: int) -> Float[Tensor, "4 y x"]:
    return torch.nn.functional.avg_pool2d(samples[None], per_pixel)[0]


def picture_box(picture: Picture, view: Affine, canvas: Box) -> Box:
    """Return the pixels of the canvas on which a picture shows.

    Args:
        picture: The picture.
        view: From the drawing's units to canvas pixels.
        canvas: All of its pixels.
    """
    x, y, width, height = picture.box
    corners = [affine.apply(view, x + dx, y + dy) for dx in (0.0, width) for dy in (0.0, height)]
    low = [math.floor(min(corner[k] for corner in corners)) for k in (0, 1)]
    high = [math.ceil(max(corner[k] for corner in corners)) for k in (0, 1)]
    return intersection((low[0], low[1], high[0] - low[0], high[1] - low[1]), canvas)


def sampled_picture(picture: Picture, view: Affine, box: Box, like: Tensor) -> Rgba:
    """Return a picture as it shows in a box.

    Args:
        picture: The picture.
        view: From the drawing's units to canvas pixels.
        box: Pixels of the canvas.
        like: Has the device and dtype.
    """
    if is_empty(box):
        return like.new_zeros(4, box[3], box[2])
    pixels = picture.pixels.to(like)
    x, y, width, height = picture.box
    fineness = pixels.shape[2] / width / max(affine.largest_scale(view), 1e-9)
    while fineness >= 2 * PER_PIXEL and not any(side % 2 for side in pixels.shape[1:]):
        pixels, fineness = torch.nn.functional.avg_pool2d(pixels[None], 2)[0], fineness / 2
    inverse = affine.inverse(like.new_tensor(view))
    points = mapped(canvas_points(box, like, PER_PIXEL), inverse)
    places = 2 * (points - like.new_tensor([x, y])) / like.new_tensor([width, height]) - 1
    return _mean_per_pixel(
        torch.nn.functional.grid_sample(pixels[None], places[None], align_corners=False)[0], PER_PIXEL
    )
