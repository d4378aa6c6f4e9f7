"""The launches of one picture's kernels, forward and backward, and the tensors that pass between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.triton import (
    clipping,
    compositor,
    coverage,
    coverage_backward,
    layout,
    paint,
    paint_backward,
    supersampling,
)
from pds_nerfstudio.vector.raster.triton.device import TILE
from pds_nerfstudio.vector.raster.triton.outlines import CHORDS
from pds_nerfstudio.vector.raster.triton.program import Program
from pds_nerfstudio.vector.raster.triton.room import Room, aligned

_ROWS = 16
"""Pixel rows that a program sums."""
_REGIONS = 256
"""Regions that are laid out at a time."""
_SUPERSAMPLERS = 512
"""Programs that share the tiles to be supersampled."""
_ENDLESS = 2**62
"""Room for any number of cells."""


@dataclass(frozen=True)
class Picture:
    """What is to be drawn, apart from the numbers that are differentiated."""

    program: Program
    """The scene."""
    maps: Float[Tensor, "r 6"]
    """From each region's units to the canvas."""
    gradient_maps: Float[Tensor, "d 12"]
    """From the canvas to each gradient's units."""
    edge_region: Int[Tensor, " e"]
    """Region of each edge of the strokes, ascending."""
    edge_firsts: Int[Tensor, " r+1"]
    """Where the edges of each region begin."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    opaque: bool
    """Whether there is a background."""
    tolerance: float
    """Largest distance between a curve and its chords, in pixels."""
    differentiable: bool
    """Whether a backward pass may follow."""
    room: Room | None
    """For how many cells there is memory; without, the host waits to learn how many there are."""

    @property
    def tiles(self) -> tuple[int, int]:
        """The compositor's programs."""
        return triton.cdiv(self.width, TILE.value), triton.cdiv(self.height, TILE.value)

    def bands(self, regions: int) -> tuple[int, int]:
        """Return programs for all rows of so many regions."""
        return regions, triton.cdiv(self.height, _ROWS)


@dataclass(frozen=True)
class Outlines:
    """One source of outlines, as the kernels take it: the segments, or edges (`direct`)."""

    points: Tensor
    """The scene's points."""
    segments: Tensor
    """Rows of points of each segment."""
    straight: Tensor
    """1 for each segment that is a straight line."""
    regions: Tensor
    """Region of each segment or edge, ascending."""
    maps: Tensor
    """From each region's units to the canvas."""
    edges: Tensor
    """Edges in canvas pixels."""
    firsts: Tensor
    """Where the segments or edges of each region begin, and last where those of the last one end."""
    count: int
    """For how many segments or edges there is memory."""
    direct: bool
    """Whether the outlines are the edges."""

    @property
    def programs(self) -> tuple[int]:
        """Programs of kernels that take the outlines one by one."""
        return (triton.cdiv(self.count, CHORDS.value) if self.direct else self.count,)

    @property
    def total(self) -> Int[Tensor, "1"]:
        """How many there are, on the device."""
        return self.firsts[-1:]

    @property
    def by_segment(self) -> tuple[Tensor, ...]:
        """What those take."""
        return self.points, self.segments, self.straight, self.regions, self.maps, self.edges

    @property
    def by_region(self) -> tuple[Tensor, ...]:
        """What kernels take that go through the outlines of a region."""
        return self.points, self.segments, self.straight, self.maps, self.edges, self.firsts


def outlines_of(picture: Picture, points: Tensor, edges: Tensor) -> Iterator[Outlines]:
    """Return the sources that there are."""
    program = picture.program
    shared = {
        "points": points,
        "segments": program.segments,
        "straight": program.straight,
        "maps": picture.maps,
        "edges": edges,
    }
    if len(program.segments):
        yield Outlines(
            **shared, regions=program.segment_region, firsts=program.firsts, count=len(program.segments), direct=False
        )
    if len(edges):
        yield Outlines(**shared, regions=picture.edge_region, firsts=picture.edge_firsts, count=len(edges), direct=True)


