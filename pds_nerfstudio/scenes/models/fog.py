"""Faint fog in free space, from which the edit of a NeRF can grow new things: what strewn Gaussians are to splats.

A NeRF's density is the exponential of what its network says, so the gradient on the network vanishes together with the
density, and its proposal networks send no samples to where there is none: where a reconstruction has left nothing,
nothing ever begins. A short fit before the edit raises all densities to at least a small floor, and keeps what the
training cameras see.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.fields.base_field import Field
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.scenes.models.ball import looked_at_ball, random_in_ball

_BATCH = 1024  # points, and rays, a step
_LEARNING_RATE = 5e-3
_WARMUP = 0.2  # share of the steps over which it rises; then it falls to 0
_COLOR_WEIGHT = 30.0  # of a colour off by 1, against a density off by a factor of e
_LEAST_DENSITY = 1e-30  # keeps logarithms finite


def fog_density(opacity: float, radius: float) -> float:
    """Return the density in which a ray through the centre of a ball of this radius loses the share `opacity`.

    That is Beer and Lambert's law, 1 - exp(-2 · radius · density) = opacity.
    """
    return -math.log1p(-opacity) / (2 * radius)


def fill_with_fog(model: NerfactoModel, cameras: Cameras, opacity: float, steps: int) -> None:
    """Raise the densities in the ball that the cameras look at to those of a faint fog.

    The field's, and those of the networks that propose where to take samples.

    What is fitted are the logarithms of the densities, whose gradients don't vanish with them, at random points; and,
    beside them, the renders of random rays of the cameras to what they were.

    Args:
        model: In training mode. Its field and its proposal networks change.
        cameras: The training cameras.
        opacity: What the fog takes of the light of a ray through the whole ball, in 0..1.
        steps: How many.
    """
    networks = cast(list[Field], [model.field, *model.proposal_networks])
    with torch.no_grad():  # all that it is fitted to, before anything moves
        center, radius = looked_at_ball(cameras, surface_points(model, cameras))
        floor = math.log(fog_density(opacity, float(radius)))
        points = [random_in_ball(_BATCH, center, radius) for _ in range(steps)]
        targets = [[log_density(network, p).clamp_min(floor) for network in networks] for p in points]
        rays = [random_rays(_BATCH, cameras, model.device) for _ in range(steps)]
        colors = [_colors(model, bundle) for bundle in rays]
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=_LEARNING_RATE, eps=1e-15)
    for k in track(range(steps), "Letting faint fog into free space", console=CONSOLE):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * share_of_rate(k / steps, 1 / steps, _WARMUP)
        loss = _COLOR_WEIGHT * (_colors(model, rays[k]) - colors[k]).abs().mean()
        for network, target in zip(networks, targets[k], strict=True):
            loss = loss + (log_density(network, points[k]) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.zero_grad()


def share_of_rate(progress: float, step: float, warmup: float) -> float:
    """Return how much of its learning rate a short fit takes: it rises evenly, while it falls to 0.

    Args:
        progress: Share of the steps that are done.
        step: Share of the steps that one is.
        warmup: Share of the steps over which the rate rises.
    """
    return min(1.0, (progress + step) / warmup) * (1 - progress)


def surface_points(model: NerfactoModel, cameras: Cameras) -> Float[Tensor, "n 3"]:
    """Return where random rays of the cameras meet the scene."""
    rays = random_rays(_BATCH, cameras, model.device)
    return rays.origins + rays.directions * model(replace(rays))["depth"]


def random_rays(n: int, cameras: Cameras, device: torch.device) -> RayBundle:
    """Return rays through random places of the images of random cameras."""
    cameras = cameras.to(device)
    indices = torch.randint(len(cameras), (n, 1), device=device)
    size = torch.cat([cameras.height[indices[:, 0]], cameras.width[indices[:, 0]]], dim=-1)
    return cameras.generate_rays(camera_indices=indices, coords=torch.rand(n, 2, device=device) * size)


def _colors(model: NerfactoModel, rays: RayBundle) -> Float[Tensor, "n 3"]:
    return model(replace(rays))["rgb"]  # a copy: nerfacto corrects the poses of what it is given, each time anew


def log_density(network: Field, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Return logarithms of densities, which have gradients where those vanish."""
    return network.density_fn(points)[..., 0].float().clamp_min(_LEAST_DENSITY).log()
