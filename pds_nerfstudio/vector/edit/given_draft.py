"""A draft that was made elsewhere: a picture of the drawing, edited by hand or by another tool."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pds_nerfstudio.editing import Goal
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.vector.edit.editable import FramedDrawing, Framings

LARGEST_CANVAS = 512
"""Pixels on a side, at most, on which a drawing is fit to a picture unless the user asks for more."""
_SAME_FORM = 0.02
"""How far the proportions of a picture may be from those of the drawing: rounding to whole pixels changes them."""


class GivenDraft:
    """A picture that a drawing is to be fit to, where no guidance has made one.

    Args:
        drawing: Shows it.
        picture: The picture on the drawing's canvas.
    """

    def __init__(self, drawing: FramedDrawing, picture: Float[Tensor, "3 canvas canvas"]) -> None:
        self._goal = Goal(drawing.whole(), picture[None])

    def goal(self) -> Goal[Framings]:
        """Return the picture, for the drawing to be fit to."""
        return self._goal


def canvas_for(draft: Picture) -> int:
    """Return the side of a canvas that shows what a draft shows."""
    return min(max(draft.size), LARGEST_CANVAS)


def on_canvas(
    draft: Picture, size: tuple[float, float], background: Float[Tensor, "3 canvas canvas"], name: Path | None
) -> Float[Tensor, "3 canvas canvas"]:
    """Return a draft where its drawing is on a canvas, over the background.

    Args:
        draft: A picture of the drawing alone, in its proportions; or of a square canvas with the drawing in the middle,
            such as `before.png`.
        size: Width and height of the drawing, in any unit.
        background: What lies below, of one colour.
        name: What to call the picture in messages.

    Raises:
        UserError: If the picture has other proportions.
    """
    (height, width), canvas = draft.size, background.shape[-1]
    square = height == width
    if not square and abs(width / height / (size[0] / size[1]) - 1) > _SAME_FORM:
        raise UserError(
            f"{name} is {width}×{height} pixels and the drawing {size[0]:g}×{size[1]:g}: "
            "give a picture of the same proportions, or a square one with the drawing in the middle."
        )
    color = background[:, :1, :1].cpu()
    shown = draft.rgb()[0] - (1 - draft.opacity()[0]) * (1 - color)  # on this background in place of white paper
    side = max(height, width)
    above, left = (side - height) // 2 + 1, (side - width) // 2 + 1
    padded = color.expand(3, height + 2 * above, width + 2 * left).clone()
    padded[:, above : above + height, left : left + width] = shown
    pixels = Image.fromarray((padded.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    x, y = left - (side - width) / 2, above - (side - height) / 2
    method = Image.Resampling.BOX if side >= canvas else Image.Resampling.BICUBIC
    placed = pixels.resize((canvas, canvas), method, box=(x, y, x + side, y + side))
    return torch.from_numpy(np.array(placed)).permute(2, 0, 1).to(background) / 255
