"""SuperSplat's compressed .ply: Gaussians in chunks of 256, each number in a few bits between the chunk's bounds.

The format is that of https://github.com/playcanvas/splat-transform (MIT), whose code is not used here. An element
`chunk` holds the least and the largest position, log-scale and colour of 256 Gaussians; `vertex` four unsigned integers
for each Gaussian: position and scale in 11, 10 and 11 bits, rotation as the largest component's number in 2 bits and
the others in 10 each, and colour and opacity in 8 each; `sh`, where there are harmonics beyond degree 0, a byte for
each of their coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from plyfile import PlyData, PlyElement
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.harmonics import C0, degree_of
from pds_nerfstudio.scenes.files.quantities import logit_of_byte, morton_order, pick_largest, restore_largest
from pds_nerfstudio.scenes.files.splats import Splats

_CHUNK = 256
_XYZ = ("x", "y", "z")
_BOUNDS = (*_XYZ, "scale_x", "scale_y", "scale_z", "r", "g", "b")
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_SCALES = 20.0
"""Logarithms of scales beyond this, either way, are no scales: 5·10⁸, or nothing."""
_HARMONICS = 8.0
"""The bytes of harmonics span the numbers from −4 to 4."""


def is_packed(file: PlyData) -> bool:
    """Return whether a .ply file is of this kind."""
    return "chunk" in file and set(_PACKED) <= set(file["vertex"].data.dtype.names or ())


def unpack(file: PlyData, path: Path) -> Splats:
    """Return the splat in a file of this kind.

    Raises:
        UserError: If its elements don't fit together.
    """
    vertices, chunks = file["vertex"].data, file["chunk"].data
    n = len(vertices)
    harmonics: Any = file["sh"].data if "sh" in file else np.empty((n, 0), np.uint8)
    count = len(harmonics.dtype.names or ())
    needed = {f"{end}_{name}" for end in ("min", "max") for name in _BOUNDS[:6]}
    if len(chunks) * _CHUNK < n or len(harmonics) != n or not needed <= set(chunks.dtype.names or ()):
        raise UserError(f"{path} is no whole compressed .ply of SuperSplat: save it again, or as a plain .ply.")
    if count % 3 or degree_of(count // 3) is None:
        raise UserError(f"{path} has {count} harmonics of each Gaussian, and no degree has so many: save it again.")
    position, rotation, scale, color = (
        torch.from_numpy(np.ascontiguousarray(vertices[name], dtype=np.int64)) for name in _PACKED
    )
    which = torch.arange(n) // _CHUNK
    within = {name: _between(chunks, name, which) for name in _BOUNDS}
    rest = torch.from_numpy(np.stack([harmonics[f"f_rest_{i}"] for i in range(count)], -1)) if count else None
    return Splats(
        means=torch.stack([within[a](part) for a, part in zip(_XYZ, _parts(position, 11, 10, 11), strict=True)], -1),
        scales=torch.stack(
            [within[f"scale_{a}"](part) for a, part in zip(_XYZ, _parts(scale, 11, 10, 11), strict=True)], -1
        ),
        quats=restore_largest(
            rotation >> 30, (torch.stack(_parts(rotation & (1 << 30) - 1, 10, 10, 10), -1) - 0.5) * 2**0.5
        ),
        opacities=logit_of_byte(color & 255),
        base=torch.stack(
            [(within[c](part) - 0.5) / C0 for c, part in zip("rgb", _parts(color >> 8, 8, 8, 8), strict=True)], -1
        ),
        rest=torch.zeros(n, 0, 3) if rest is None else _from_bytes(rest).reshape(n, 3, -1).transpose(1, 2).contiguous(),
    )


def _between(chunks: np.ndarray, name: str, which: Int[Tensor, " n"]) -> Callable[[Tensor], Tensor]:
    """Return a function that maps shares in 0..1 to numbers between a bound's ends; colours without bounds stay."""
    if f"min_{name}" not in (chunks.dtype.names or ()):
        return lambda share: share
    low, high = (
        torch.from_numpy(np.ascontiguousarray(chunks[f"{end}_{name}"], dtype=np.float32))[which]
        for end in ("min", "max")
    )
    return lambda share: low * (1 - share) + high * share


