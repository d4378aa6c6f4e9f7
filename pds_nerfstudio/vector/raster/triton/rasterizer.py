"""The rasteriser on a GPU: a fixed handful of Triton kernels for each picture, however many paths there are.

What it draws is what the module `rasterizer` in PyTorch draws, which is its reference: the same exact areas, fill
rules, supersampled pixels, gradients, clip paths and layers. The steps are

1. `layout`, `coverage` and `supersampling`: a window around each region, the signed areas along its outline, their sums
   along rows, and the pixels to look at more closely;
2. `clipping`: clip paths;
3. `paint`: gradients;
4. `compositor`: all layers, tile by tile;

and the same in reverse. The host waits for the device once for each picture, to learn how much memory the windows take.
Where a scene has strokes, their outlines are made by PyTorch, which waits more often.

Sums are made by atomic operations, so the last bits of areas and gradients differ between runs. Importing this needs
Triton. It runs on GPUs, and in Triton's interpreter (TRITON_INTERPRET=1) anywhere.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.rasterizer import TOLERANCE, Rasterizer, stroke_edges
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters
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
from pds_nerfstudio.vector.raster.triton.program import Program, canvas_maps, gradient_maps, make_program

_ROWS = 16
"""Pixel rows that a program sums."""
_REGIONS = 256
"""Regions that are laid out at a time."""
_SUPERSAMPLERS = 512
"""Programs that share the tiles to be supersampled."""


@dataclass(frozen=True)
class _Picture:
    """What is to be drawn, apart from the numbers that are differentiated."""

    program: Program
    maps: Float[Tensor, "r 6"]
    gradient_maps: Float[Tensor, "d 12"]
    edge_region: Int[Tensor, " e"]
    """Region of each edge of the strokes, ascending."""
    edge_firsts: Int[Tensor, " r+1"]
    width: int
    height: int
    opaque: bool
    tolerance: float
    differentiable: bool

    @property
    def tiles(self) -> tuple[int, int]:
        """The compositor's programs."""
        return triton.cdiv(self.width, TILE.value), triton.cdiv(self.height, TILE.value)

    def bands(self, regions: int) -> tuple[int, int]:
        """Programs for all rows of so many regions."""
        return regions, triton.cdiv(self.height, _ROWS)


@dataclass(frozen=True)
class _Outlines:
    """One source of outlines, as the kernels take it."""

    points: Tensor
    segments: Tensor
    straight: Tensor
    regions: Tensor
    maps: Tensor
    edges: Tensor
    firsts: Tensor
    count: int
    direct: bool

    @property
    def programs(self) -> tuple[int]:
        return (triton.cdiv(self.count, CHORDS.value) if self.direct else self.count,)

    @property
    def by_segment(self) -> tuple[Tensor, ...]:
        return self.points, self.segments, self.straight, self.regions, self.maps, self.edges

    @property
    def by_region(self) -> tuple[Tensor, ...]:
        return self.points, self.segments, self.straight, self.maps, self.edges, self.firsts


def _outlines(picture: _Picture, points: Tensor, edges: Tensor) -> Iterator[_Outlines]:
    program = picture.program
    shared = {
        "points": points,
        "segments": program.segments,
        "straight": program.straight,
        "maps": picture.maps,
        "edges": edges,
    }
    if len(program.segments):
        yield _Outlines(
            **shared, regions=program.segment_region, firsts=program.firsts, count=len(program.segments), direct=False
        )
    if len(edges):
        yield _Outlines(
            **shared, regions=picture.edge_region, firsts=picture.edge_firsts, count=len(edges), direct=True
        )


class _Numbers(NamedTuple):
    """What is differentiated, apart from the background."""

    points: Tensor
    edges: Tensor
    colors: Tensor
    opacities: Tensor
    geometries: Tensor
    offsets: Tensor
    boxes: Tensor


