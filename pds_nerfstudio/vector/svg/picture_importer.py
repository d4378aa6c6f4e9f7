"""Text, embedded pictures, and what has filters that are not drawn here: drawn by resvg where it stands."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import resvg_py
import torch
from jaxtyping import Float
from PIL import Image

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.scene import Picture
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.alone import Pruned, alone
from pds_nerfstudio.vector.svg.context import Box, Context
from pds_nerfstudio.vector.svg.fonts import font_options
from pds_nerfstudio.vector.svg.import_record import FileIndex
from pds_nerfstudio.vector.svg.regions import corners
from pds_nerfstudio.vector.svg.xml_source import Element

SIDE = 2048
"""Pixels along the larger side of the whole drawing, of which pictures have as many as they need."""
MOST = 1024
"""Most pixels along a side of a picture."""
ROUGH = 256
"""Pixels along the larger side of the drawing where it is to be found out what shows."""
MAX_PICTURES = 200
"""Bound on pictures in a file."""
_MULTIPLE = 8
"""Sides are so many pixels or a multiple of that, so that pixels can be averaged."""


@dataclass
class PictureImporter:
    """The pictures of one file."""

    source: Pruned
    """The file."""
    file: FileIndex
    """Gets what cannot be drawn."""
    builder: SceneBuilder
    """Gets the boxes around them."""
    _known: dict[tuple, Picture | None] = field(default_factory=dict)

    def read(self, elements: Sequence[Element], context: Context) -> Picture | None:
        """Return elements that stand next to each other as they look, with all of their own properties.

        Args:
            elements: The elements.
            context: What holds where they stand.

        Returns:
            None where nothing shows.
        """
        names = sorted({element.tag for element in elements})
        key = (*elements, context.transform, *sorted(context.style.items()))
        if key not in self._known:
            if len(self._known) >= MAX_PICTURES:
                self.file.undrawn.update(names)
                return None
            try:
                self._known[key] = self._drawn(elements, context)
            except ValueError:  # resvg cannot read what is read here
                self.file.undrawn.update(names)
                return None
        self.file.held.update(names)
        return self._known[key]

    def _drawn(self, elements: Sequence[Element], context: Context) -> Picture | None:
        whole = context.extent
        fineness = SIDE / max(whole[2:])
        # a small picture says where something shows
        rough = _Window(whole, ROUGH / max(whole[2:]))
        seen = np.argwhere(rough.draw(self.source, elements, context)[3] > 0)
        if not len(seen):
            return None
        low, high = ((seen.min(0) - 1) / rough.fineness).tolist(), ((seen.max(0) + 2) / rough.fineness).tolist()
        left, top = (max(value, 0.0) for value in low[::-1])
        right, bottom = (min(value, side) for value, side in zip(high[::-1], whole[2:], strict=True))
        fineness = min(fineness, MOST / max(right - left, bottom - top))
        window = _Window((whole[0] + left, whole[1] + top, right - left, bottom - top), fineness)
        pixels, box = torch.from_numpy(window.draw(self.source, elements, context)), window.filled
        return Picture(pixels, box, self.builder.add_polygon(corners(box)))


@dataclass(frozen=True)
class _Window:
    """A part of a drawing."""

    box: Box
    """x, y, width and height in its units."""
    fineness: float
    """Pixels of one unit."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        across, down = (math.ceil(side * self.fineness / _MULTIPLE) for side in self.box[2:])
        return max(across, 1) * _MULTIPLE, max(down, 1) * _MULTIPLE

    @property
    def filled(self) -> Box:
        """The box of all pixels, which may be a little larger than the part."""
        width, height = self.size
        return self.box[0], self.box[1], width / self.fineness, height / self.fineness

    def draw(self, source: Pruned, elements: Sequence[Element], context: Context) -> Float[np.ndarray, "4 h w"]:
        """Return some elements of a file as resvg draws them, premultiplied."""
        (x, y, _, _), scale = self.box, self.fineness
        to_pixels = affine.compose(affine.scaling(scale, scale), affine.translation(-x, -y))
        svg = alone(source, elements, context, to_pixels, self.size)
        rgba = np.asarray(Image.open(io.BytesIO(_png(svg))).convert("RGBA"), np.float32).transpose(2, 0, 1) / 255
        return np.concatenate([rgba[:3] * rgba[3:], rgba[3:]])


@lru_cache(maxsize=128)
def _png(svg: str) -> bytes:
    """Return a file as resvg draws it. A drawing is read again and again with new paths in it: its text stays."""
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, dpi=96, **font_options()))
