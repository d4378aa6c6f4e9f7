"""From a scene and its numbers to pixels."""

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, MAX_SCALE, Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.compositor import Item, LayerItem, SolidItem, TextureItem, over
from pds_nerfstudio.vector.raster.coverage import Windows, coverage, fit_windows, union_box
from pds_nerfstudio.vector.raster.following import Followers
from pds_nerfstudio.vector.raster.outlines import fill_edges, stroke_edges
from pds_nerfstudio.vector.raster.paint import cone_cover, gradient_colors, linear_parameter, radial_parameter
from pds_nerfstudio.vector.raster.plan import Draw, Layer, Mask, Plan, Segments, make_plan
from pds_nerfstudio.vector.raster.scene import Gradient, Scene, SceneParameters, Solid
from pds_nerfstudio.vector.raster.supersampling import supersample
from pds_nerfstudio.vector.raster.window import within_window

TOLERANCE = 0.03
"""Default distance between a curve and its chords, in pixels."""


class Rasterizer:
    """A renderer of one scene, whose tree stays fixed while its numbers change.

    The result is deterministic on the CPU: the same numbers give the same bits.

    Args:
        scene: What to draw.
        tolerance: Largest distance between a curve and the chords that replace it, in pixels.
    """

    def __init__(self, scene: Scene, tolerance: float = TOLERANCE) -> None:
        self.scene = scene
        self.tolerance = tolerance
        self.followers = Followers(scene)
        """Puts paths that follow others into their places."""
        self.plan = make_plan(scene)
        """The scene, sorted, on the CPU."""
        self.plan_on = lru_cache(maxsize=4)(self._moved)
        """The same on a device."""

    def render(
        self,
        parameters: SceneParameters,
        width: int,
        height: int,
        view: Affine = IDENTITY,
        background: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "c h w"]:
        """Draw the scene.

        Args:
            parameters: The scene's numbers; their device and dtype are the picture's.
            width: Canvas width in pixels.
            height: Canvas height in pixels.
            view: From the drawing's units to canvas pixels; the centre of the first pixel is (0.5, 0.5).
            background: Opaque sRGB picture below the drawing.

        Returns:
            sRGB in 0 … 1 with 3 channels over a background; without one, premultiplied RGBA.
        """
        points = self.followers(parameters.points)
        plan = self.plan_on(points.device)
        frame = _Frame(plan, replace(parameters, points=points), view, width, height, self.tolerance)
        below = points.new_zeros(4, height, width) if background is None else background.to(points)
        picture = frame.paint(plan.root.items, below, (0, 0))
        return within_window(picture, background, self.scene.window, view)

    def _moved(self, device: torch.device) -> Plan:
        def moved(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            if isinstance(value, Segments):
                return Segments(**{name: moved(inner) for name, inner in vars(value).items()})  # type: ignore[arg-type]
            return value

        return Plan(**{name: moved(value) for name, value in vars(self.plan).items()})  # type: ignore[arg-type]


class _Frame:
    """One picture in the making."""

    def __init__(
        self,
        plan: Plan,
        parameters: SceneParameters,
        view: Affine,
        width: int,
        height: int,
        tolerance: float,
    ) -> None:
        self.plan, self.parameters, self.view, self.tolerance = plan, parameters, view, tolerance
        points = parameters.points
        self.views = [affine.compose(view, transform) for transform in plan.transforms]
        # a scale beyond all measure must not turn coordinates into infinities
        matrices = points.new_tensor(self.views).nan_to_num().clamp(-MAX_SCALE, MAX_SCALE)
        self.matrices = matrices.reshape(-1, 3, 2).transpose(1, 2)
        edges, region = fill_edges(plan, parameters, self.matrices, tolerance)
        if plan.strokes:
            stretch = points.new_tensor([affine.largest_scale(self.views[r]) for r in plan.stroke_regions])
            around, of = stroke_edges(plan, parameters, self.matrices, stretch, tolerance)
            edges, region = torch.cat([edges, around]), torch.cat([region, of])
        self.windows = fit_windows(edges, region, plan.regions, width, height)
        cover, field = coverage(edges, region, self.windows, plan.evenodd)
        self.cover = supersample(cover, field, edges, region, self.windows, plan.evenodd)
        self._boxes: dict[int, Tensor] = {}

    def paint(
        self, items: tuple[Draw | Layer, ...], background: Float[Tensor, "c h w"], origin: tuple[int, int]
    ) -> Float[Tensor, "c h w"]:
        """Lay the items over a background whose upper left pixel is `origin`."""
        channels = background.shape[0]
        laid: list[Item] = []
        textures: list[Tensor] = []
        solids: list[tuple[int, tuple[int, ...]]] = []
        for item in items:
            if isinstance(item, Layer):
                picture = self._picture(item)
                if picture is not None:
                    laid.append(LayerItem(picture[1], len(textures)))
                    textures.append(picture[0])
                continue
            x, y, width, height, _ = self.windows.boxes[item.region]
            if width == 0:
                continue
            if isinstance(item.paint, Solid) and item.clip is None:
                laid.append(SolidItem(item.region, len(solids)))
                solids.append((item.paint.color, item.opacities))
                continue
            texture = self._texture(item, (x, y, width, height))
            if channels == 4:
                texture = torch.cat([texture[:3], torch.ones_like(texture[:1]), texture[3:]])
            laid.append(TextureItem(item.region, len(textures)))
            textures.append(texture)
        colors = self.parameters.colors[[row for row, _ in solids]]
        if channels == 4:
            colors = torch.cat([colors, torch.ones_like(colors[:, :1])], 1)
        alphas = self._products([rows for _, rows in solids])
        return over(background, self.cover, colors, alphas, origin, self.windows, laid, textures)

    def _products(self, rows: list[tuple[int, ...]]) -> Float[Tensor, " n"]:
        """Return for each list of rows the product of those opacities."""
        opacities = self.parameters.opacities
        padded = torch.cat([opacities, opacities.new_ones(1)])
        one, longest = opacities.numel(), max((len(r) for r in rows), default=0)
        index = torch.tensor([[*r, *(one,) * (longest - len(r))] for r in rows], dtype=torch.long)
        return padded[index.reshape(len(rows), longest).to(opacities.device)].prod(1)

    def _picture(self, layer: Layer) -> tuple[Tensor, tuple[int, int, int, int]] | None:
        """Return a layer as premultiplied RGBA within its box."""
        x, y, width, height = self._box(layer)
        if width == 0 or height == 0:
            return None
        empty = self.parameters.points.new_zeros(4, height, width)
        picture = self.paint(layer.items, empty, (x, y)) * self._products([layer.opacities])
        if layer.clip is not None:
            picture = picture * self._mask(layer.clip, (x, y, width, height))
        return picture, (x, y, width, height)

    def _box(self, layer: Layer) -> tuple[int, int, int, int]:
        return union_box([self.windows.boxes[i.region] if isinstance(i, Draw) else self._box(i) for i in layer.items])

    def _mask(self, mask: Mask, box: tuple[int, int, int, int]) -> Float[Tensor, "h w"]:
        """Return the coverage of a clip path within a box."""
        _x, _y, width, height = box
        alpha = self.cover.new_zeros(1, height, width)
        for region, clip in mask.regions:
            part = torch.nn.functional.pad(*_overlap(self.windows, self.cover, region, box))
            if clip is not None:
                part = part * self._mask(clip, box)
            alpha = alpha + part * (1 - alpha)
        if mask.clip is not None:
            alpha = alpha * self._mask(mask.clip, box)
        return alpha[0]

    def _texture(self, draw: Draw, box: tuple[int, int, int, int]) -> Float[Tensor, "4 h w"]:
        """Return colour and alpha of a draw within its window."""
        numbers = self.parameters
        _, _, width, height = box
        if isinstance(draw.paint, Solid):
            color = numbers.colors[draw.paint.color]
            texture = torch.cat([color, color.new_ones(1)])[:, None, None].expand(4, height, width)
        else:
            texture = self._gradient(draw, draw.paint, box)
        alpha = texture[3] * self._products([draw.opacities])
        if draw.clip is not None:
            alpha = alpha * self._mask(draw.clip, box)
        return torch.cat([texture[:3], alpha[None]])

    def _gradient(self, draw: Draw, paint: Gradient, box: tuple[int, int, int, int]) -> Float[Tensor, "4 h w"]:
        numbers = self.parameters
        to_path = affine.compose(self.view, draw.transform)
        inverse = affine.inverse(numbers.points.new_tensor(to_path))
        x, y, width, height = box
        step = torch.arange(max(width, height), device=inverse.device, dtype=inverse.dtype) + 0.5
        points = torch.stack(torch.meshgrid(step[:width] + x, step[:height] + y, indexing="xy"), -1)
        points = points @ inverse[:4].view(2, 2) + inverse[4:]
        seen = numbers.points.new_ones(())
        if paint.bounding_box:
            low, high = self._bounding_box(draw.path).split(2)
            # a box without area is no measure of anything, and leaves the path unpainted
            seen = (high > low).all().to(points)
            points = (points - low) / (high - low).clamp(min=1e-12)
        inverse = affine.inverse(numbers.points.new_tensor(paint.transform))
        points = points @ inverse[:4].view(2, 2) + inverse[4:]
        geometry = numbers.gradients[paint.geometry]
        t = (radial_parameter if paint.radial else linear_parameter)(points, geometry)
        stops = paint.stops
        values = torch.cat(
            [
                numbers.colors[[s.color for s in stops]],
                numbers.opacities[[s.opacity for s in stops]][:, None],
            ],
            1,
        )
        texture = gradient_colors(t, paint.spread, numbers.offsets[[s.offset for s in stops]], values)
        if paint.radial:
            seen = seen * cone_cover(points, geometry)
        return torch.cat([texture[:3], texture[3:] * seen])

    def _bounding_box(self, path: int) -> Float[Tensor, " 4"]:
        if path not in self._boxes:
            segments = self.plan.segments[self.plan.segment_path == path]
            owner = torch.zeros_like(segments[:, 0])
            self._boxes[path] = bounding_boxes(self.parameters.points[segments], owner, 1)[0]
        return self._boxes[path]


def _overlap(
    windows: Windows, cover: Tensor, region: int, box: tuple[int, int, int, int]
) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Return the part of a region's coverage within a box, and the padding that makes it fill the box."""
    x, y, width, height = box
    left, top, w, h, _ = windows.boxes[region]
    x0, x1 = max(x, left), min(x + width, left + w)
    y0, y1 = max(y, top), min(y + height, top + h)
    if x1 <= x0 or y1 <= y0:
        return cover.new_zeros(1, 0, 0), (0, width, 0, height)
    part = windows.view(cover, region)[None, y0 - top : y1 - top, x0 - left : x1 - left]
    return part, (x0 - x, x + width - x1, y0 - y, y + height - y1)
