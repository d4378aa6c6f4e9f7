"""The rasteriser on a GPU: a fixed handful of Triton kernels for each picture, however many paths there are.

What it draws is what the module `rasterizer` in PyTorch draws, which is its reference: the same exact areas, fill
rules, supersampled pixels, gradients, clip paths and layers. The steps are

1. `chords` and `strokes`: the edges around strokes;
2. `layout`, `coverage` and `supersampling`: a window around each region, the signed areas along its outline, their sums
   along rows, and the pixels to look at more closely;
3. `clipping`: clip paths;
4. `paint`: gradients;
5. `compositor`: all layers, tile by tile;

and the same in reverse. The host waits for the device once for each picture, to learn how much memory the windows take,
and twice more where there are strokes: for the number of their chords, and of the edges around them. Dashes are cut in
PyTorch, which waits more often. From the third picture of the same size on, all is launched at once (`recording`), in
memory that has room for half as much again as the pictures before needed (`room`).

Sums are made by atomic operations, so the last bits of areas and gradients differ between runs. Importing this needs
Triton. It runs on GPUs, and in Triton's interpreter (TRITON_INTERPRET=1) anywhere.
"""

import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.rasterizer import TOLERANCE, Rasterizer
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters, is_plain
from pds_nerfstudio.vector.raster.triton.launches import (
    Cover,
    Layers,
    Numbers,
    Picture,
    composite_backward,
    composite_layers,
    cover_backward,
    cover_regions,
    outlines_of,
)
from pds_nerfstudio.vector.raster.triton.program import canvas_maps, gradient_maps, make_program
from pds_nerfstudio.vector.raster.triton.recording import RecordingDrawer, Size
from pds_nerfstudio.vector.raster.triton.room import Room
from pds_nerfstudio.vector.raster.triton.stroking import make_stroke_table, tiled_stroke_edges
from pds_nerfstudio.vector.raster.window import within_window

SLOWER = "Masks, filters, blend modes, patterns and pictures are drawn by PyTorch and not by Triton, which is slower."
"""What is said of a drawing that has some of them."""


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
        picture: Picture,
    ) -> tuple[Tensor, Tensor]:
        numbers = Numbers(points, edges, colors, opacities, geometries, offsets, boxes)
        covered = cover_regions(picture, list(outlines_of(picture, points, edges)), points)
        out, layers = composite_layers(picture, numbers, covered, background)
        ctx.picture, ctx.background = picture, background.shape
        ctx.save_for_backward(*numbers, *covered, *layers)
        cells = covered.starts[-1]
        ctx.mark_non_differentiable(cells)
        return out, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        picture, saved = ctx.picture, iter(ctx.saved_tensors)
        numbers = Numbers(*islice(saved, len(Numbers._fields)))
        covered = Cover(*islice(saved, len(Cover._fields)))
        layers = Layers(*saved)
        on, on_background = Numbers(*_zeros_like(*numbers)), grad.new_empty(ctx.background)
        on_cover = composite_backward(picture, numbers, covered, layers, grad.contiguous(), on_background, on)
        cover_backward(picture, list(outlines_of(picture, numbers.points, numbers.edges)), covered, on_cover, on)
        return (*on, on_background, None)


