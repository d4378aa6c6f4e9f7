"""PNG files with 16 bits a channel, which Pillow can't write in colour."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from pds_nerfstudio.whole_files import write_bytes

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # grey, grey and alpha, RGB, RGBA


def write_png16(
    path: Path, pixels: UInt16[np.ndarray, "height width channels"], chunks: Mapping[bytes, bytes] | None = None
) -> None:
    """Write a picture (PNG specification, third edition: 16-bit samples are big-endian, rows have filter type 0).

    Args:
        path: Written over if it exists.
        pixels: Grey, grey and alpha, RGB or RGBA.
        chunks: Further chunks to stand before the pixels, for instance eXIf.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + 2 * width * channels), np.uint8)
    rows[:, 1:] = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    parts = {b"IHDR": header, **(chunks or {}), b"IDAT": zlib.compress(rows.tobytes(), 6), b"IEND": b""}
    chunks_of_file = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    )
    write_bytes(path, b"\x89PNG\r\n\x1a\n" + b"".join(chunks_of_file))
