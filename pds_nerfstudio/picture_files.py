"""Opening picture files, of which a small one may hold more pixels than there is memory for."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

from pds_nerfstudio.errors import UserError

MOST_PIXELS = 100_000_000
"""An edit takes some 50 bytes for each pixel."""


def open_picture(path: Path) -> Image.Image:
    """Open a picture file, of which no pixel is read yet.

    Raises:
        UserError: If it has too many pixels. All that Pillow raises of damaged files is raised, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # there is a bound of our own
        image = Image.open(path)
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise UserError(
            f"{path}: it has {image.width} × {image.height} pixels, more than the {MOST_PIXELS:,} that can be edited; "
            "make it smaller first."
        )
    return image
