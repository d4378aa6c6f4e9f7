"""Paths that follow others: what is given in units of a bounding box moves with the box."""

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.scene import Scene


def _apply(matrix: Affine, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    a, b, c, d, e, f = matrix
    return points @ points.new_tensor([[a, b], [c, d]]) + points.new_tensor([e, f])


class Followers:
    """Puts the paths of a scene that follow others into their places.

    Args:
        scene: Has them.
    """

    def __init__(self, scene: Scene) -> None:
        topology = scene.topology
        path = torch.tensor(topology.path, dtype=torch.long)[topology.contour]
        self._fitted = scene.fitted
        self._segments = {p: topology.segments[path == p] for f in scene.fitted for p, _ in f.members}

    def __call__(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return all points with those that follow in their places, differentiable in those that they follow."""
        for fitted in self._fitted:
            controls = [_apply(m, points[self._segments[p].to(points.device)]) for p, m in fitted.members]
            ctrl = torch.cat(controls)
            owner = torch.zeros(len(ctrl), dtype=torch.long, device=points.device)
            low, high = bounding_boxes(ctrl, owner, 1)[0].split(2)
            own = points[fitted.source : fitted.source + fitted.count]
            placed = low + _apply(fitted.transform, own) * (high - low)
            points = torch.cat([points[: fitted.first], placed, points[fitted.first + fitted.count :]])
        return points
