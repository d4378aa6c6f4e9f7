"""Splats in .ply files: the layout of Kerbl et al., 2023, as it comes from many tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from plyfile import PlyData, PlyElement
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.scenes.files.harmonics import C0, degree_of
from pds_nerfstudio.scenes.files.packed_ply import is_packed, unpack
from pds_nerfstudio.scenes.files.splats import Splats

_SHAPE = ("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
_BASE = ("f_dc_0", "f_dc_1", "f_dc_2")
_RGB = ("red", "green", "blue")


def read_ply(path: Path) -> Splats:
    """Read the splat in a .ply file, ASCII or binary of either byte order; what it holds beyond a splat is left.

    Also SuperSplat's packed files, and files with red, green and blue in place of harmonics.

    Raises:
        UserError: If it is no .ply file, or holds no splat.
    """
    try:
        file = PlyData.read(path)  # mapped: read element by element, a large file takes minutes
    except Exception as error:  # plyfile raises half a dozen kinds for a broken file, UnicodeDecodeError among them
        raise UserError(f"{path} can't be read as a .ply file ({first_line(error)}): was it cut short?") from None
    if "vertex" not in file:
        raise UserError(f"{path} holds no vertices: give the .ply of a Gaussian splat.")
    return unpack(file, path) if is_packed(file) else _unpacked(file["vertex"].data, path)


def _unpacked(vertices: np.ndarray, path: Path) -> Splats:
    """Return the splat that a structured array holds, which has a field for each property."""
    names = set(vertices.dtype.names or ())
    if {"x", "y", "z"} <= names and not names & set(_SHAPE):
        raise UserError(
            f"{path} is a cloud of points, and no splat: name it as ply_file_path in the data's transforms.json and "
            "leave out --load-ply, then splats are reconstructed from it."
        )
    colors = _RGB if not names & set(_BASE) and set(_RGB) <= names else _BASE
    lacking = [name for name in ("x", "y", "z", *colors, *_SHAPE) if name not in names]
    if lacking:
        raise UserError(f"{path} is no splat that can be edited: its vertices lack {', '.join(lacking)}.")
    harmonics = sorted((name for name in names if name.startswith("f_rest_")), key=lambda name: int(name[7:]))
    if degree_of(len(harmonics) // 3) is None or len(harmonics) % 3 or colors is _RGB:
        if colors is _BASE:
            raise UserError(
                f"{path} has {len(harmonics)} properties f_rest: harmonics have 0, 9, 24 or 45 (degree 0, 1, 2 or 3)."
            )
        harmonics = []
    columns = {name: _numbers(vertices[name]) for name in ("x", "y", "z", *_SHAPE, *harmonics)}
    for base, name in zip(_BASE, colors, strict=True):
        columns[base] = _numbers(vertices[name]) if colors is _BASE else _from_rgb(vertices[name])
    return Splats.of_columns(columns)


def _numbers(column: np.ndarray) -> Float[Tensor, " n"]:
    """Return a column of any type and byte order."""
    return torch.from_numpy(np.ascontiguousarray(column, dtype=np.float32))


def _from_rgb(column: np.ndarray) -> Float[Tensor, " n"]:
    """Return the coefficients of degree 0 of colours: bytes, or numbers in 0..1."""
    whole = 255.0 if np.issubdtype(column.dtype, np.integer) else 1.0
    return (_numbers(column) / whole - 0.5) / C0


def write_ply(path: Path, columns: Mapping[str, Float[Tensor, " gaussians"]], comments: list[str]) -> Path:
    """Write a splat in the format of Kerbl et al., 3D Gaussian Splatting, 2023, that splat viewers read.

    Args:
        path: Of the file.
        columns: What it holds of each Gaussian, by its name there.
        comments: Of its header, a line each.
    """
    arrays = {name: column.detach().cpu().numpy() for name, column in columns.items()}
    types: Any = [(name, "<f4") for name in arrays]
    vertices = np.rec.fromarrays(list(arrays.values()), dtype=types)
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<", comments=comments).write(path)
    return path
