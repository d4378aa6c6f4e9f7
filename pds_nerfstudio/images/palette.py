"""Put an edited picture back on a palette without touching the colours of what was not edited."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

_ENTRIES = 256


def to_palette(
    pixels: UInt8[np.ndarray, "height width 4"], changed: Bool[np.ndarray, "height width"]
) -> tuple[UInt8[np.ndarray, "height width"], UInt8[np.ndarray, "entries 4"]]:
    """Return indices and an RGBA palette of at most 256 entries.

    The colours of the pixels that did not change come back exactly; the changed ones share the entries that are left
    (or, if none are, take the nearest of the others).

    Args:
        pixels: RGBA. The ones that did not change must have at most 256 colours, as if they came from a palette.
        changed: Which pixels may be rounded.
    """
    kept = _colors(pixels[~changed])
    edited = pixels[changed]
    wanted, room = _colors(edited), _ENTRIES - len(kept)
    if len(wanted) > room:
        wanted = _fewer(edited, room) if room > 1 else wanted[:0]
    palette = _colors(np.concatenate([kept, wanted])) if len(kept) + len(wanted) else np.zeros((1, 4), np.uint8)
    distinct, where = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    nearest = np.empty(len(distinct), np.uint8)
    for first in range(0, len(distinct), 4096):  # bounds the table of distances
        part = distinct[first : first + 4096].astype(np.int32)
        distance = np.square(part[:, None] - palette.astype(np.int32)).sum(-1)
        nearest[first : first + 4096] = distance.argmin(1)
    return nearest[where.reshape(-1)].reshape(changed.shape), palette


def _colors(pixels: UInt8[np.ndarray, "pixels 4"]) -> UInt8[np.ndarray, "colors 4"]:
    return np.unique(pixels, axis=0) if len(pixels) else np.zeros((0, 4), np.uint8)


def _fewer(pixels: UInt8[np.ndarray, "pixels 4"], most: int) -> UInt8[np.ndarray, "colors 4"]:
    """Return at most `most` colours that stand for many."""
    image = Image.fromarray(np.ascontiguousarray(pixels[None]), "RGBA")
    few = image.quantize(most, Image.Quantize.FASTOCTREE).convert("RGBA")
    return _colors(np.asarray(few).reshape(-1, 4))
