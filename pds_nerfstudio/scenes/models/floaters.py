"""Floaters: Gaussians that an edit has made and that no two training views support. They go before it ends.

An edit is judged from one view at a time. What it makes just before one camera, or where none looks, nothing else holds
to account: other cameras find it floating in the air. So does what was strewn and has not grown.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.comms import get_rank
from torch import Tensor

from pds_nerfstudio.scenes.models.splat import EditSplatModel

_LEAST_WEIGHT = 1 / 255
"""Of a Gaussian in the pixels that it covers, on average: less changes them by no byte's step, and is not seen."""
_LEAST_SHARE = 0.01
"""Of its light in the view that has most of it: what is right before one camera is a speck to the others."""
_MOST_LOOKS = 256
"""Views that are looked at, evenly among all. A look is a render with its gradient: less than a step of an edit."""
_REACH = 3.0
"""Standard deviations to which a Gaussian is drawn."""
_BLUR = 0.3
"""Variance, in square pixels, by which a rasteriser blurs it."""
_NO_MORE = 1.01
"""Opacity to which a strewn Gaussian has not grown, in units of what it was strewn with."""
_HAZE = 0.02
"""More opaque than this is no haze, with whatever opacity Gaussians are strewn."""


@torch.no_grad()
def clear_floaters(model: EditSplatModel, cameras: Cameras) -> int:
    """Remove what the edit has made that fewer than two views see, or that is no more than faint; return how much.

    Held Gaussians stay, and so does the number of all where the edit is to keep it.

    Args:
        model: Of the scene, in the middle of an edit.
        cameras: The training cameras, at the size at which the guidance looks.
    """
    made = model.made if model.free is None else model.made & model.free
    if not model.config.edit_refine_every or not bool(made.any()):
        return 0
    going = torch.zeros_like(made)
    if get_rank() == 0:  # the others follow
        faint = model.opacities.flatten().sigmoid() <= _NO_MORE * min(model.config.strewn_opacity, _HAZE)
        going = (made & faint) | unsupported(model, cameras, made & ~faint)
        going &= ~going.all()  # a scene of no Gaussian is none
    before = model.num_points
    model.remove(going)
    return before - model.num_points


@torch.no_grad()
def unsupported(
    model: EditSplatModel, cameras: Cameras, which: Bool[Tensor, " gaussians"]
) -> Bool[Tensor, " gaussians"]:
    """Return which of some Gaussians fewer than two views see; where there is only one, which it does not see.

    Of very many views some are not looked at: those count as seeing whatever may lie in their frame.

    Args:
        model: Of the scene.
        cameras: Of the views.
        which: Those that are asked about.
    """
    rows = which.nonzero()[:, 0]
    means, (large, larger) = model.means[rows], model.scales[rows].exp().sort(-1).values[:, 1:].T
    most, unknown, looks = means.new_zeros(2, len(rows)), torch.zeros_like(rows), 0
    for index in _spread(len(cameras)):
        camera = cameras[index : index + 1]
        framed = in_frame(means, _REACH * larger, camera)
        if looks == _MOST_LOOKS:
            unknown += framed
        elif bool(framed.any()):
            looks += 1
            every_pixel = means.new_ones(int(camera.height), int(camera.width), 1)
            light = model.contributions(camera, every_pixel)[rows, 0]
            light *= light >= _LEAST_WEIGHT * _pixels(means, large, larger, camera)
            most = torch.cat([most, light[None]]).topk(2, dim=0).values
    seen = ((most > 0) & (most >= _LEAST_SHARE * most[0])).sum(0) + unknown
    return which.index_fill(0, rows[seen >= min(2, len(cameras))], False)


def in_frame(
    points: Float[Tensor, "points 3"], reach: Float[Tensor, " points"], camera: Cameras
) -> Bool[Tensor, " points"]:
    """Return which balls lie, in part at least, in what a camera looks at.

    Args:
        points: Their centres, in the scene's coordinates.
        reach: Their radii.
        camera: One camera, of perspective.
    """
    x, y, z = _in_camera(points, camera)
    within = z < reach
    for across, focal, center, side in (
        (x, camera.fx, camera.cx, camera.width),
        (-y, camera.fy, camera.cy, camera.height),
    ):
        f, before = focal[0].to(points), center[0].to(points)
        for outward, pixels in ((across, side[0].to(points) - before), (-across, before)):
            within &= (f * outward + pixels * z) <= reach * torch.hypot(f, pixels)
    return within


def _pixels(
    points: Float[Tensor, "points 3"],
    large: Float[Tensor, " points"],
    larger: Float[Tensor, " points"],
    camera: Cameras,
) -> Float[Tensor, " points"]:
    """Return how many pixels Gaussians cover at most, whatever is before them.

    Args:
        points: Their centres, in the scene's coordinates.
        large: The second largest of their standard deviations.
        larger: The largest.
        camera: One camera, of perspective.
    """
    depth = (-_in_camera(points, camera)[2]).clamp_min(torch.finfo(points.dtype).eps)
    areas = [(camera.fx[0].to(points) * size / depth).square() + _BLUR for size in (large, larger)]
    return (2 * torch.pi * (areas[0] * areas[1]).sqrt()).clamp_max(float(camera.height * camera.width))


def _in_camera(points: Float[Tensor, "points 3"], camera: Cameras) -> tuple[Float[Tensor, " points"], ...]:
    """Return where points are for a camera: to its right, up, and against what it looks at."""
    pose = camera.camera_to_worlds[0].to(points)
    return ((points - pose[:, 3]) @ pose[:, :3]).unbind(-1)


def _spread(n: int) -> list[int]:
    """Return the numbers of all views, first those that are to be looked at: spread evenly."""
    first = [k * n // _MOST_LOOKS for k in range(_MOST_LOOKS)] if n > _MOST_LOOKS else list(range(n))
    return [*first, *sorted(set(range(n)) - set(first))]