class Numbers(NamedTuple):
    """What is differentiated, apart from the background."""

    points: Tensor
    """The scene's points."""
    edges: Tensor
    """Edges around strokes, in canvas pixels."""
    colors: Tensor
    """Of paints and stops."""
    opacities: Tensor
    """Of everything."""
    geometries: Tensor
    """Where gradients lie."""
    offsets: Tensor
    """Of stops."""
    boxes: Tensor
    """Bounding boxes that gradients refer to."""


class Cover(NamedTuple):
    """What regions cover, and how that was found, in the layout of `coverage.Windows`."""

    windows: Tensor
    """Left, top, width and height of each region's window."""
    starts: Tensor
    """First cell of each, and last how many cells there are."""
    winding: Tensor
    """Mean winding number of each cell."""
    cover: Tensor
    """Coverage of each cell."""
    listed: Tensor
    """How many tiles are supersampled."""
    tiles: Tensor
    """Region, row and column of each of them."""

    @property
    def supersamplers(self) -> tuple[int]:
        """Programs that share the tiles."""
        return (max(1, min(_SUPERSAMPLERS, self.cover.numel() // 64)),)


class Layers(NamedTuple):
    """What lies between coverage and the picture."""

    masks: Tensor
    """Planes of coverage by clip paths."""
    textures: Tensor
    """Colour and alpha by gradients, in the layout of the windows."""
    pictures: Tensor
    """Of all layers but the last."""
    kept: Tensor
    """What each region made up for, for the backward pass."""
    kept_pictures: Tensor
    """What lay below each layer, for the backward pass."""


def cover_regions(picture: Picture, outlines: list[Outlines], points: Tensor) -> Cover:
    """Find what each region covers."""
    program, size = picture.program, (picture.width, picture.height)
    bounds = program.bounds.clone()
    windows = bounds.new_empty(program.regions, 4)
    starts = bounds.new_empty(program.regions + 1, dtype=torch.int64)
    for o in outlines:
        layout.bound[o.programs](
            *o.by_segment, bounds, o.total, picture.tolerance, float(size[0]), float(size[1]), DIRECT=o.direct
        )
    room = picture.room
    layout.lay_out[(1,)](
        bounds, windows, starts, program.regions, _ENDLESS if room is None else room.cells, BLOCK=_REGIONS
    )
    cells = aligned(int(starts[-1])) if room is None else room.cells

    winding, marks = points.new_zeros(2, cells).unbind(0)
    marks = marks.view(torch.int32)
    cover = torch.empty_like(winding)
    result = Cover(windows, starts, winding, cover, bounds[-1:], bounds.new_empty(cells // 2, 3))
    for o in outlines:
        coverage.scatter[o.programs](
            *o.by_segment, windows, starts, winding, marks, o.total, picture.tolerance, DIRECT=o.direct
        )
    bands = picture.bands(program.regions)
    coverage.accumulate[bands](winding, cover, marks, windows, starts, program.odd, bounds, BLOCK=_ROWS)
    supersampling.find_ambiguous[bands](
        winding, marks, windows, starts, program.odd, bounds, result.listed, result.tiles, BLOCK=_ROWS
    )
    for o in outlines:
        supersampling.supersample[result.supersamplers](
            *o.by_region, windows, starts, program.odd, result.listed, result.tiles, cover, picture.tolerance,
            DIRECT=o.direct,
        )  # fmt: skip
    return result


def composite_layers(picture: Picture, numbers: Numbers, covered: Cover, background: Tensor) -> tuple[Tensor, Layers]:
    """Return the picture, and what lies between coverage and it."""
    program, size = picture.program, (picture.width, picture.height)
    windows, starts, _, cover, _, _ = covered
    points, _, colors, opacities, geometries, offsets, boxes = numbers
    cells = cover.numel()
    masks = points.new_empty(len(program.masks), size[1], size[0])
    for number, (first, last, clip) in enumerate(program.masks):
        clipping.union[picture.tiles](
            cover, masks, program.mask_entries, windows, starts, number, clip, first, last, *size
        )
    textures = points.new_empty(4, cells if len(program.draws) else 0)
    if len(program.draws):
        paint.paint[picture.bands(len(program.draws))](
            textures, program.draws, picture.gradient_maps, boxes, program.stops, geometries, offsets, colors,
            opacities, windows, starts, cells,
        )  # fmt: skip

    pictures = points.new_empty(len(program.layers) - 1, 4, size[1], size[0])
    kept = points.new_empty(4, cells if picture.differentiable else 0)
    layers = Layers(masks, textures, pictures, kept, torch.empty_like(pictures))
    out = points.new_empty(3 if picture.opaque else 4, size[1], size[0])
    for number, (first, last) in enumerate(program.layers):
        root = number == len(pictures)
        compositor.composite[picture.tiles](
            background, out if root else pictures[number], cover, colors, opacities, textures, pictures, masks,
            program.items, windows, starts, kept, layers.kept_pictures, cells, first, last, *size,
            OPAQUE=root and picture.opaque, KEEP=picture.differentiable, OPACITIES=program.opacities,
        )  # fmt: skip
    return out, layers


def composite_backward(
    picture: Picture,
    numbers: Numbers,
    covered: Cover,
    layers: Layers,
    grad: Tensor,
    on_background: Tensor,
    on: Numbers,
) -> Tensor:
    """Add to the gradients by all numbers but points and edges; return that by the coverage."""
    program, size = picture.program, (picture.width, picture.height)
    windows, starts, _, cover, _, _ = covered
    masks, textures, pictures, kept, kept_pictures = layers
    _, _, colors, opacities, geometries, offsets, boxes = numbers
    cells = cover.numel()
    on_cover, on_textures = torch.zeros_like(cover), torch.empty_like(textures)
    on_pictures, on_masks = torch.empty_like(pictures), torch.zeros_like(masks)
    for number, (first, last) in reversed(list(enumerate(program.layers))):
        root = number == len(pictures)
        compositor.composite_backward[picture.tiles](
            grad if root else on_pictures[number], on_background, cover, colors, opacities, textures, pictures,
            masks, program.items, windows, starts, kept, kept_pictures, on_cover, on.colors, on.opacities,
            on_textures, on_pictures, on_masks, cells, first, last, *size,
            OPAQUE=root and picture.opaque, OPACITIES=program.opacities,
        )  # fmt: skip
    if len(program.draws):
        paint_backward.paint_backward[picture.bands(len(program.draws))](
            on_textures, program.draws, picture.gradient_maps, boxes, program.stops, geometries, offsets, colors,
            opacities, windows, starts, on.boxes, on.geometries, on.offsets, on.colors, on.opacities, cells,
        )  # fmt: skip
    for number, (first, last, clip) in reversed(list(enumerate(program.masks))):
        clipping.union_backward[picture.tiles](
            cover, masks, program.mask_entries, windows, starts, on_cover, on_masks, number, clip, first, last, *size
        )
    return on_cover


def cover_backward(picture: Picture, outlines: list[Outlines], covered: Cover, on_cover: Tensor, on: Numbers) -> None:
    """Add to the gradients by points and edges."""
    program = picture.program
    windows, starts, winding, _, listed, tiles = covered
    scratch = on_cover.new_empty(covered.supersamplers[0], supersampling.SCRATCH)
    targets = [on.edges if o.direct else on.points for o in outlines]
    for o, target in zip(outlines, targets, strict=True):
        supersampling.pull_supersampled[covered.supersamplers](
            *o.by_region, windows, starts, program.odd, listed, tiles, on_cover, scratch, target,
            picture.tolerance, DIRECT=o.direct,
        )  # fmt: skip
    for o, target in zip(outlines, targets, strict=True):
        coverage_backward.pull[o.programs](
            *o.by_segment, windows, starts, program.odd, winding, on_cover, target, o.total, picture.tolerance,
            DIRECT=o.direct,
        )  # fmt: skip
