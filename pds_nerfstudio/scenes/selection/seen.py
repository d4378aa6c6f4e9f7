"""What of a scene is seen along a ray: where half of the light has been gathered; and balls around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor
from viser.transforms import SO3

from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.models.splat import EditSplatModel

_HALF = 0.5
"""Share of the light that a scene has to add to a ray for anything to be seen there."""
_FOCAL = 1000.0
"""Pixels to a distance of one: a ray is as wide as a pixel of a large picture."""


def balls_seen(model: SceneModel, rays: Sequence[Sequence[float]], brush: float) -> list[float]:
    """Return balls around what is seen along rays; none of rays that meet nothing.

    Args:
        model: Of the scene, set to render.
        rays: Of each, its origin and its direction, in the scene's coordinates.
        brush: Radius of a ball at a distance of one. What is farther away gets a larger one.

    Returns:
        Of each ball x, y, z and its radius.
    """
    balls: list[float] = []
    for ray in torch.tensor(rays, dtype=torch.float32, device=model.device).view(-1, 6):
        origin, direction = ray[:3], torch.nn.functional.normalize(ray[3:], dim=0)
        distance = distance_seen(model, origin, direction)
        if distance is not None:
            balls += [*(origin + distance * direction).tolist(), brush * distance]
    return balls


@torch.no_grad()
def distance_seen(model: SceneModel, origin: Float[Tensor, "3"], direction: Float[Tensor, "3"]) -> float | None:
    """Return the distance along a ray at which half of the light has been gathered; None if not so much is gathered.

    Args:
        model: Of the scene, set to render.
        origin: Of the ray, in the scene's coordinates.
        direction: Of unit length.
    """
    camera = _camera_along(origin, direction)
    if isinstance(model, EditSplatModel):
        return _distance_of_gaussians(model, camera, origin, direction)
    outputs = model.get_outputs_for_camera(camera)
    return outputs["depth"].item() if outputs["accumulation"].item() >= _HALF else None


def _distance_of_gaussians(
    model: EditSplatModel, camera: Cameras, origin: Float[Tensor, "3"], direction: Float[Tensor, "3"]
) -> float | None:
    """Return where the ray is deepest in the Gaussian that brings the light to a half.

    Gaussians come in the order of their centres, as they do for the rasteriser. Not so the place: a floor's Gaussian is
    met far from its centre. Along a ray o + t d it is densest at t = dᵀ Σ⁻¹ (μ - o) / dᵀ Σ⁻¹ d.
    """
    light = model.contributions(camera, torch.ones(1, 1, 1, device=model.device))[:, 0]
    depths = (model.means - origin) @ direction
    order = depths.argsort()
    gathered = light[order].cumsum(0)
    if not bool(gathered[-1] >= _HALF):
        return None
    one = int(order[int((gathered < _HALF).sum())])
    axes = torch.from_numpy(SO3(model.quats[one].double().cpu().numpy()).as_matrix())
    whitened = axes.T / model.scales[one].exp().double().cpu()[:, None]
    along, center = (whitened @ v.double().cpu() for v in (direction, model.means[one] - origin))
    densest = float(along @ center / (along @ along))
    return densest if densest > 0 else float(depths[one])


def _camera_along(origin: Float[Tensor, "3"], direction: Float[Tensor, "3"]) -> Cameras:
    """Return a camera whose only pixel looks along a ray."""
    aside = torch.zeros_like(direction)
    aside[direction.abs().argmin()] = 1
    right = torch.nn.functional.normalize(torch.linalg.cross(direction, aside), dim=0)
    pose = torch.stack([right, torch.linalg.cross(right, direction), -direction, origin], dim=1)
    return Cameras(pose[None], _FOCAL, _FOCAL, 0.5, 0.5, 1, 1)
