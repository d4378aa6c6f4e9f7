"""What paints that are not one colour look like on the canvas: gradients and patterns."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.blending import Rgba, plain_colors
from pds_nerfstudio.vector.raster.boxes import Box
from pds_nerfstudio.vector.raster.paint import cone_cover, gradient_colors, linear_parameter, radial_parameter
from pds_nerfstudio.vector.raster.plan import Draw, Plan
from pds_nerfstudio.vector.raster.sampling import PER_PIXEL, canvas_points, mapped, sampled_tiles
from pds_nerfstudio.vector.raster.scene import Gradient, Pattern, SceneParameters, Solid

DrawTile = Callable[[Pattern, SceneParameters, int, int, Affine], Rgba]
"""Draws a pattern's tile with some numbers on a canvas of some size by some view."""
_MAX_TILE = 2048
_SMALL = 8


class Textures:
    """The paints of one picture.

    Args:
        plan: What is drawn.
        parameters: Its numbers, with all that follows in its place.
        view: From the drawing's units to canvas pixels.
        draw_tile: Draws tiles.
    """

    def __init__(self, plan: Plan, parameters: SceneParameters, view: Affine, draw_tile: DrawTile) -> None:
        self.plan, self.parameters, self.view, self.draw_tile = plan, parameters, view, draw_tile
        self._boxes: dict[int, Tensor] = {}
        self._tiles: dict[tuple[int, int, int], Tensor] = {}

    def of(self, draw: Draw, box: Box) -> Float[Tensor, "4 h w"]:
        """Return colour and alpha of a draw's paint in a box of pixels, not premultiplied."""
        if isinstance(draw.paint, Solid):
            color = self.parameters.colors[draw.paint.color]
            return torch.cat([color, color.new_ones(1)])[:, None, None].expand(4, box[3], box[2])
        if isinstance(draw.paint, Gradient):
            return self._gradient(draw, draw.paint, box)
        return self._pattern(draw, draw.paint, box)

    def _points(self, draw: Draw, box: Box, per_pixel: int = 1) -> Float[Tensor, "h w 2"]:
        """Return the places of samples in the units of a draw's path."""
        like = self.parameters.points
        inverse = affine.inverse(like.new_tensor(affine.compose(self.view, draw.transform)))
        return mapped(canvas_points(box, inverse, per_pixel), inverse)

    def _gradient(self, draw: Draw, paint: Gradient, box: Box) -> Float[Tensor, "4 h w"]:
        numbers = self.parameters
        points = self._points(draw, box)
        seen = numbers.points.new_ones(())
        if paint.bounding_box:
            low, high = self._bounding_box(draw.path).split(2)
            # a box without area is no measure of anything, and leaves the path unpainted
            seen = (high > low).all().to(points)
            points = (points - low) / (high - low).clamp(min=1e-12)
        points = mapped(points, affine.inverse(numbers.points.new_tensor(paint.transform)))
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

    def _pattern(self, draw: Draw, paint: Pattern, box: Box) -> Float[Tensor, "4 h w"]:
        x, y, width, height = paint.tile
        a, b, c, d, _, _ = affine.compose(affine.compose(self.view, draw.transform), paint.transform)
        sides = width * math.hypot(a, b), height * math.hypot(c, d)
        # the smaller a tile, the more a pixel holds of it
        per_pixel = PER_PIXEL if min(sides) >= _SMALL else 2 * PER_PIXEL
        fine = [min(max(per_pixel * round(side), 1), _MAX_TILE) for side in sides]
        key = (id(paint), fine[0], fine[1])
        if key not in self._tiles:
            to_tile = affine.compose(affine.scaling(fine[0] / width, fine[1] / height), affine.translation(-x, -y))
            self._tiles[key] = self.draw_tile(paint, self.parameters, fine[0], fine[1], to_tile)
        like = self.parameters.points
        points = mapped(self._points(draw, box, per_pixel), affine.inverse(like.new_tensor(paint.transform)))
        places = (points - like.new_tensor([x, y])) / like.new_tensor([width, height])
        picture = sampled_tiles(self._tiles[key], places, per_pixel)
        return torch.cat([plain_colors(picture), picture[3:]])

    def _bounding_box(self, path: int) -> Float[Tensor, " 4"]:
        if path not in self._boxes:
            segments = self.plan.segments[self.plan.segment_path == path]
            owner = torch.zeros_like(segments[:, 0])
            self._boxes[path] = bounding_boxes(self.parameters.points[segments], owner, 1)[0]
        return self._boxes[path]
