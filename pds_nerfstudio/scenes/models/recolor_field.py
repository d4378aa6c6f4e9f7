"""A NeRF's colours, fitted to redrawn views before anything else of it is.

Where all of a scene is to look otherwise, as by another light, a fit of everything at once finds haze before each
camera sooner than other colours. So its field is fitted with its densities held: by their logarithms at random points,
of which many lie where rays end.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.comms import get_rank
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.scenes.distributed import average_gradients
from pds_nerfstudio.scenes.models.ball import looked_at_ball, random_in_ball
from pds_nerfstudio.scenes.models.fog import log_density, random_rays, share_of_rate, surface_points
from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.views import SourceViews

_STEPS = 200
_LEARNING_RATE = 1e-2
_WARMUP = 0.1
"""Share of the steps over which the rate rises; then it falls to 0."""
_RAYS = 2048
"""Of a step, on each of which two points lie."""
_NEAR = 0.05
"""Standard deviation of one of the two from where its ray ends, as a share of the way there."""
_IN_BALL = 1024
"""Points of a step in all of what the cameras look at."""
_HELD = 0.05
"""Weight of a density that is off by a factor of e, against a colour that is off by 1."""
_NOTHING = -7.0
"""Logarithm of a density that is as good as none."""


def recolor_field(model: EditNerfModel, views: SourceViews, redrawn: RedrawnViews) -> None:
    """Fit the field to redrawn views while its densities stay; the networks that propose samples stay as they are.

    Args:
        model: Of the scene, in the middle of an edit.
        views: The training views.
        redrawn: Those of them that were redrawn: on several GPUs, each has its own.
    """
    weights = [weight for weight in model.field.parameters() if weight.requires_grad]
    with torch.no_grad():  # all densities, before any moves
        points = _points(model, views.cameras)
        held = [log_density(model.field, some).clamp_min(_NOTHING) for some in points]
    optimizer = torch.optim.Adam(weights, lr=_LEARNING_RATE, eps=1e-15)
    for k in track(range(_STEPS), "Fitting colours first", console=CONSOLE, disable=get_rank() != 0):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * share_of_rate(k / _STEPS, 1 / _STEPS, _WARMUP)
        model.zero_grad()
        with torch.enable_grad():
            moved = log_density(model.field, points[k]).clamp_min(_NOTHING) - held[k]
            loss = model.fit_redrawn(views[0], redrawn, k)["photometric_loss"] + _HELD * moved.abs().mean()
            loss.backward()
        average_gradients(weights)
        optimizer.step()
    model.zero_grad()


def _points(model: EditNerfModel, cameras: Cameras) -> list[Float[Tensor, "points 3"]]:
    """Return points of each step: about where rays end, on the way there, and anywhere that cameras look at."""
    center, radius = looked_at_ball(cameras, surface_points(model, cameras))
    points = []
    for _ in range(_STEPS):
        rays = random_rays(_RAYS, cameras, model.device)
        depth = model(replace(rays))["depth"]
        shares = torch.cat([1 + _NEAR * torch.randn_like(depth), torch.rand_like(depth)])
        on_rays = rays.origins.repeat(2, 1) + (rays.directions * depth).repeat(2, 1) * shares
        points.append(torch.cat([on_rays, random_in_ball(_IN_BALL, center, radius)]))
    return points
