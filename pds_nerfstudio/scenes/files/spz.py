"""Niantic's .spz, a small file for viewers on the web. Versions 1 to 3 are read, 3 is written.

Written from the description at https://github.com/nianticlabs/spz#file-format (MIT). A gzip stream of a header and, for
all Gaussians one after the other: positions in 24 bits with a fixed point, opacities, colours and log-scales in bytes,
rotations without their largest component, and harmonics in bytes of which 5 (degree 1) or 4 bits are used. Coordinates
stay as they are: the format names axes (right, up, back), but its own converters and all others turn nothing.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.quantities import logit_of_byte, morton_order, pick_largest, restore_largest
from pds_nerfstudio.scenes.files.splats import Splats

_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
_WRITTEN_VERSION = 3
_MOST_FRACTIONAL_BITS = 12
"""As the format's own library writes: a 4096th of a unit."""
_POSITION_BITS = 23
"""Beside the sign."""
_COLOR = 0.15
"""Colours of ±(½ / this) in coefficients of degree 0 fill a byte."""
_ROTATION_STEPS = 511
_GZIP_LEVEL = 6
"""gzip's own default; Python's, 9, takes more than twice as long for a hundredth of the size."""
_COEFFICIENTS = (0, 3, 8, 15, 24)
"""Of each degree, beside that of degree 0."""


def read_spz(path: Path) -> Splats:
    """Read a splat.

    Raises:
        UserError: If it is no .spz file, or of a version that is not read.
    """
    packed = path.read_bytes()
    if packed[:4] == _MAGIC.to_bytes(4, "little"):
        raise UserError(f"{path} is a .spz of version 4, which is not read: save it as a .ply, or as version 3.")
    try:
        data = gzip.decompress(packed)
        magic, version, n, degree, bits, _, _ = _HEADER.unpack_from(data)
    except (OSError, EOFError, zlib.error, struct.error):
        raise UserError(f"{path} is no whole .spz file: was it cut short?") from None
    if magic != _MAGIC or not 1 <= version <= 3 or degree >= len(_COEFFICIENTS):
        raise UserError(f"{path} is no .spz file of version 1, 2 or 3: save it as a .ply.")
    widths = [6 if version == 1 else 9, 1, 3, 3, 4 if version == 3 else 3, _COEFFICIENTS[degree] * 3]
    if len(data) < _HEADER.size + n * sum(widths):
        raise UserError(f"{path} is no whole .spz file: was it cut short?")
    parts, start = [], _HEADER.size
    for width in widths:
        parts.append(torch.from_numpy(np.frombuffer(data, np.uint8, n * width, start).reshape(n, width).copy()))
        start += n * width
    positions, opacities, colors, scales, rotations, harmonics = parts
    return Splats(
        means=_halves(positions) if version == 1 else _fixed_points(positions, bits),
        scales=scales.float() / 16 - 10,
        quats=_three_smallest(rotations) if version == 3 else _first_three(rotations),
        opacities=logit_of_byte(opacities[:, 0]),
        base=(colors.float() / 255 - 0.5) / _COLOR,
        rest=((harmonics.float() - 128) / 128).view(n, -1, 3),
    )


def _halves(data: Tensor) -> Float[Tensor, "n 3"]:
    return torch.from_numpy(data.numpy().view("<f2").astype(np.float32))


def _fixed_points(data: Tensor, bits: int) -> Float[Tensor, "n 3"]:
    low, middle, high = data.view(len(data), 3, 3).to(torch.int32).unbind(-1)
    whole = low | middle << 8 | high << 16
    return torch.where(whole >> _POSITION_BITS > 0, whole - (1 << 24), whole).float() / (1 << bits)


def _first_three(data: Tensor) -> Float[Tensor, "n 4"]:
    """Return the rotations of version 2: x, y and z in a byte each, w is positive."""
    xyz = data.float() / 127.5 - 1
    return torch.cat([(1 - xyz.square().sum(-1, keepdim=True)).clamp(min=0).sqrt(), xyz], -1)


def _three_smallest(data: Tensor) -> Float[Tensor, "n 4"]:
    """Return the rotations of version 3: which of x, y, z, w is the largest, and signs and sizes of the others."""
    whole = torch.from_numpy(data.numpy().view("<u4").astype(np.int64))[:, 0]
    parts = torch.stack([whole >> shift & 1023 for shift in (20, 10, 0)], -1)
    sizes = (parts & _ROTATION_STEPS).float() / _ROTATION_STEPS * 0.5**0.5
    quats = restore_largest(whole >> 30, torch.where(parts >> 9 > 0, -sizes, sizes))
    return quats.roll(1, -1)  # w first


def write_spz(path: Path, splats: Splats) -> Path:
    """Write a splat as version 3.

    Positions get as many bits behind the point as the farthest Gaussian leaves, 12 at most.

    Args:
        path: Of the file.
        splats: With finite numbers only.

    Raises:
        UserError: If the scene is too large for the format.
    """
    splats = splats[morton_order(splats.means)]
    n, count = splats.rest.shape[:2]
    reach = max(float(splats.means.abs().max()), 1e-6)
    bits = min(_MOST_FRACTIONAL_BITS, _POSITION_BITS - math.ceil(math.log2(reach * (1 + 1e-6))))
    if bits < 0:
        raise UserError(f"{path}: Gaussians {reach:.3g} units away don't fit into a .spz; write a .ply.")
    header = _HEADER.pack(_MAGIC, _WRITTEN_VERSION, n, _COEFFICIENTS.index(count), bits, 0, 0)
    positions = (splats.means.double() * (1 << bits)).round().int().clamp(max=(1 << _POSITION_BITS) - 1)
    largest, others = pick_largest(splats.quats.roll(-1, -1))  # w last
    sizes = (others.abs() / 0.5**0.5 * _ROTATION_STEPS + 0.5).long().clamp(max=_ROTATION_STEPS)
    packed = largest
    for part in (sizes | (others < 0).long() << 9).unbind(-1):
        packed = packed << 10 | part
    body = [
        torch.stack([positions >> shift & 255 for shift in (0, 8, 16)], -1),
        splats.opacities.sigmoid() * 255,
        splats.base * (_COLOR * 255) + 127.5,
        (splats.scales + 10) * 16,
        torch.stack([packed >> shift & 255 for shift in (0, 8, 16, 24)], -1),
        _in_steps(splats.rest),
    ]
    data = header + b"".join(part.round().clamp(0, 255).to(torch.uint8).numpy().tobytes() for part in body)
    path.write_bytes(gzip.compress(data, _GZIP_LEVEL, mtime=0))
    return path


def _in_steps(rest: Float[Tensor, "n K 3"]) -> Float[Tensor, "n K 3"]:
    """Return harmonics from −1 to 1 in bytes, in steps of 8 for degree 1 and of 16 above; 0 stays 0."""
    steps = torch.full((rest.shape[1], 1), 16.0)
    steps[:3] = 8.0
    whole = (rest * 128).round() + 128
    return ((whole + steps / 2) / steps).floor() * steps
