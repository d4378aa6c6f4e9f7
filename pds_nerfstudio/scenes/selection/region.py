"""Where in space a scene may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """A box, as tensors on a device."""

    center: Float[Tensor, "3"]
    """In the scene's coordinates."""
    axes: Float[Tensor, "3 3"]
    """Its directions, one a column."""
    sides: Float[Tensor, "3"]
    """Along those; infinite if there is no box."""

    def contains(self, points: Float[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        """Return which points lie in it."""
        return (((points - self.center) @ self.axes).abs() < self.sides / 2).all(-1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return it for a checkpoint."""
        return {"center": self.center.cpu(), "axes": self.axes.cpu(), "sides": self.sides.cpu()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], device: torch.device | str) -> Region:
        """Return the region of a checkpoint."""
        return cls(**{name: value.to(device) for name, value in state.items()})