def _zeros_like(*tensors: Tensor) -> list[Tensor]:
    """Return zeros in the shapes of tensors, made at once, each aligned as a tensor of its own."""
    sizes = [-(-t.numel() // 4) * 4 for t in tensors]
    parts = tensors[0].new_zeros(sum(sizes)).split(sizes)
    return [part[: t.numel()].view(t.shape) for part, t in zip(parts, tensors, strict=True)]


class TiledRasterizer:
    """A renderer of one scene on a GPU, which draws what `Rasterizer` draws; see `backend.Renderer`.

    Numbers that are not float32, or not where Triton can run, are left to a `Rasterizer`. So are drawings with effects,
    patterns or pictures.

    Args:
        scene: What to draw.
        tolerance: Largest distance between a curve and the chords that replace it, in pixels.
    """

    def __init__(self, scene: Scene, tolerance: float = TOLERANCE) -> None:
        self.scene, self.tolerance = scene, tolerance
        self.reference = Rasterizer(scene, tolerance)
        """What draws where this cannot."""
        self._is_plain = is_plain(scene.root)
        if self._is_plain:
            self._drawer = RecordingDrawer(self._draw, can_record=not self.reference.plan.dashed)
            self._program = make_program(scene, self.reference.plan)
            self._program_on = lru_cache(maxsize=4)(self._program.to)
            self._strokes_on = lru_cache(maxsize=4)(lambda device: make_stroke_table(self.reference.plan_on(device)))
        else:
            warnings.warn(SLOWER, stacklevel=2)
        self._maps = lru_cache(maxsize=4)(self._make_maps)

    def render(
        self,
        parameters: SceneParameters,
        width: int,
        height: int,
        view: Affine = IDENTITY,
        background: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "c h w"]:
        """Draw the scene; arguments and result are those of `Rasterizer.render`."""
        points = parameters.points
        if (
            not self._is_plain
            or points.dtype != torch.float32
            or not (points.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")
        ):
            return self.reference.render(parameters, width, height, view, background)
        points = self.reference.followers(points)
        device = points.device
        program = self._program_on(device)
        if not len(program.items):
            return points.new_zeros(4, height, width) if background is None else background.to(points)
        boxes = points.new_zeros(0, 4)
        if program.boxed:
            boxes = bounding_boxes(points[program.boxed_segments], program.boxed_owner, program.boxed)
        below = points.new_empty(0) if background is None else background
        rows = (parameters.colors, parameters.opacities, parameters.gradients, parameters.offsets)
        numbers = (points, parameters.widths, *rows, boxes, below)
        inputs = [*(t.to(points).contiguous() for t in numbers), *self._maps(view, device)]
        with torch.cuda.device_of(points):
            drawn = self._drawer(inputs, (width, height, background is not None))
        return within_window(drawn, background, self.scene.window, view)

    def _draw(self, inputs: Sequence[Tensor], size: Size, room: Room | None) -> tuple[Tensor, Tensor]:
        """Return a picture, and how many chords, edges and cells it needs: if there is no room, it is not drawn."""
        points, widths, colors, opacities, geometries, offsets, boxes, below, maps, gradients, stretch = inputs
        program, strokes = self._program_on(points.device), self._strokes_on(points.device)
        edges, region, firsts = points.new_zeros(0, 2, 2), *points.new_zeros(2, 0, dtype=torch.int32)
        needed = points.new_zeros(2, dtype=torch.int64)
        if len(strokes.segments):
            edges, region, firsts, needed = tiled_stroke_edges(
                strokes, points, widths, maps, stretch, self.tolerance, room
            )
        numbers = (points, edges, colors, opacities, geometries, offsets, boxes, below)
        width, height, opaque = size
        picture = Picture(
            program, maps, gradients, region, firsts, width, height, opaque, self.tolerance,
            torch.is_grad_enabled() and any(t.requires_grad for t in numbers), room,
        )  # fmt: skip
        drawn, cells = _Render.apply(*numbers, picture)  # type: ignore[no-untyped-call]
        return drawn, torch.cat([needed, cells[None]])

    def _make_maps(self, view: Affine, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the view decides: the maps of regions, those of gradients, and how it stretches strokes."""
        plan = self.reference.plan
        maps = canvas_maps(plan.transforms, view)
        a, b, c, d, _, _ = maps[list(plan.stroke_regions)].unbind(1)
        stretch = 0.5 * (torch.hypot(a + d, b - c) + torch.hypot(a - d, b + c))  # as in `affine.largest_scale`
        return maps.to(device), gradient_maps(plan, view).to(device), stretch.to(device)
