"""Filters of pictures, differentiable in the pictures (Filter Effects 1)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.blending import Rgba, blended, held, over, plain_colors, premultiplied
from pds_nerfstudio.vector.raster.blur import REACH, covariance, gaussian_blur
from pds_nerfstudio.vector.raster.boxes import Box, grown, intersection, moved_to
from pds_nerfstudio.vector.raster.filter_graph import (
    SOURCE_ALPHA,
    Blur,
    ColorMatrix,
    Composite,
    Filter,
    Flood,
    Merge,
    Mix,
    Morphology,
    Offset,
    Operation,
    Region,
    Step,
    Transfer,
    TransferFunction,
)
from pds_nerfstudio.vector.raster.linear_light import to_linear, to_srgb
from pds_nerfstudio.vector.raster.scene import SceneParameters

_EDGE = 1e-3
"""How far into a pixel a region may reach without taking it in."""


def reach(filters: tuple[Filter, ...], view: Affine) -> tuple[int, int]:
    """Return how far beyond its shapes what filters show may come from, or go, in pixels along x and y."""
    across, down = 0, 0
    for one in filters:
        linear = affine.compose(view, one.transform)[:4]
        for step in one.steps:
            x, y = _step_reach(step.operation, linear)
            across, down = across + x, down + y
    return across, down


def _step_reach(operation: Operation, linear: tuple[float, float, float, float]) -> tuple[int, int]:
    a, b, c, d = linear
    if isinstance(operation, Blur):
        xx, _, yy = covariance(operation.x, operation.y, linear)
        return math.ceil(REACH * math.sqrt(xx)), math.ceil(REACH * math.sqrt(yy))
    if isinstance(operation, Offset):
        move = a * operation.x + c * operation.y, b * operation.x + d * operation.y
        return math.ceil(abs(move[0])), math.ceil(abs(move[1]))
    if isinstance(operation, Morphology):
        return _radii(operation, linear)
    return 0, 0


def _fills(operation: Operation) -> bool:
    """Tell whether an operation makes something of nothing."""
    if isinstance(operation, ColorMatrix):
        return operation.values[19] > 0
    if isinstance(operation, Transfer):
        return bool(_transferred(operation.functions[3], torch.zeros(1)) > 0)
    if isinstance(operation, Composite):
        return operation.operator == "arithmetic" and operation.k[3] > 0
    return isinstance(operation, Flood)


@dataclass(frozen=True)
class Filtering:
    """A filter on the canvas."""

    filter: Filter
    """What it does."""
    numbers: SceneParameters
    """The numbers of the drawing, with all that follows in its place."""
    view: Affine
    """From the drawing's units to canvas pixels."""
    canvas: Box
    """Where pictures are made."""

    def box(self, content: Box) -> Box:
        """Return where the result may show something.

        Args:
            content: Where what it is on shows.
        """
        region = self._box_of(self.filter.region)
        if any(_fills(step.operation) for step in self.filter.steps):
            return region
        across, down = reach((self.filter,), self.view)
        return intersection(grown(content, across, down, across, down), region)

    def _box_of(self, region: Region | None) -> Box:
        """Return the pixels of a region."""
        if region is None:
            return self.canvas
        corners = self.numbers.points[region.first : region.first + 4].tolist()
        to_canvas = affine.compose(self.view, region.transform)
        places = [affine.apply(to_canvas, x, y) for x, y in corners]
        low = [max(math.floor(min(p[k] for p in places) + _EDGE), self.canvas[k]) for k in (0, 1)]
        ends = [self.canvas[k] + self.canvas[k + 2] for k in (0, 1)]
        high = [min(math.ceil(max(p[k] for p in places) - _EDGE), ends[k]) for k in (0, 1)]
        return low[0], low[1], max(high[0] - low[0], 0), max(high[1] - low[1], 0)

    def apply(self, source: Rgba, box: Box) -> Rgba:
        """Return the result.

        Args:
            source: What it is on, in the box.
            box: Where the result is wanted; see `box`.
        """
        results: list[tuple[Rgba, bool]] = []

        def input_of(number: int, linear: bool) -> Rgba:
            picture, is_linear = (source, False) if number < 0 else results[number]
            if number == SOURCE_ALPHA:
                return torch.cat([torch.zeros_like(source[:3]), source[3:]])
            if is_linear == linear:
                return picture
            return premultiplied((to_linear if linear else to_srgb)(plain_colors(picture)), picture[3:])

        for step in self.filter.steps:
            picture = self._step(step, [input_of(number, step.linear) for number in step.inputs], box, source)
            if step.region is not None:
                part = intersection(self._box_of(step.region), box)
                picture = moved_to(moved_to(picture, box, part), part, box)
            results.append((picture, step.linear))
        return input_of(len(results) - 1, False) if results else torch.zeros_like(source)

    def _step(self, step: Step, inputs: list[Rgba], box: Box, like: Rgba) -> Rgba:
        operation, linear = step.operation, affine.compose(self.view, self.filter.transform)[:4]
        if isinstance(operation, Blur):
            blur = covariance(operation.x, operation.y, linear)
            return gaussian_blur(inputs[0], blur)
        if isinstance(operation, Offset):
            a, b, c, d = linear
            return _moved(inputs[0], a * operation.x + c * operation.y, b * operation.x + d * operation.y)
        if isinstance(operation, Flood):
            color = self.numbers.colors[operation.color]
            color = to_linear(color) if step.linear else color
            alpha = self.numbers.opacities[operation.opacity].reshape(1, 1, 1).expand(1, box[3], box[2])
            return premultiplied(color[:, None, None].expand(3, box[3], box[2]), alpha)
        if isinstance(operation, Merge):
            picture = torch.zeros_like(like)
            for layer in inputs:
                picture = over(picture, layer)
            return picture
        if isinstance(operation, Composite):
            return composite(operation, inputs[0], inputs[1])
        if isinstance(operation, Morphology):
            return _fattened(inputs[0], *_radii(operation, linear), operation.dilates)
        if isinstance(operation, Mix):
            return blended(operation.mode, inputs[1], inputs[0])
        channels = torch.cat([plain_colors(inputs[0]), inputs[0][3:]])
        if isinstance(operation, ColorMatrix):
            matrix = channels.new_tensor(operation.values).view(4, 5)
            channels = torch.einsum("ij,jhw->ihw", matrix[:, :4], channels) + matrix[:, 4, None, None]
        else:
            parts = zip(operation.functions, channels, strict=True)
            channels = torch.stack([_transferred(function, channel) for function, channel in parts])
        channels = held(channels)
        return premultiplied(channels[:3], channels[3:])


