"""Drawing a part of a picture with splatfacto, as exactly that part of the whole picture.

A camera whose picture is the part would be almost right: both rasterisers take the shape of a Gaussian whose centre is
outside the picture from a point nearer to it, so that large Gaussians beside the part would look otherwise. So
Gaussians are projected for the whole picture, and their places are moved to the part's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gsplat.rendering
import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.scenes.compat import replaced
from pds_nerfstudio.scenes.views import Part
from pds_nerfstudio.splat_rasterizer import rasterizer
from pds_nerfstudio.splat_rasterizer.projection import Projection

_Project = Callable[..., Any]


@contextmanager
def drawing_part(part: Part, height: int, width: int) -> Iterator[None]:
    """Let the rasterisers that are called inside, for a camera of a part, draw that part of the whole picture.

    Args:
        part: Begins between two tiles.
        height: Of the whole picture, in pixels.
        width: Of the whole picture, in pixels.
    """

    def for_the_whole(project: _Project, moved: Callable[[Any, Tensor], Any]) -> _Project:
        signature = inspect.signature(project)

        def projected(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options)
            intrinsics = given.arguments["Ks"]
            corner = torch.tensor([part.columns.start, part.rows.start]).to(intrinsics, non_blocking=True)
            given.arguments["Ks"] = _about_the_whole(intrinsics, corner)
            given.arguments["width"], given.arguments["height"] = width, height
            return moved(project(*given.args, **given.kwargs), corner)

        return projected

    with ExitStack() as stack:
        ours, theirs = rasterizer.project, gsplat.rendering.fully_fused_projection
        stack.enter_context(replaced(rasterizer, "project", for_the_whole(ours, _moved)))
        stack.enter_context(
            replaced(gsplat.rendering, "fully_fused_projection", for_the_whole(theirs, _moved_of_gsplat))
        )
        yield


def _about_the_whole(intrinsics: Float[Tensor, "cameras 3 3"], corner: Float[Tensor, "2"]) -> Tensor:
    """Return the intrinsics of the whole picture for those of a part with this corner."""
    whole = intrinsics.clone()
    whole[:, :2, 2] += corner
    return whole


def _moved(view: Projection, corner: Float[Tensor, "2"]) -> Projection:
    return view._replace(means=view.means - corner)


def _moved_of_gsplat(view: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None], corner: Float[Tensor, "2"]) -> Any:
    radii, means, *others = view
    return radii, means - corner, *others