class _Cover(NamedTuple):
    """What regions cover, and how that was found."""

    windows: Tensor
    starts: Tensor
    winding: Tensor
    cover: Tensor
    listed: Tensor
    """How many tiles are supersampled."""
    tiles: Tensor

    @property
    def supersamplers(self) -> tuple[int]:
        """Programs that share the tiles."""
        return (max(1, min(_SUPERSAMPLERS, self.cover.numel() // 64)),)


class _Layers(NamedTuple):
    """What lies between coverage and the picture."""

    masks: Tensor
    textures: Tensor
    pictures: Tensor
    """Of all layers but the last."""
    kept: Tensor
    kept_pictures: Tensor


def _cover(picture: _Picture, outlines: list[_Outlines], points: Tensor) -> _Cover:
    program, size = picture.program, (picture.width, picture.height)
    bounds = program.bounds.clone()
    windows = bounds.new_empty(program.regions, 4)
    starts = bounds.new_empty(program.regions + 1, dtype=torch.int64)
    for o in outlines:
        layout.bound[o.programs](
            *o.by_segment, bounds, o.count, picture.tolerance, float(size[0]), float(size[1]), DIRECT=o.direct
        )
    layout.lay_out[(1,)](bounds, windows, starts, program.regions, BLOCK=_REGIONS)
    # the one wait; a multiple of 64 keeps planes aligned
    cells = -(-int(starts[-1]) // 64) * 64

    winding, marks = points.new_zeros(2, cells).unbind(0)
    marks = marks.view(torch.int32)
    cover = torch.empty_like(winding)
    result = _Cover(windows, starts, winding, cover, bounds[-1:], bounds.new_empty(cells // 2, 3))
    for o in outlines:
        coverage.scatter[o.programs](
            *o.by_segment, windows, starts, winding, marks, o.count, picture.tolerance, DIRECT=o.direct
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


def _composite(picture: _Picture, numbers: _Numbers, covered: _Cover, background: Tensor) -> tuple[Tensor, _Layers]:
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
    layers = _Layers(masks, textures, pictures, kept, torch.empty_like(pictures))
    out = points.new_empty(3 if picture.opaque else 4, size[1], size[0])
    for number, (first, last) in enumerate(program.layers):
        root = number == len(pictures)
        compositor.composite[picture.tiles](
            background, out if root else pictures[number], cover, colors, opacities, textures, pictures, masks,
            program.items, windows, starts, kept, layers.kept_pictures, cells, first, last, *size,
            OPAQUE=root and picture.opaque, KEEP=picture.differentiable, OPACITIES=program.opacities,
        )  # fmt: skip
    return out, layers


def _composite_backward(
    picture: _Picture,
    numbers: _Numbers,
    covered: _Cover,
    layers: _Layers,
    grad: Tensor,
    on_background: Tensor,
    on: _Numbers,
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


def _cover_backward(
    picture: _Picture, outlines: list[_Outlines], covered: _Cover, on_cover: Tensor, on: _Numbers
) -> None:
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
            *o.by_segment, windows, starts, program.odd, winding, on_cover, target, o.count, picture.tolerance,
            DIRECT=o.direct,
        )  # fmt: skip


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        edges: Tensor,
        colors: Tensor,
        opacities: Tensor,
        geometries: Tensor,
        offsets: Tensor,
        boxes: Tensor,
        background: Tensor,
        picture: _Picture,
    ) -> Tensor:
        numbers = _Numbers(points, edges, colors, opacities, geometries, offsets, boxes)
        covered = _cover(picture, list(_outlines(picture, points, edges)), points)
        out, layers = _composite(picture, numbers, covered, background)
        ctx.picture, ctx.background = picture, background.shape
        ctx.save_for_backward(*numbers, *covered, *layers)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        picture, saved = ctx.picture, iter(ctx.saved_tensors)
        numbers = _Numbers(*islice(saved, len(_Numbers._fields)))
        covered = _Cover(*islice(saved, len(_Cover._fields)))
        layers = _Layers(*saved)
        on, on_background = _Numbers(*_zeros_like(*numbers)), grad.new_empty(ctx.background)
        on_cover = _composite_backward(picture, numbers, covered, layers, grad.contiguous(), on_background, on)
        _cover_backward(picture, list(_outlines(picture, numbers.points, numbers.edges)), covered, on_cover, on)
        return (*on, on_background, None)


def _zeros_like(*tensors: Tensor) -> list[Tensor]:
    """Zeros in the shapes of tensors, made at once, each aligned as a tensor of its own."""
    sizes = [-(-t.numel() // 4) * 4 for t in tensors]
    parts = tensors[0].new_zeros(sum(sizes)).split(sizes)
    return [part[: t.numel()].view(t.shape) for part, t in zip(parts, tensors, strict=True)]


class TiledRasterizer:
    """Renders one scene as `Rasterizer` does, on a GPU; see `backend.Renderer`.

    Numbers that are not float32, or not where Triton can run, are rendered by a `Rasterizer`.
    """

    def __init__(self, scene: Scene, tolerance: float = TOLERANCE) -> None:
        """Sorts the scene once.

        Args:
            scene: what to draw.
            tolerance: largest distance between a curve and the chords that replace it, in pixels.
        """
        self.scene, self.tolerance = scene, tolerance
        self.reference = Rasterizer(scene, tolerance)
        """What draws where this cannot."""
        self._program = make_program(scene, self.reference.plan)
        self._program_on = lru_cache(maxsize=4)(self._program.to)
        self._maps = lru_cache(maxsize=4)(self._make_maps)

    def render(
        self,
        parameters: SceneParameters,
        width: int,
        height: int,
        view: Affine = IDENTITY,
        background: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "c h w"]:
        """Draws the scene; arguments and result are those of `Rasterizer.render`."""
        points = parameters.points
        if points.dtype != torch.float32 or not (points.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
            return self.reference.render(parameters, width, height, view, background)
        device = points.device
        program = self._program_on(device)
        if not len(program.items):
            return points.new_zeros(4, height, width) if background is None else background.to(points)
        maps, gradients, stretch = self._maps(view, device)
        edges, region, firsts = self._strokes(parameters, maps, stretch)
        boxes = points.new_zeros(0, 4)
        if program.boxed:
            boxes = bounding_boxes(points[program.boxed_segments], program.boxed_owner, program.boxed)
        opaque = background is not None
        below = points.new_empty(0) if background is None else background.to(points).contiguous()
        rows = (parameters.colors, parameters.opacities, parameters.gradients, parameters.offsets)
        inputs = [t.contiguous() for t in (points, edges, *rows, boxes)]
        picture = _Picture(
            program, maps, gradients, region, firsts, width, height, opaque, self.tolerance,
            torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, below)),
        )  # fmt: skip
        with torch.cuda.device_of(points):
            return _Render.apply(*inputs, below, picture)  # type: ignore[no-untyped-call]

    def _make_maps(self, view: Affine, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The view's part in every transform: of regions, of gradients, and how it stretches strokes."""
        plan = self.reference.plan
        stretch = [
            affine.largest_scale(affine.compose(view, plan.transforms[region])) for region in plan.stroke_regions
        ]
        return (
            canvas_maps(plan.transforms, view).to(device),
            gradient_maps(plan, view).to(device),
            torch.tensor(stretch).to(device),
        )

    def _strokes(self, parameters: SceneParameters, maps: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Edges around the strokes, sorted by region, the region of each, and where each region's begin."""
        plan, points = self.reference.plan_on(parameters.points.device), parameters.points
        if not plan.strokes:
            none = points.new_zeros(0, dtype=torch.int32)
            return points.new_zeros(0, 2, 2), none, none
        matrices = maps.view(-1, 3, 2).transpose(1, 2)
        edges, region = stroke_edges(plan, parameters, matrices, stretch, self.tolerance)
        region, order = torch.sort(region)
        firsts = torch.searchsorted(region, torch.arange(plan.regions + 1, device=points.device))
        return edges.index_select(0, order), region.int(), firsts.int()
