"""Pictures side by side in one, under their titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.page import OfAnySize

_SIDE = 256
_TITLE_HEIGHT = 22
_LONGEST_TITLE = 400


def contact_sheet(rows: Mapping[str, Sequence[OfAnySize]], side: int = _SIDE) -> Image.Image:
    """Return rows of pictures under their titles; pictures keep their aspect ratio in cells of one size.

    A title is one line, cut at the edge of the sheet.
    """
    titles, pictures = list(rows), list(rows.values())
    columns = max(len(row) for row in pictures)
    sheet = Image.new("RGB", (columns * side, len(titles) * (side + _TITLE_HEIGHT)), "white")
    draw = ImageDraw.Draw(sheet)
    # Pillow's own font has no letter beyond ASCII. Matplotlib, which nerfstudio needs, brings one that has most.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 12)
    for r, (title, row) in enumerate(zip(titles, pictures, strict=True)):
        top = r * (side + _TITLE_HEIGHT)
        draw.text((6, top + 4), _cut(title, font, sheet.width - 12), fill="black", font=font)
        for c, picture in enumerate(row):
            image = Image.fromarray(picture)
            scale = side / max(image.size)
            image = image.resize(
                (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
            )
            offset = c * side + (side - image.width) // 2, top + _TITLE_HEIGHT + (side - image.height) // 2
            sheet.paste(image, offset)
    return sheet


def _cut(title: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return the title on one line, with as much of it as fits into `width` pixels."""
    line = one_line(title, _LONGEST_TITLE)
    cuts = (one_line(line, n) for n in range(len(line), 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "")
