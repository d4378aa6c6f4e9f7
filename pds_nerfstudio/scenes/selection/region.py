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
    """A box and, with masks, some cells of space, as tensors on a device: what lies in both."""

    center: Float[Tensor, "3"]
    """In the scene's coordinates."""
    axes: Float[Tensor, "3 3"]
    """Its directions, one a column."""
    sides: Float[Tensor, "3"]
    """Along those; infinite if there is no box."""
    cells: Bool[Tensor, "cells cells cells"] | None = None
    """Of `carving`; None if all may change."""

    def contains(self, points: Float[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        """Return which points lie in it."""
        inside = (((points - self.center) @ self.axes).abs() < self.sides / 2).all(-1)
        if self.cells is None:
            return inside
        x, y, z = cells_of(points).unbind(-1)
        return inside & self.cells[x, y, z]

    def state_dict(self) -> dict[str, Tensor]:
        """Return it for a checkpoint."""
        parts = {"center": self.center, "axes": self.axes, "sides": self.sides, "cells": self.cells}
        return {name: part.cpu() for name, part in parts.items() if part is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], device: torch.device | str) -> Region:
        """Return the region of a checkpoint."""
        return cls(**{name: value.to(device) for name, value in state.items()})
