"""Views and backgrounds that keep an edit from relying on one framing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.checks import share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.svg.color import parse_color


@dataclass(frozen=True)
class Framing:
    """How the guidance sees a drawing in one step."""

    view: Affine
    """From the drawing's units to the canvas."""
    background: Float[Tensor, "3 h w"]
    """What lies below the drawing."""


@dataclass(frozen=True)
class Augmentation:
    """What is drawn at random in each step."""

    background: str
    """A CSS colour, or "random" for another plain colour each time."""
    crop: float
    """Smallest side of a random square crop, as a share of the canvas; 1 for no crops."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        if self.background != "random" and parse_color(self.background) is None:
            raise UserError(f"`background` is {self.background!r}: give a CSS colour, or 'random'.")
        share(self, "crop", of="the canvas", above=True)

    @property
    def varies(self) -> bool:
        """Tell whether two steps may differ."""
        return self.background == "random" or self.crop < 1

    def draw(self, view: Affine, canvas: int, generator: torch.Generator, like: Tensor) -> Framing:
        """Draw a framing at random.

        Args:
            view: Shows the whole drawing on the canvas.
            canvas: Its side in pixels.
            generator: Where chance comes from, on the CPU.
            like: Has the device and dtype of the background.
        """
        share, x, y, *color = torch.rand(6, generator=generator).tolist()
        if self.crop < 1:
            side = self.crop + (1 - self.crop) * share
            corner = affine.translation(-x * (1 - side) * canvas, -y * (1 - side) * canvas)
            view = affine.compose(affine.compose(affine.scaling(1 / side, 1 / side), corner), view)
        return Framing(view, self.plain(canvas, like, color))

    def plain(self, canvas: int, like: Tensor, random: Sequence[float] = (1.0, 1.0, 1.0)) -> Float[Tensor, "3 h w"]:
        """Return the background; if it is random, the given colour."""
        known = None if self.background == "random" else parse_color(self.background)
        color = random if known is None else known[:3]
        return like.new_tensor(color)[:, None, None].expand(3, canvas, canvas)
