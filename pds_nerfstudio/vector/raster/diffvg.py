"""pydiffvg (Li et al., "Differentiable vector graphics rasterization for editing and learning", 2020) as a backend.

No installation of this package brings pydiffvg. Where it is installed, it can draw plain scenes in place of this
package's own rasteriser, to compare with work that used it. It samples edges at random, always with the same seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Fill, Group, Picture, Scene, SceneParameters, Shape, Solid, Stroke
from pds_nerfstudio.vector.raster.window import within_window

SAMPLES = 2
"""Samples along each side of a pixel, as edits with it use."""


@dataclass(frozen=True)
class _Contour:
    """How pydiffvg wants a contour: the rows of its points, and how many control points lie between two ends."""

    rows: Tensor
    handles: Tensor
    closed: bool


class DiffvgRenderer:
    """A renderer of one scene by pydiffvg; see `backend.Renderer`.

    Args:
        scene: What to draw.

    Raises:
        UserError: If pydiffvg is not installed, or lacks something that the scene has.
    """

    def __init__(self, scene: Scene) -> None:
        self._pydiffvg = _installed()
        self._shapes = list(_shapes(scene.root))
        self._window = scene.window
        self._contours: dict[int, list[_Contour]] = {}
        for number, path in enumerate(scene.topology.path):
            segments = scene.topology.segments[scene.topology.contour == number].tolist()
            if segments:
                contour = _contour(segments, scene.topology.closed[number])
                self._contours.setdefault(path, []).append(contour)

    def render(
        self,
        parameters: SceneParameters,
        width: int,
        height: int,
        view: Affine,
        background: Float[Tensor, "3 h w"],
    ) -> Float[Tensor, "3 h w"]:
        """Return the scene over an opaque background, sRGB in 0 … 1."""
        self._pydiffvg.set_use_gpu(parameters.points.is_cuda)
        paths: list = []
        groups: list = []
        for shape in self._shapes:
            parts: list[Fill | Stroke | None] = [shape.fill, shape.stroke]
            for part in reversed(parts) if shape.stroke_first else parts:
                if part is not None and shape.path in self._contours:
                    self._add(paths, groups, shape, part, parameters, affine.compose(view, shape.transform))
        if not groups:
            return background
        opaque = torch.cat([background, torch.ones_like(background[:1])]).permute(1, 2, 0).contiguous()
        function = self._pydiffvg.RenderFunction
        scene = function.serialize_scene(width, height, paths, groups)
        picture = function.apply(width, height, SAMPLES, SAMPLES, 0, opaque, *scene)[..., :3].permute(2, 0, 1)
        return within_window(picture, background, self._window, view)

    def _add(
        self,
        paths: list,
        groups: list,
        shape: Shape,
        part: Fill | Stroke,
        parameters: SceneParameters,
        to_canvas: Affine,
    ) -> None:
        a, b, c, d, e, f = to_canvas
        matrix, shift = parameters.points.new_tensor([[a, b], [c, d]]), parameters.points.new_tensor([e, f])
        thick = isinstance(part, Stroke)
        width = parameters.widths[part.width] if isinstance(part, Stroke) else parameters.points.new_zeros(())
        first = len(paths)
        for contour in self._contours[shape.path]:
            paths.append(
                self._pydiffvg.Path(
                    num_control_points=contour.handles,
                    points=parameters.points[contour.rows.to(parameters.points.device)] @ matrix + shift,
                    is_closed=contour.closed,
                    # half of the stroke's width is what pydiffvg calls stroke_width
                    stroke_width=width * affine.mean_scale(to_canvas) / 2,
                )
            )
        assert isinstance(part.paint, Solid)
        opacity = [parameters.opacities[row] for row in (*part.opacities, *shape.opacities)]
        alpha = reduce(torch.mul, opacity, parameters.points.new_ones(()))
        color = torch.cat([parameters.colors[part.paint.color], alpha[None]])
        groups.append(
            self._pydiffvg.ShapeGroup(
                shape_ids=torch.arange(first, len(paths)),
                fill_color=None if thick else color,
                stroke_color=color if thick else None,
                use_even_odd_rule=isinstance(part, Fill) and part.evenodd,
            )
        )


def _installed() -> ModuleType:
    try:
        import pydiffvg
    except ImportError as error:
        raise UserError("pydiffvg is not installed: set backend to exact.") from error
    return pydiffvg


def _shapes(group: Group) -> Iterator[Shape]:
    """Return the shapes of a tree in their order; refuse what pydiffvg does not draw."""
    if group.effects is not None:
        raise UserError("pydiffvg has no masks, filters and blend modes: set backend to exact.")
    if group.clip is not None:
        raise UserError("pydiffvg has no clip paths: set backend to exact.")
    if group.opacities:
        raise UserError("pydiffvg has no opacity of groups: set backend to exact.")
    for child in group.children:
        if isinstance(child, Group):
            yield from _shapes(child)
            continue
        if isinstance(child, Picture):
            raise UserError("pydiffvg draws no text and no pictures: set backend to exact.")
        if child.clip is not None:
            raise UserError("pydiffvg has no clip paths: set backend to exact.")
        if child.opacities and child.fill is not None and child.stroke is not None:
            raise UserError("pydiffvg has no opacity of fill and stroke together: set backend to exact.")
        if any(part is not None and not isinstance(part.paint, Solid) for part in (child.fill, child.stroke)):
            raise UserError("The backend pydiffvg draws no gradients and patterns: set backend to exact.")
        if child.stroke is not None and child.stroke.dashes:
            raise UserError("pydiffvg has no dashes: set backend to exact.")
        yield child


def _contour(segments: list[list[int]], closed: bool) -> _Contour:
    rows: list[int] = []
    handles: list[int] = []
    for start, a, b, end in segments:
        straight = a == start and b == end
        rows += [start] if straight else [start, a, b]
        handles.append(0 if straight else 2)
    if not closed:
        rows.append(segments[-1][3])
    elif segments[-1][3] != segments[0][0]:
        raise ValueError("a closed contour ends in its first point")
    return _Contour(torch.tensor(rows), torch.tensor(handles, dtype=torch.int32), closed)
