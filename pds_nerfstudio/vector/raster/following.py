"""Paths that follow others: what is given in units of a bounding box moves with the box."""

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.raster.bezier import bounding_boxes
from pds_nerfstudio.vector.raster.scene import Members, Scene


class Followers:
    """Puts the paths of a scene that follow others into their places.

    Args:
        scene: Has them.
    """

    def __init__(self, scene: Scene) -> None:
        topology = scene.topology
        path = torch.tensor(topology.path, dtype=torch.long)[topology.contour]
        self._fitted = scene.fitted
        self._boxed: dict[Members, tuple[Tensor, Tensor]] = {}
        """For each set of paths in a box, the rows of their control points, and the map of each segment."""
        for members in {fitted.members for fitted in scene.fitted}:
            segments = [topology.segments[path == number] for number, _ in members]
            maps = [
                torch.tensor(matrix, dtype=torch.float64).expand(len(own), 6)
                for own, (_, matrix) in zip(segments, members, strict=True)
            ]
            self._boxed[members] = torch.cat(segments), torch.cat(maps)

    def __call__(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return all points with those that follow in their places, differentiable in those that they follow."""
        boxes: dict[Members, tuple[Tensor, Tensor]] = {}
        for fitted in self._fitted:
            if fitted.members not in boxes:
                boxes[fitted.members] = self._box(points, fitted.members)
            low, size = boxes[fitted.members]
            a, b, c, d, e, f = fitted.transform
            own = points[fitted.source : fitted.source + fitted.count]
            in_box = own @ points.new_tensor([[a, b], [c, d]]) + points.new_tensor([e, f])
            after = points[fitted.first + fitted.count :]
            points = torch.cat([points[: fitted.first], low + in_box * size, after])
        return points

    def _box(self, points: Float[Tensor, "n 2"], members: Members) -> tuple[Float[Tensor, " 2"], Float[Tensor, " 2"]]:
        """Return corner and size of the box around some paths."""
        segments, maps = (t.to(points.device) for t in self._boxed[members])
        matrices = maps.to(points).view(-1, 3, 2)
        ctrl = points[segments] @ matrices[:, :2] + matrices[:, 2:]
        owner = torch.zeros(len(ctrl), dtype=torch.long, device=points.device)
        low, high = bounding_boxes(ctrl, owner, 1)[0].split(2)
        return low, high - low
