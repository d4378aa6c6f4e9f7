"""A picture made elsewhere: where it lies on the canvas, and over what."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import resvg_py
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.vector.edit.given_draft import canvas_for, on_canvas
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Render

WIDE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="90" height="31">
  <rect width="90" height="31" fill="#204060"/><circle cx="30" cy="12" r="9" fill="#e0a020"/></svg>"""


def picture(pixels: Tensor) -> Picture:
    """A file's picture of colours in 0..1."""
    return Picture((pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(), "RGB")


def paper(canvas: int, color: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Tensor:
    return torch.tensor(color)[:, None, None].expand(3, canvas, canvas)


@pytest.mark.parametrize("times", [1, 2, 7])  # the odd ones lie half a pixel off
def test_a_picture_of_the_drawing_alone_lies_where_the_canvas_shows_the_drawing(times: int, render: Render) -> None:
    document = Document(WIDE)
    whole = render(document, 90 * times)  # a square with the drawing in the middle
    alone = picture(_cut(document, times))
    placed = on_canvas(alone, document.size, paper(60), Path("x.png"))
    assert (placed - render(document, 60)).abs().mean() < 0.01
    square = on_canvas(picture(whole), document.size, paper(60), Path("x.png"))
    assert (square - placed).abs().mean() < 0.01


def _cut(document: Document, times: int) -> Tensor:
    """Return a drawing as others render it: as many pixels as it has units, several times as fine."""
    data = bytes(resvg_py.svg_to_bytes(document.source.data.decode(), zoom=times))
    pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def test_what_is_transparent_shows_the_paper() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (255, 0, 0, 255)
    pixels[:2, :2, 3] = 51  # a fifth
    placed = on_canvas(Picture(pixels, "RGBA"), (9.0, 9.0), paper(4, (0.0, 0.0, 1.0)), Path("x.png"))
    for at, color in [((3, 3), [0, 0, 1]), ((0, 3), [1, 0, 0]), ((0, 0), [0.2, 0, 0.8])]:
        assert placed[:, at[0], at[1]].tolist() == pytest.approx(color, abs=2 / 255)


def test_other_proportions_are_refused() -> None:
    with pytest.raises(UserError, match=r"^x.png is 40×30 pixels and the drawing 90×31: give a picture of the same"):
        on_canvas(picture(torch.zeros(3, 30, 40)), (90.0, 31.0), paper(60), Path("x.png"))


def test_the_canvas_is_as_large_as_the_picture_within_reason() -> None:
    assert canvas_for(picture(torch.zeros(3, 30, 40))) == 40
    assert canvas_for(picture(torch.zeros(3, 30, 4000))) == 512
