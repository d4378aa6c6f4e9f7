"""Supersampling of the pixels whose winding number cannot be told from its mean.

A pixel that holds the windings 0 and 2, or +1 and −1, has the same mean as one filled with 1, or with nothing. Such
pixels are rare: they lie where a path's outline crosses itself, or where two of its outlines coincide. They are found
by the windings next to each boundary pixel, and only the small tiles around them are rasterised again on a finer grid.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.coverage import WindingField, Windows, coverage, make_windows
from pds_nerfstudio.vector.raster.ragged import expand_counts

SCALE = 4
"""Subpixels along each side of a pixel."""
TILE = 4
"""Pixels along each side of a tile."""
SLACK = 0.02
"""Winding numbers closer than this to an integer count as that integer."""
MAX_PAIRS = 20_000_000
"""Bound on (tile, edge) pairs looked at; the tiles beyond it keep the coverage told from the mean."""


def ambiguous_cells(
    field: WindingField, windows: Windows, evenodd: Bool[Tensor, " k"] | None
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Find the boundary cells next to windings that lie two or more apart and matter to the fill rule.

    Returns:
        The cells, with repeats, and the region of each.
    """
    value = field.winding.index_select(0, field.boundary_cell)
    regions = windows.offset.numel()
    bound = value.new_zeros(2, regions)
    bound[0].scatter_reduce_(0, field.boundary_region, value, "amin")
    bound[1].scatter_reduce_(0, field.boundary_region, value, "amax")
    suspect = _spread(bound[0], bound[1]) >= 2
    if not bool(suspect.any()):
        return field.boundary_cell[:0], field.boundary_region[:0]
    chosen = suspect[field.boundary_region].nonzero()[:, 0]
    cell, region = field.boundary_cell[chosen], field.boundary_region[chosen]
    width, height = windows.size[region].unbind(1)
    place = cell - windows.offset[region]
    row, column = torch.div(place, width + 1, rounding_mode="floor"), place % (width + 1)
    step = torch.arange(-1, 2, device=cell.device)
    rows = (row[:, None] + step).clamp(min=0).minimum(height[:, None] - 1)
    columns = (column[:, None] + step).clamp(min=0).minimum(width[:, None] - 1)
    near = windows.offset[region][:, None, None] + rows[:, :, None] * (width + 1)[:, None, None] + columns[:, None, :]
    values = field.winding[near.flatten(1)]
    low, high = values.amin(1), values.amax(1)
    matters = (low < 1 - SLACK) & (high > SLACK - 1)
    if evenodd is not None:
        matters |= evenodd[region]
    found = (_spread(low, high) >= 2) & matters
    return cell[found], region[found]


def _spread(low: Tensor, high: Tensor) -> Tensor:
    """Return the distance between the integer windings that a range of means takes in."""
    return (high - SLACK).ceil() - (low + SLACK).floor()


def supersample(
    cover: Float[Tensor, " n"],
    field: WindingField,
    edges: Float[Tensor, "e 2 2"],
    region: Int[Tensor, " e"],
    windows: Windows,
    evenodd: Bool[Tensor, " k"] | None = None,
) -> Float[Tensor, " n"]:
    """Replace the coverage of ambiguous pixels by the mean over SCALE × SCALE subpixels.

    Args:
        cover: Coverage told from the mean winding number, as `coverage` returns it.
        field: The winding numbers that `coverage` returned with it.
        edges: The edges that were covered, in canvas pixels.
        region: Region of each edge.
        windows: Where each region's pixels are.
        evenodd: Regions that follow the even-odd rule.
    """
    with torch.no_grad():
        cell, cell_region = ambiguous_cells(field, windows, evenodd)
        if cell.numel() == 0:
            return cover
        tile_region, tile_origin = _tiles(cell, cell_region, windows)
        tile_region, tile_origin = _within_budget(tile_region, tile_origin, region)
        tile, edge = _pairs(tile_region, tile_origin, edges, region)
    count = tile_region.numel()
    size = torch.full_like(tile_origin, TILE * SCALE)
    fine = make_windows(tile_origin * SCALE, size)
    rule = None if evenodd is None else evenodd[tile_region]
    sub, _ = coverage(edges[edge] * SCALE, tile, fine, rule)
    sub = sub.view(count, TILE * SCALE, TILE * SCALE + 1)[:, :, :-1]
    mean = sub.reshape(count, TILE, SCALE, TILE, SCALE).mean((2, 4))

    step = torch.arange(TILE, device=cell.device)
    local = tile_origin - windows.origin[tile_region]
    columns, rows = local[:, 0, None] + step, local[:, 1, None] + step
    width, height = windows.size[tile_region].unbind(1)
    index = (
        windows.offset[tile_region][:, None, None] + rows[:, :, None] * (width + 1)[:, None, None] + columns[:, None, :]
    )
    inside = (rows < height[:, None])[:, :, None] & (columns < width[:, None])[:, None, :]
    return cover.index_copy(0, index[inside], mean[inside])


def _tiles(cell: Tensor, region: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the tiles that hold the given cells, each once: their regions and upper left canvas pixels."""
    stride = windows.size[region, 0] + 1
    place = cell - windows.offset[region]
    tile_x = torch.div(place % stride, TILE, rounding_mode="floor")
    tile_y = torch.div(torch.div(place, stride, rounding_mode="floor"), TILE, rounding_mode="floor")
    unique = torch.unique(torch.stack([region, tile_y, tile_x], 1), dim=0)
    return unique[:, 0], windows.origin[unique[:, 0]] + unique[:, [2, 1]] * TILE


def _within_budget(tile_region: Tensor, tile_origin: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tiles up to the bound on pairs."""
    pairs = torch.bincount(region, minlength=int(tile_region.max()) + 1)[tile_region]
    kept = torch.cumsum(pairs, 0) <= MAX_PAIRS
    return tile_region[kept], tile_origin[kept]


def _pairs(tile_region: Tensor, tile_origin: Tensor, edges: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Return every (tile, edge) of the same region where the edge meets the tile's rows.

    Edges to the right of a tile take no part in its coverage, but they bring the winding number back to 0.
    """
    order = torch.argsort(region, stable=True)
    per_region = torch.bincount(region)
    start = torch.cumsum(per_region, 0) - per_region
    tile, step = expand_counts(per_region[tile_region])
    edge = order[start[tile_region[tile]] + step]
    low, high = edges[:, :, 1].amin(1), edges[:, :, 1].amax(1)
    top = tile_origin[tile, 1]
    meets = (high[edge] >= top) & (low[edge] <= top + TILE)
    return tile[meets], edge[meets]
