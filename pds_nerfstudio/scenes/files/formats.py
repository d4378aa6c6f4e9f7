"""Reading and writing splats in files of several formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.packed_ply import write_packed_ply
from pds_nerfstudio.scenes.files.ply import read_ply, write_ply
from pds_nerfstudio.scenes.files.quantities import logit_of_byte
from pds_nerfstudio.scenes.files.splats import Splats
from pds_nerfstudio.scenes.files.spz import read_spz, write_spz
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.whole_files import whole_file

ENDINGS = (".ply", ".compressed.ply", ".spz")
"""Of the files that can be written, which decide on their formats."""

_MOST_COEFFICIENTS = 15
"""Of degree 3, beside that of degree 0: all that splatfacto and gsplat draw."""
_SMALLEST_SCALE = -20.0
_FAINTEST = torch.tensor(1 / 255).logit()
"""Rasterisers leave out what is fainter."""


def read_splats(path: Path) -> Splats:
    """Read a splat in a format that its first bytes tell: .ply, also packed by SuperSplat, or .spz.

    What can't be used of it is mended or left out, with a word about it.

    Raises:
        UserError: If it is not there, or no such file.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from None
    if begins[:3] == b"ply":
        splats = read_ply(path)
    elif begins[:2] == b"\x1f\x8b" or begins == b"NGSP":
        splats = read_spz(path)
    else:
        raise UserError(f"{path} is neither a .ply nor a .spz file: save the splat as one of them.")
    splats = _mended(splats, path)
    if not len(splats):
        raise UserError(f"{path} holds no Gaussian: is it the right file?")
    return splats


def _mended(splats: Splats, path: Path) -> Splats:
    """Return a splat with finite numbers, and no harmonics beyond degree 3."""
    ends = logit_of_byte(torch.tensor([0, 255])).tolist()
    opaque = splats.opacities.isinf()
    lengths = splats.quats.norm(dim=-1, keepdim=True)
    splats = replace(
        splats,
        opacities=torch.where(opaque, splats.opacities.clamp(*ends), splats.opacities),
        scales=torch.where(splats.scales.isneginf(), _SMALLEST_SCALE, splats.scales),
        quats=torch.where(lengths > 0, splats.quats, torch.tensor([1.0, 0.0, 0.0, 0.0])),
    )
    if splats.rest.shape[1] > _MOST_COEFFICIENTS:
        say(f"{path} has harmonics of degree 4: using those up to degree 3.", "yellow")
        splats = replace(splats, rest=splats.rest[:, :_MOST_COEFFICIENTS].contiguous())
    whole = splats.whole
    if not whole.all():
        say(f"{path}: {int((~whole).sum())} of {len(splats)} Gaussians are not finite, and left out.", "yellow")
        splats = splats[whole]
    return splats


def write_splats(path: Path, splats: Splats, comments: list[str]) -> Path:
    """Write a splat in the format that the path's ending names.

    Packed formats leave out Gaussians that are not finite, or so faint that no rasteriser draws them.

    Args:
        path: Ends in one of `ENDINGS`.
        splats: In the coordinates that the file shall have.
        comments: For the header of a .ply, a line each.

    Raises:
        UserError: If the ending is another, nothing is left to write, or the file can't be written.
    """
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        raise UserError(f"{path}: give a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    try:
        with whole_file(path) as unfinished:
            if name.endswith(".ply") and not name.endswith(".compressed.ply"):
                write_ply(unfinished, splats.columns(), comments)
                return path
            drawn = splats[splats.whole & (splats.opacities >= _FAINTEST)]
            if not len(drawn):
                raise UserError(f"{path} would be empty: no Gaussian of the splat can be seen.")
            if name.endswith(".spz"):
                write_spz(unfinished, drawn)
            else:
                write_packed_ply(unfinished, drawn, comments)
            return path
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}.") from None
