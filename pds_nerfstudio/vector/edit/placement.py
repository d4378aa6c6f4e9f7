"""Moves of whole paths, and of ends with their handles, where moves of single points would crumple them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.vector.raster.scene import Topology


class Placement:
    """How the points of each path follow when the path is shifted, turned, stretched or slanted as a whole.

    A path's move is a 2 × 3 matrix: its last column shifts the path, its others act on the points' places relative
    to the middle of the path, where the farthest is at distance 1. So each number says how far, in the units of
    the result, something moves.
    """

    def __init__(self, points: Float[Tensor, "n 2"], topology: Topology, movable: Bool[Tensor, " n"]) -> None:
        """Remember where points are in their paths.

        Args:
            points: Of the drawing as it was.
            topology: Says which points form which path.
            movable: The points that may move; the others stay behind.
        """
        count = max(topology.path, default=-1) + 1
        of_segment = torch.tensor(topology.path, dtype=torch.long)[topology.contour]
        path = torch.zeros(len(points), dtype=torch.long)
        path[topology.segments.flatten()] = of_segment.repeat_interleave(4)
        self._path = path.to(points.device)

        def per_path(values: Tensor, reduction: str) -> Tensor:
            start = values.new_zeros(count, *values.shape[1:])
            index = self._path.reshape(-1, *(1,) * (values.ndim - 1)).expand_as(values)
            return start.scatter_reduce(0, index, values, reduction, include_self=False)

        from_middle = points - ((per_path(points, "amin") + per_path(points, "amax")) / 2)[self._path]
        radius = per_path(from_middle.norm(dim=1), "amax").clamp(min=1e-9)
        place = torch.cat([from_middle / radius[self._path, None], torch.ones_like(points[:, :1])], 1)
        self._place = place * movable.to(points.device)[:, None]
        self.start: Float[Tensor, "paths 2 3"] = points.new_zeros(count, 2, 3)
        """The moves that change nothing."""

    def __call__(self, moves: Float[Tensor, "paths 2 3"]) -> Float[Tensor, "n 2"]:
        """Return how far each point goes."""
        return (moves[self._path] @ self._place[..., None])[..., 0]


class Handles:
    """How the handles of curves follow the ends that they belong to, and move about them besides."""

    def __init__(self, points: Float[Tensor, "n 2"], topology: Topology) -> None:
        """Remember which point is whose handle.

        Args:
            points: Of the drawing as it was.
            topology: Says which points are control points of which cubic.
        """
        rows = torch.arange(len(points))
        end = rows.clone()
        end[topology.segments[:, 1]] = topology.segments[:, 0]
        end[topology.segments[:, 2]] = topology.segments[:, 3]
        self._end = end.to(points.device)
        self._own = (end != rows).to(points)[:, None]

    def __call__(self, step: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return how far each point goes, if ends go so far, and handles so far about their ends."""
        return step[self._end] + self._own * step