def composite(operation: Composite, above: Rgba, below: Rgba) -> Rgba:
    """Return one picture with another."""
    shares: dict[str, Callable[[Tensor, Tensor], tuple[Tensor | float, Tensor | float]]] = {
        "over": lambda a, b: (1, 1 - a),
        "in": lambda a, b: (b, 0),
        "out": lambda a, b: (1 - b, 0),
        "atop": lambda a, b: (b, 1 - a),
        "xor": lambda a, b: (1 - b, 1 - a),
        "lighter": lambda a, b: (1, 1),
    }
    if operation.operator in shares:
        of_above, of_below = shares[operation.operator](above[3:], below[3:])
        return held(above * of_above + below * of_below)
    k1, k2, k3, k4 = operation.k
    mixed = held(k1 * above * below + k2 * above + k3 * below + k4)
    # no colour is brighter than its alpha
    return torch.cat([torch.minimum(mixed[:3], mixed[3:]), mixed[3:]])


def _moved(picture: Rgba, x: float, y: float) -> Rgba:
    """Return a picture moved by any distance, linear between pixels, with nothing around it."""
    height, width = picture.shape[1:]
    left, top = math.floor(x + _EDGE), math.floor(y + _EDGE)
    result = torch.zeros_like(picture)
    for dy, row in ((0, 1 - (y - top)), (1, y - top)):
        for dx, column in ((0, 1 - (x - left)), (1, x - left)):
            weight = row * column
            if weight > _EDGE and abs(left + dx) < width and abs(top + dy) < height:
                result = result + weight * moved_to(
                    picture, (left + dx, top + dy, width, height), (0, 0, width, height)
                )
    return result


def _radii(operation: Morphology, linear: tuple[float, float, float, float]) -> tuple[int, int]:
    a, b, c, d = linear
    return round(operation.x * math.hypot(a, b)), round(operation.y * math.hypot(c, d))


def _fattened(picture: Rgba, x: int, y: int, dilates: bool) -> Rgba:
    """Return for each pixel the largest, or smallest, values around it, so far to each side."""
    height, width = picture.shape[1:]
    x, y = min(x, width), min(y, height)
    around = torch.nn.functional.pad(picture if dilates else -picture, (x, x, y, y))[None]
    row = torch.nn.functional.max_pool2d(around, (1, 2 * x + 1), 1)
    most = torch.nn.functional.max_pool2d(row, (2 * y + 1, 1), 1)[0]
    return most if dilates else -most


def _transferred(function: TransferFunction, channel: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return one channel, 0 … 1, after a transfer function."""
    kind, values = function.kind, function.values
    if kind == "linear":
        result = values[0] * channel + values[1]
    elif kind == "gamma":
        # x ** exponent has no slope at 0 that can be computed with
        result = values[0] * channel.clamp(min=1e-6) ** values[1] + values[2]
    elif kind in ("table", "discrete") and values:
        table, last = channel.new_tensor(values), len(values) - 1
        if kind == "discrete":
            result = table[(channel * len(values)).floor().long().clamp(0, last)]
        else:
            lower = (channel * last).floor().long().clamp(0, max(last - 1, 0))
            upper = (lower + 1).clamp(max=last)
            result = torch.lerp(table[lower], table[upper], channel * last - lower)
    else:
        result = channel
    return held(result)
