"""From a scene and its numbers to pixels."""

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY, MAX_SCALE, Affine
from pds_nerfstudio.vector.raster.blending import Rgba, blended
from pds_nerfstudio.vector.raster.boxes import Box, is_empty, moved_to
from pds_nerfstudio.vector.raster.compositor import Item, LayerItem, SolidItem, TextureItem, over
from pds_nerfstudio.vector.raster.coverage import Windows, coverage, fit_windows, union_box
from pds_nerfstudio.vector.raster.filtering import Filtering, reach
from pds_nerfstudio.vector.raster.following import Followers
from pds_nerfstudio.vector.raster.masking import mask_values
from pds_nerfstudio.vector.raster.outlines import fill_edges, stroke_edges
from pds_nerfstudio.vector.raster.plan import Draw, Layer, Mask, Plan, Segments, Veil, make_plan
from pds_nerfstudio.vector.raster.sampling import picture_box, sampled_picture
from pds_nerfstudio.vector.raster.scene import Pattern, Picture, Scene, SceneParameters, Solid
from pds_nerfstudio.vector.raster.supersampling import supersample
from pds_nerfstudio.vector.raster.textures import Textures
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
        self._tiles = {
            id(paint): Rasterizer(Scene(scene.topology, paint.content), tolerance) for paint in self.plan.patterns
        }

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
        below = points.new_zeros(4, height, width) if background is None else background.to(points)
        # what a filter brings onto the canvas from beyond its edges has to be drawn, too
        beyond = [reach(chain, view) for chain in plan.filter_chains]
        dx, dy = (min(max((r[k] for r in beyond), default=0), width + height) for k in (0, 1))
        canvas = (-dx, -dy, width + 2 * dx, height + 2 * dy)
        textures = Textures(
            plan, replace(parameters, points=points), affine.compose(affine.translation(dx, dy), view), self._tile
        )
        frame = _Frame(textures, canvas[2], canvas[3], self.tolerance)
        picture = frame.paint(plan.root.items, moved_to(below, (0, 0, width, height), canvas), (0, 0))
        picture = moved_to(picture, canvas, (0, 0, width, height))
        return within_window(picture, background, self.scene.window, view)

    def _tile(self, paint: Pattern, parameters: SceneParameters, width: int, height: int, view: Affine) -> Rgba:
        return self._tiles[id(paint)].render(parameters, width, height, view)

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

    def __init__(self, textures: Textures, width: int, height: int, tolerance: float) -> None:
        self.textures, self.canvas = textures, (0, 0, width, height)
        plan, parameters, view = textures.plan, textures.parameters, textures.view
        self.parameters, self.view = parameters, view
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

    def paint(
        self, items: tuple[Draw | Layer | Picture, ...], background: Float[Tensor, "c h w"], origin: tuple[int, int]
    ) -> Float[Tensor, "c h w"]:
        """Lay the items over a background whose upper left pixel is `origin`."""
        plain: list[Draw | Layer | Picture] = []
        for item in items:
            if not isinstance(item, Layer) or item.blend == "normal":
                plain.append(item)
                continue
            background = self._lay(plain, background, origin)
            plain = []
            found = self._picture(item)
            if found is not None:
                box = (*origin, background.shape[2], background.shape[1])
                background = blended(item.blend, background, moved_to(*found, box))
        return self._lay(plain, background, origin)

    def _lay(
        self, items: list[Draw | Layer | Picture], background: Float[Tensor, "c h w"], origin: tuple[int, int]
    ) -> Float[Tensor, "c h w"]:
        """Lay items over a background that they cover, and do not mix with."""
        channels = background.shape[0]
        laid: list[Item] = []
        textures: list[Tensor] = []
        solids: list[tuple[int, tuple[int, ...]]] = []
        for item in items:
            if not isinstance(item, Draw):
                picture = self._still(item) if isinstance(item, Picture) else self._picture(item)
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

    def _still(self, picture: Picture) -> tuple[Rgba, Box] | None:
        """Return pixels that never change, within their box."""
        box = picture_box(picture, self.view, self.canvas)
        return None if is_empty(box) else (sampled_picture(picture, self.view, box, self.parameters.points), box)

    def _picture(self, layer: Layer) -> tuple[Rgba, Box] | None:
        """Return a layer as premultiplied RGBA within its box."""
        box = self._content_box(layer)
        picture = self.paint(layer.items, self.parameters.points.new_zeros(4, box[3], box[2]), box[:2])
        for filtering in self._filterings(layer):
            target = filtering.box(box)
            if is_empty(target):
                return None
            picture, box = filtering.apply(moved_to(picture, box, target), target), target
        if is_empty(box):
            return None
        picture = picture * self._products([layer.opacities])
        if layer.clip is not None:
            picture = picture * self._mask(layer.clip, box)
        for veil in layer.masks:
            picture = picture * self._veil(veil, box)
        return picture, box

    def _filterings(self, layer: Layer) -> list[Filtering]:
        return [Filtering(one, self.parameters, self.view, self.canvas) for one in layer.filters]

    def _content_box(self, layer: Layer) -> Box:
        """Return where what is in a layer shows."""
        return union_box([self._item_box(item) for item in layer.items])

    def _item_box(self, item: Draw | Layer | Picture) -> Box:
        if isinstance(item, Draw):
            x, y, width, height, _ = self.windows.boxes[item.region]
            return x, y, width, height
        if isinstance(item, Picture):
            return picture_box(item, self.view, self.canvas)
        box = self._content_box(item)
        for filtering in self._filterings(item):
            box = filtering.box(box)
        return box

    def _veil(self, veil: Veil, box: Box) -> Float[Tensor, "h w"]:
        """Return how much a mask lets show within a box."""
        found = self._picture(veil.content)
        if found is None:
            return self.cover.new_zeros(box[3], box[2])
        values = mask_values(moved_to(*found, box), veil.alpha, veil.linear)
        return values if veil.region is None else values * self._mask(veil.region, box)

    def _texture(self, draw: Draw, box: Box) -> Float[Tensor, "4 h w"]:
        """Return colour and alpha of a draw within its window."""
        texture = self.textures.of(draw, box)
        alpha = texture[3] * self._products([draw.opacities])
        if draw.clip is not None:
            alpha = alpha * self._mask(draw.clip, box)
        return torch.cat([texture[:3], alpha[None]])

    def _mask(self, mask: Mask, box: Box) -> Float[Tensor, "h w"]:
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


def _overlap(windows: Windows, cover: Tensor, region: int, box: Box) -> tuple[Tensor, Box]:
    """Return the part of a region's coverage within a box, and the padding that makes it fill the box."""
    x, y, width, height = box
    left, top, w, h, _ = windows.boxes[region]
    x0, x1 = max(x, left), min(x + width, left + w)
    y0, y1 = max(y, top), min(y + height, top + h)
    if x1 <= x0 or y1 <= y0:
        return cover.new_zeros(1, 0, 0), (0, width, 0, height)
    part = windows.view(cover, region)[None, y0 - top : y1 - top, x0 - left : x1 - left]
    return part, (x0 - x, x + width - x1, y0 - y, y + height - y1)
