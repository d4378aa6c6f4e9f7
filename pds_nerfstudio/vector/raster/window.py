"""The viewport of a drawing: nothing shows beyond it (SVG 2, section 8.2)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine


def window_cover(
    window: tuple[float, float], view: Affine, picture: Float[Tensor, "c h w"]
) -> Float[Tensor, "h w"] | None:
    """Return how much of each pixel lies in the viewport.

    Args:
        window: Its width and height, in the drawing's units; it begins at (0, 0).
        view: From the drawing's units to canvas pixels.
        picture: Has the canvas' size, device and dtype.

    Returns:
        None where the viewport holds the whole canvas. Exact for views that turn by no angle, or by right ones.
    """
    height, width = picture.shape[1:]
    corners = [affine.apply(view, x, y) for x in (0.0, window[0]) for y in (0.0, window[1])]
    x = torch.arange(width, device=picture.device, dtype=picture.dtype) + 0.5
    y = (torch.arange(height, device=picture.device, dtype=picture.dtype) + 0.5)[:, None]
    cover: Tensor | None = None
    # each side's line by two corners, and a corner on the viewport's side of it
    for first, second, across in ((0, 1, 2), (2, 3, 0), (0, 2, 1), (1, 3, 0)):
        (x0, y0), (x1, y1), (x2, y2) = (corners[k] for k in (first, second, across))
        nx, ny = y0 - y1, x1 - x0
        size = math.hypot(nx, ny)
        size = math.copysign(size, nx * (x2 - x0) + ny * (y2 - y0)) if size > 0 else math.inf
        nx, ny = nx / size, ny / size
        nearest = min((cx - x0) * nx + (cy - y0) * ny for cx in (0, width) for cy in (0, height))
        if nearest >= -1e-4:
            continue
        beyond = ((x - x0) * nx + (y - y0) * ny + 0.5).clamp(0, 1)
        cover = beyond if cover is None else cover * beyond
    return cover


def within_window(
    picture: Float[Tensor, "c h w"],
    background: Float[Tensor, "3 h w"] | None,
    window: tuple[float, float] | None,
    view: Affine,
) -> Float[Tensor, "c h w"]:
    """Return a picture whose background shows outside of the viewport; without one, it is transparent there.

    Args:
        picture: The drawing over the background.
        background: What lies below.
        window: Width and height of the viewport, if there is one.
        view: From the drawing's units to canvas pixels.
    """
    cover = None if window is None else window_cover(window, view, picture)
    if window is None or cover is None:
        return picture
    below = torch.zeros_like(picture) if background is None else background.to(picture)
    return torch.lerp(below, _from_inside(picture, window, view), cover)


def _from_inside(drawn: Float[Tensor, "c h w"], window: tuple[float, float], view: Affine) -> Float[Tensor, "c h w"]:
    """Return what is drawn, with the nearest pixel that lies wholly in the viewport for those that lie partly in it.

    What ends at the viewport's edge covers these in part already, and must not be cut twice.
    """
    for axis, side in enumerate((view[:4:2], view[1:4:2])):
        if side[0] != 0 and side[1] != 0:
            return drawn  # a turned viewport has no rows and columns
        start = view[4 + axis]
        low, high = sorted((start, start + side[0] * window[0] + side[1] * window[1]))
        size = drawn.shape[2 - axis]
        first, last = max(math.ceil(low - 1e-4), 0), min(math.floor(high + 1e-4), size) - 1
        if first <= last:
            rows = torch.arange(size, device=drawn.device).clamp(first, last)
            drawn = drawn.index_select(2 - axis, rows)
    return drawn