def _parts(packed: Int[Tensor, " n"], *bits: int) -> list[Float[Tensor, " n"]]:
    """Return the numbers that are packed in so many bits each, the last one in the lowest, as shares in 0..1."""
    parts, shift = [], sum(bits)
    for count in bits:
        shift -= count
        whole = (1 << count) - 1
        parts.append((packed >> shift & whole).float() / whole)
    return parts


def _from_bytes(values: Tensor) -> Tensor:
    """Return the coefficients of bytes: the middles of 256 equal steps, of the first and the last the ends."""
    share = (values.float() + 0.5) / 256
    share = torch.where(values == 0, 0.0, torch.where(values == 255, 1.0, share))
    return (share - 0.5) * _HARMONICS


def write_packed_ply(path: Path, splats: Splats, comments: list[str]) -> Path:
    """Write a splat as a compressed .ply; Gaussians that are near each other share a chunk.

    Args:
        path: Of the file.
        splats: With finite numbers only.
        comments: Of its header, a line each.
    """
    splats = splats[morton_order(splats.means)]
    n = len(splats)
    chunks = -(-n // _CHUNK)
    quantities = torch.cat([splats.means, splats.scales.clamp(-_SCALES, _SCALES), splats.base * C0 + 0.5], -1)
    filled = torch.cat([quantities, quantities[-1:].expand(chunks * _CHUNK - n, -1)]).view(chunks, _CHUNK, -1)
    low, high = filled.amin(1), filled.amax(1)
    span = high - low
    shares = ((filled - low[:, None]) / torch.where(span > 0, span, 1.0)[:, None]).flatten(0, 1)[:n]
    largest, others = pick_largest(splats.quats)
    packed = {
        "packed_position": _pack(shares[:, :3], 11, 10, 11),
        "packed_rotation": largest << 30 | _pack(others / 2**0.5 + 0.5, 10, 10, 10),
        "packed_scale": _pack(shares[:, 3:6], 11, 10, 11),
        "packed_color": _pack(torch.cat([shares[:, 6:], splats.opacities.sigmoid()[:, None]], -1), 8, 8, 8, 8),
    }
    bounds = {f"min_{name}": low[:, i] for i, name in enumerate(_BOUNDS)}
    bounds |= {f"max_{name}": high[:, i] for i, name in enumerate(_BOUNDS)}
    elements = [
        _element("chunk", {name: bounds[name] for name in _in_their_order()}, "<f4"),
        _element("vertex", packed, "<u4"),
    ]
    if splats.rest.shape[1]:
        share = splats.rest.transpose(1, 2).reshape(n, -1) / _HARMONICS + 0.5
        values = (share * 256).clamp(0, 255).floor()
        elements.append(_element("sh", {f"f_rest_{i}": column for i, column in enumerate(values.T)}, "u1"))
    PlyData(elements, byte_order="<", comments=comments).write(path)
    return path


def _in_their_order() -> list[str]:
    """Return the names of the bounds in the order of the files: the ends of positions, of scales, of colours."""
    thirds = [_BOUNDS[i : i + 3] for i in (0, 3, 6)]
    return [f"{end}_{name}" for third in thirds for end in ("min", "max") for name in third]


def _pack(shares: Float[Tensor, "n parts"], *bits: int) -> Int[Tensor, " n"]:
    """Return shares in 0..1 rounded to so many bits each, the last one in the lowest."""
    packed = torch.zeros(len(shares), dtype=torch.int64)
    for share, count in zip(shares.unbind(-1), bits, strict=True):
        whole = (1 << count) - 1
        packed = packed << count | (share * whole).round().clamp(0, whole).long()
    return packed


def _element(name: str, columns: dict[str, Tensor], kind: str) -> PlyElement:
    """Return an element of a .ply file with these columns, all of one type."""
    arrays = [column.numpy() for column in columns.values()]
    types = [(column, kind) for column in columns]
    return PlyElement.describe(np.rec.fromarrays(arrays, dtype=types), name)
