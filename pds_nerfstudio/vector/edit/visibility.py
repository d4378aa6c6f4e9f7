"""Which path is seen where."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.backend import Backend
from pds_nerfstudio.vector.raster.scene import Group, Scene, SceneParameters, Shape, Solid

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
    is seen, its bits are; a mixture of several, as on an edge, is no path's.

    Args:
        scene: What is drawn.
        parameters: Its numbers.
        view: From the drawing's units to the canvas.
        canvas: Its side in pixels.
        backend: What to render with.
    """
    paths = max((n for n in _paths(scene.root)), default=-1) + 1
    painted = backend(replace(scene, root=_by_path(scene.root, parameters)))
    black = parameters.points.new_zeros(3, canvas, canvas)
    numbers = torch.arange(max(paths, 1), device=black.device)
    bits = max(paths - 1, 1).bit_length()
    # the last plane is white for all: it says where anything is
    planes = torch.stack([numbers >> bit & 1 for bit in range(bits)] + [torch.ones_like(numbers)], 1).to(black)
    planes = torch.nn.functional.pad(planes, (0, -planes.shape[1] % 3))
    owner, clear = torch.zeros_like(black[0], dtype=torch.long), torch.ones_like(black[0], dtype=torch.bool)
    for first in range(0, planes.shape[1], 3):
        seen = painted.render(replace(parameters, colors=planes[:, first : first + 3]), canvas, canvas, view, black)
        for bit, plane in enumerate(seen, first):
            if bit < bits:
                owner += (plane > 0.5).long() << bit
                clear &= (plane - 0.5).abs() > 0.5 - _CLEAR
            elif bit == bits:
                clear &= plane > 1 - _CLEAR
    return torch.where(clear, owner, NOTHING)


def _paths(group: Group) -> list[int]:
    return [n for c in group.children for n in (_paths(c) if isinstance(c, Group) else [c.path])]


def _by_path(group: Group, parameters: SceneParameters) -> Group:
    """Return a group whose shapes are painted in the colour of their path's row, opaque if they hide more than half."""

    def hides(rows: tuple[int, ...]) -> tuple[int, ...]:
        return () if float(parameters.opacities[list(rows)].prod()) > _HALF else rows

    def painted(shape: Shape) -> Shape:
        fill, stroke, paint = shape.fill, shape.stroke, Solid(shape.path)
        return replace(
            shape,
            opacities=hides(shape.opacities),
            fill=fill and replace(fill, paint=paint, opacities=hides(fill.opacities)),
            stroke=stroke and replace(stroke, paint=paint, opacities=hides(stroke.opacities)),
        )

    children = (_by_path(c, parameters) if isinstance(c, Group) else painted(c) for c in group.children)
    return replace(group, children=tuple(children))
