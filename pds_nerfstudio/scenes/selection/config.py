"""How a user says what of a scene may change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from viser.transforms import SO3

from pds_nerfstudio.checks import share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.selection.region import Region


@dataclass(frozen=True)
class SelectionConfig:
    """What of a scene may change. A box, balls, masks and words together leave what is in all of them."""

    obb_center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre of a box outside which nothing changes, in the scene's coordinates. Boxes are said as to ns-export: the
    crop panel of the viewer shows centre, rotation and scale."""
    obb_rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Roll, pitch and yaw of that box, in radians."""
    obb_scale: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Its sides. Zeros are no box."""
    balls: tuple[float, ...] = ()
    """Balls outside all of which nothing changes: of each x, y, z and its radius, in the scene's coordinates. They are
    what is picked in the viewer."""
    masks: Path | None = None
    """Folder of masks, pictures named as the views' images are: what is white there may change. A few views from all
    around are enough; views without a mask say nothing."""
    words: str = ""
    """What may change, in words, such as "the man's hat": looked for in up to 48 views by --pipeline.only.segmenter."""
    segmenter: str = "CIDAS/clipseg-rd64-refined"
    """Finds words in pictures: folder or hub id of a CLIPSeg model."""
    threshold: float = 0.5
    """With masks or words: share of what a Gaussian adds to the pictures that has to lie inside for it to change. Of
    a NeRF, share of the rays through a small place that has to, in each view that has a mask and sees it; 1 changes
    nothing that a mask shows outside."""

    @property
    def selects(self) -> bool:
        """Whether anything is held at all."""
        return self.masks is not None or bool(self.words) or any(self.obb_scale) or bool(self.balls)

    @property
    def plain(self) -> dict[str, Any]:
        """All of it as values that JSON and checkpoints hold."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**values, "masks": None if self.masks is None else str(self.masks)}

    def changed(self, changes: Mapping[str, Any]) -> SelectionConfig:
        """Return it with some other values.

        Args:
            changes: As of `plain`.

        Raises:
            UserError: If there is nothing of that name, or a value is of another kind.
        """
        try:
            values: dict[str, Any] = dict(changes)
            for name, value in changes.items():
                if name == "masks":
                    values[name] = None if value is None else Path(value)
                elif isinstance(value, list | tuple):
                    values[name] = tuple(map(float, value))
            changed = replace(self, **values)
            changed.check()
        except UserError as error:
            error.within("only")
            raise
        except (TypeError, ValueError) as error:
            raise UserError(f"{dict(changes)} says not what may change: give values of --pipeline.only.") from error
        return changed

    def region(self, device: torch.device | str) -> Region:
        """Return the box and the balls on a device; all of space if there are none."""
        axes = torch.from_numpy(SO3.from_rpy_radians(*self.obb_rotation).as_matrix()).float()
        sides = torch.tensor(self.obb_scale) if any(self.obb_scale) else torch.full((3,), torch.inf)
        balls = torch.tensor(self.balls).view(-1, 4).to(device) if self.balls else None
        return Region(torch.tensor(self.obb_center).to(device), axes.to(device), sides.to(device), balls=balls)

    def check(self) -> None:
        """Refuse what selects nothing.

        Raises:
            UserError: Naming the option.
        """
        share(self, "threshold", above=True, of="a Gaussian's light")
        for name in ("obb_center", "obb_rotation", "obb_scale"):
            if not all(map(math.isfinite, getattr(self, name))):
                raise UserError(f"`{name}` is {getattr(self, name)}: give three finite numbers.")
        if any(self.obb_scale) and min(self.obb_scale) <= 0:
            raise UserError(f"`obb_scale` is {self.obb_scale}: give three sides, each above 0.")
        if len(self.balls) % 4 or not all(map(math.isfinite, self.balls)) or min(self.balls[3::4], default=1) <= 0:
            raise UserError("`balls`: give x, y, z and a radius above 0 of each ball.")
        if self.masks is not None and not self.masks.is_dir():
            raise UserError(
                f"--pipeline.only.masks {self.masks} is no folder: give one with masks named as the images."
            )


EVERYTHING = SelectionConfig()
"""Nothing is held. A default that is a class's own holds for a config.yml of before there was the option."""
