"""Which path is seen where."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.backend import Backend
from pds_nerfstudio.vector.raster.filter_graph import Filter, Flood
from pds_nerfstudio.vector.raster.scene import (
    Effects,
    Group,
    Masking,
    Node,
    Paint,
    Pattern,
    Picture,
    Scene,
    SceneParameters,
    Shape,
    Solid,
)

NOTHING = -1
"""In the place of a path's number, where no single path is seen."""
_CLEAR = 0.2
"""How far a mixture of bits may be from 0 and from 1, for one path to be what is seen."""

_HALF = 0.5
"""Opacity above which what is seen is rather the path than what is below it."""


@torch.no_grad()
def owners(
    scene: Scene, parameters: SceneParameters, view: Affine, canvas: int, backend: Backend
) -> Int[Tensor, "canvas canvas"]:
    """Return for each pixel the number of the path that is seen there, or `NOTHING`.

    Each path is painted in the bits of its number, three at a time, and then all of them in white. Where one path alone
    is seen, its bits are; a mixture of several, as on an edge, is no path's. Masks hide what they hide. Filters and
    blend modes do not count: a path is seen where it is sharp and plain. Pictures are no path's, nor is what they hide.

    Args:
        scene: What is drawn.
        parameters: Its numbers.
        view: From the drawing's units to the canvas.
        canvas: Its side in pixels.
        backend: What to render with.
    """
    paths = max((n for n in _paths(scene.root)), default=-1) + 1
    painted = backend(replace(scene, root=_by_path(scene.root, paths, parameters)))
    black = parameters.points.new_zeros(3, canvas, canvas)
    numbers = torch.arange(max(paths, 1), device=black.device)
    bits = max(paths - 1, 1).bit_length()
    # the last plane is white for all: it says where anything is
    planes = torch.stack([numbers >> bit & 1 for bit in range(bits)] + [torch.ones_like(numbers)], 1).to(black)
    planes = torch.nn.functional.pad(planes, (0, -planes.shape[1] % 3))
    owner, clear = torch.zeros_like(black[0], dtype=torch.long), torch.ones_like(black[0], dtype=torch.bool)
    for first in range(0, planes.shape[1], 3):
        # what masks draw keeps the colours that it has
        colors = torch.cat([planes[:paths, first : first + 3], parameters.colors])
        seen = painted.render(replace(parameters, colors=colors), canvas, canvas, view, black)
        for bit, plane in enumerate(seen, first):
            if bit < bits:
                owner += (plane > 0.5).long() << bit
                clear &= (plane - 0.5).abs() > 0.5 - _CLEAR
            elif bit == bits:
                clear &= plane > 1 - _CLEAR
    return torch.where(clear, owner, NOTHING)


def _paths(node: Node) -> list[int]:
    if isinstance(node, Group):
        return [n for child in node.children for n in _paths(child)]
    return [node.path] if isinstance(node, Shape) else []


def _by_path(group: Group, paths: int, parameters: SceneParameters) -> Group:
    """Return a group whose shapes are painted in the colour of their path's row, and whose masks in those after.

    What hides more than half of what is below it is opaque.
    """

    def painted(node: Node) -> Node:
        if isinstance(node, Group):
            return _by_path(node, paths, parameters)
        if isinstance(node, Picture):
            return replace(node, pixels=node.pixels * node.pixels.new_tensor([0.0, 0.0, 0.0, 1.0])[:, None, None])
        return _opaque(_repainted(node, lambda _: Solid(node.path)), parameters)

    masks = () if group.effects is None else group.effects.masks
    effects = Effects(masks=tuple(_shifted_mask(mask, paths) for mask in masks)) if masks else None
    return replace(group, children=tuple(painted(child) for child in group.children), effects=effects)


def _opaque(shape: Shape, parameters: SceneParameters) -> Shape:
    """Return a shape that is opaque wherever it hides more than half of what is below it."""

    def hides(rows: tuple[int, ...]) -> tuple[int, ...]:
        return () if float(parameters.opacities[list(rows)].prod()) > _HALF else rows

    fill, stroke = shape.fill, shape.stroke
    return replace(
        shape,
        opacities=hides(shape.opacities),
        fill=fill and replace(fill, opacities=hides(fill.opacities)),
        stroke=stroke and replace(stroke, opacities=hides(stroke.opacities)),
    )


def _repainted(shape: Shape, change: Callable[[Paint], Paint]) -> Shape:
    fill, stroke = shape.fill, shape.stroke
    return replace(
        shape,
        fill=fill and replace(fill, paint=change(fill.paint)),
        stroke=stroke and replace(stroke, paint=change(stroke.paint)),
    )


def _shifted_mask(mask: Masking, by: int) -> Masking:
    return replace(mask, content=_shifted(mask.content, by))


def _shifted(group: Group, by: int) -> Group:
    """Return a group whose colours stand so many rows further down."""

    def paint(before: Paint) -> Paint:
        if isinstance(before, Solid):
            return Solid(before.color + by)
        if isinstance(before, Pattern):
            return replace(before, content=_shifted(before.content, by))
        return replace(before, stops=tuple(replace(stop, color=stop.color + by) for stop in before.stops))

    def node(before: Node) -> Node:
        if isinstance(before, Group):
            return _shifted(before, by)
        return _repainted(before, paint) if isinstance(before, Shape) else before

    effects = group.effects
    if effects is not None:
        masks = tuple(_shifted_mask(mask, by) for mask in effects.masks)
        effects = replace(effects, masks=masks, filters=tuple(_shifted_filter(one, by) for one in effects.filters))
    return replace(group, children=tuple(node(child) for child in group.children), effects=effects)


def _shifted_filter(one: Filter, by: int) -> Filter:
    steps = (
        replace(step, operation=Flood(step.operation.color + by, step.operation.opacity))
        if isinstance(step.operation, Flood)
        else step
        for step in one.steps
    )
    return replace(one, steps=tuple(steps))
