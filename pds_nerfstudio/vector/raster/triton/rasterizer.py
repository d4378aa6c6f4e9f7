"""The rasteriser on a GPU: a fixed handful of Triton kernels for each picture, however many paths there are.

What it draws is what `rasterizer` draws, which is its reference: the same exact areas, fill rules, supersampled
pixels, gradients, clip paths and layers. The steps are

1. `tiled_coverage`: a window around each region, the signed areas along its outline, their sums along rows, and the
   pixels to look at more closely;
2. `tiled_paint`: gradients;
3. `tiled_compositor`: clip paths, and all layers tile by tile;

and the same in reverse. The host waits for the device once for each picture, to learn how much memory the windows take.
Where a scene has strokes, their outlines are made by PyTorch, which waits more often.

Sums are made by atomic operations, so the last bits of areas and gradients differ between runs. Importing this needs
Triton. It runs on GPUs, and in Triton's interpreter (TRITON_INTERPRET=1) anywhere.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
from pds_nerfstudio.vector.raster.triton import compositor as tiled_compositor
from pds_nerfstudio.vector.raster.triton import coverage as tiled_coverage
from pds_nerfstudio.vector.raster.triton import paint as tiled_paint
from pds_nerfstudio.vector.raster.triton.program import Program, canvas_maps, gradient_maps, make_program

_ROWS = 16
"""Pixel rows that a program sums."""
_REGIONS = 256
"""Regions that are laid out at a time."""
_REFINERS = 512
"""Programs that share the tiles to be supersampled."""
_SCRATCH = 2 * 16 * 17
"""Numbers that each of them notes down about a tile."""


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
        side = tiled_compositor.TILE.value
        return triton.cdiv(self.width, side), triton.cdiv(self.height, side)

    def bands(self, regions: int) -> tuple[int, int]:
        """Programs for all rows of so many regions."""
        return regions, triton.cdiv(self.height, _ROWS)


@dataclass(frozen=True)
class _Outlines:
    """One source of outlines, as the kernels of `tiled_coverage` take it."""

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
        return (triton.cdiv(self.count, tiled_coverage.CHORDS.value) if self.direct else self.count,)

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
        program, size = picture.program, (picture.width, picture.height)
        outlines = list(_outlines(picture, points, edges))
        bounds = program.bounds.clone()
        windows = bounds.new_empty(program.regions, 4)
        starts = bounds.new_empty(program.regions + 1, dtype=torch.int64)
        for o in outlines:
            tiled_coverage.bound[o.programs](
                *o.by_segment, bounds, o.count, picture.tolerance, float(size[0]), float(size[1]), DIRECT=o.direct
            )
        tiled_coverage.lay_out[(1,)](bounds, windows, starts, program.regions, BLOCK=_REGIONS)
        # the one wait; a multiple of 64 keeps planes aligned
        cells = -(-int(starts[-1]) // 64) * 64

        winding, marks = points.new_zeros(2, cells).unbind(0)
        marks = marks.view(torch.int32)
        cover = torch.empty_like(winding)
        listed, tiles = bounds[-1:], bounds.new_empty(cells // 2, 3)
        for o in outlines:
            tiled_coverage.scatter[o.programs](
                *o.by_segment, windows, starts, winding, marks, o.count, picture.tolerance, DIRECT=o.direct
            )
        bands = picture.bands(program.regions)
        tiled_coverage.accumulate[bands](winding, cover, marks, windows, starts, program.odd, bounds, BLOCK=_ROWS)
        tiled_coverage.find_ambiguous[bands](
            winding, marks, windows, starts, program.odd, bounds, listed, tiles, BLOCK=_ROWS
        )
        for o in outlines:
            tiled_coverage.refine[_refiners(cells)](
                *o.by_region, windows, starts, program.odd, listed, tiles, cover, picture.tolerance, DIRECT=o.direct
            )

        masks = points.new_empty(len(program.masks), size[1], size[0])
        for number, (first, last, clip) in enumerate(program.masks):
            tiled_compositor.union[picture.tiles](
                cover, masks, program.mask_entries, windows, starts, number, clip, first, last, *size
            )
        textures = points.new_empty(4, cells if len(program.draws) else 0)
        paint = (program.draws, picture.gradient_maps, boxes, program.stops, geometries, offsets, colors, opacities)
        if len(program.draws):
            tiled_paint.paint[picture.bands(len(program.draws))](textures, *paint, windows, starts, cells)

        pictures = points.new_empty(len(program.layers) - 1, 4, size[1], size[0])
        kept = points.new_empty(4, cells if picture.differentiable else 0)
        kept_pictures = torch.empty_like(pictures)
        out = points.new_empty(3 if picture.opaque else 4, size[1], size[0])
        for number, (first, last) in enumerate(program.layers):
            root = number == len(pictures)
            tiled_compositor.composite[picture.tiles](
                background, out if root else pictures[number], cover, colors, opacities, textures, pictures, masks,
                program.items, windows, starts, kept, kept_pictures, cells, first, last, *size,
                OPAQUE=root and picture.opaque, KEEP=picture.differentiable, OPACITIES=program.opacities,
            )  # fmt: skip
        ctx.picture, ctx.background = picture, background.shape
        ctx.save_for_backward(
            points, edges, colors, opacities, geometries, offsets, boxes,
            windows, starts, winding, cover, listed, tiles, masks, textures, pictures, kept, kept_pictures,
        )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        picture, program = ctx.picture, ctx.picture.program
        inputs, kept = ctx.saved_tensors[:7], ctx.saved_tensors[7:]
        points, edges, colors, opacities, geometries, offsets, boxes = inputs
        windows, starts, winding, cover, listed, tiles, masks, textures, pictures, kept, kept_pictures = kept
        cells, size = cover.numel(), (picture.width, picture.height)
        grad = grad.contiguous()
        totals = _zeros_like(*inputs)
        on_points, on_edges, on_colors, on_opacities, on_geometries, on_offsets, on_boxes = totals
        on_background = grad.new_empty(ctx.background)
        on_cover, on_textures = torch.zeros_like(cover), torch.empty_like(textures)
        on_pictures, on_masks = torch.empty_like(pictures), torch.zeros_like(masks)

        for number, (first, last) in reversed(list(enumerate(program.layers))):
            root = number == len(pictures)
            tiled_compositor.composite_backward[picture.tiles](
                grad if root else on_pictures[number], on_background, cover, colors, opacities, textures, pictures,
                masks, program.items, windows, starts, kept, kept_pictures, on_cover, on_colors, on_opacities,
                on_textures, on_pictures, on_masks, cells, first, last, *size,
                OPAQUE=root and picture.opaque, OPACITIES=program.opacities,
            )  # fmt: skip
        if len(program.draws):
            tiled_paint.paint_backward[picture.bands(len(program.draws))](
                on_textures, program.draws, picture.gradient_maps, boxes, program.stops, geometries, offsets, colors,
                opacities, windows, starts, on_boxes, on_geometries, on_offsets, on_colors, on_opacities, cells,
            )  # fmt: skip
        for number, (first, last, clip) in reversed(list(enumerate(program.masks))):
            tiled_compositor.union_backward[picture.tiles](
                cover, masks, program.mask_entries, windows, starts, on_cover, on_masks, number, clip, first, last,
                *size,
            )  # fmt: skip

        refiners = _refiners(cells)
        scratch = grad.new_empty(refiners[0], _SCRATCH)
        outlines = list(_outlines(picture, points, edges))
        targets = [on_edges if o.direct else on_points for o in outlines]
        for o, target in zip(outlines, targets, strict=True):
            tiled_coverage.pull_refined[refiners](
                *o.by_region, windows, starts, program.odd, listed, tiles, on_cover, scratch, target,
                picture.tolerance, DIRECT=o.direct,
            )  # fmt: skip
        for o, target in zip(outlines, targets, strict=True):
            tiled_coverage.pull[o.programs](
                *o.by_segment, windows, starts, program.odd, winding, on_cover, target, o.count, picture.tolerance,
                DIRECT=o.direct,
            )  # fmt: skip
        return (*totals, on_background, None)


def _refiners(cells: int) -> tuple[int]:
    return (max(1, min(_REFINERS, cells // 64)),)


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
