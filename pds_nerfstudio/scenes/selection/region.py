"""Where in space a scene may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.scenes.selection.carving import cells_of


@dataclass(frozen=True)
class Region:
    """A box and, if there are any, balls and cells of space, as tensors on a device: what lies in all of these."""

    center: Float[Tensor, "3"]
    """In the scene's coordinates."""
    axes: Float[Tensor, "3 3"]
    """Its directions, one a column."""
    sides: Float[Tensor, "3"]
    """Along those; infinite if there is no box."""
    cells: Bool[Tensor, "cells cells cells"] | None = None
    """Of `carving`; None if all may change."""
    balls: Float[Tensor, "balls 4"] | None = None
    """Centres and radii, of which a point has to lie in one; None if it need not."""

    def contains(self, points: Float[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        """Return which points lie in it."""
        inside = (((points - self.center) @ self.axes).abs() < self.sides / 2).all(-1)
        if self.balls is not None:
            near = torch.zeros_like(inside)
            for ball in self.balls:  # one after the other: a NeRF asks for millions of points
                near |= (points - ball[:3]).square().sum(-1) < ball[3] ** 2
            inside &= near
        if self.cells is None:
            return inside
        x, y, z = cells_of(points).unbind(-1)
        return inside & self.cells[x, y, z]

    def covers(self, other: Region) -> bool:
        """Return whether all of another region lies in it, as far as can be told: it has the same parts, or more."""
        everywhere = bool(self.sides.isinf().all())
        same_box = all(torch.equal(getattr(self, name), getattr(other, name)) for name in ("center", "axes", "sides"))
        if not (everywhere or same_box):
            return False
        if self.balls is not None:
            if other.balls is None:
                return False
            ours = set(map(tuple, self.balls.tolist()))
            if not ours.issuperset(map(tuple, other.balls.tolist())):
                return False
        return self.cells is None or (other.cells is not None and torch.equal(self.cells, other.cells))

    def state_dict(self) -> dict[str, Tensor]:
        """Return it for a checkpoint."""
        return {name: part.cpu() for name, part in vars(self).items() if part is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], device: torch.device | str) -> Region:
        """Return the region of a checkpoint."""
        return cls(**{name: value.to(device) for name, value in state.items()})
