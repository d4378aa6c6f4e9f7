"""Which path is seen where."""

from __future__ import annotations

import torch

from pds_nerfstudio.vector.edit.visibility import NOTHING, owners
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document


def test_of_many_paths_the_one_on_top_is_found() -> None:
    cells = "".join(f'<rect x="{8 * (k % 8)}" y="{8 * (k // 8)}" width="8" height="8"/>' for k in range(60))
    document = Document(f'<svg viewBox="0 0 64 64">{cells}<rect width="16" height="8" opacity=".99"/></svg>'.encode())
    owner = owners(document.scene, document.parameters, (1, 0, 0, 1, 0, 0), 64, Rasterizer)
    wanted = torch.arange(64).reshape(8, 8)
    wanted[7, 4:] = NOTHING
    wanted[0, :2] = 60
    assert torch.equal(owner, wanted.repeat_interleave(8, 0).repeat_interleave(8, 1))


def test_what_hides_more_than_half_is_seen() -> None:
    rects = b'<rect width="8" height="8"/><rect width="4" height="8" opacity=".9" fill-opacity=".7"/>'
    document = Document(b'<svg viewBox="0 0 8 8">' + rects + b"</svg>")
    owner = owners(document.scene, document.parameters, (1, 0, 0, 1, 0, 0), 8, Rasterizer)
    assert owner[4].tolist() == [1] * 4 + [0] * 4


def test_an_edge_and_what_is_clear_are_nobodys() -> None:
    rects = b'<rect x=".5" width="3" height="8"/><rect x="5" width="3" height="8" opacity=".5"/>'
    document = Document(b'<svg viewBox="0 0 8 8">' + rects + b"</svg>")
    owner = owners(document.scene, document.parameters, (1, 0, 0, 1, 0, 0), 8, Rasterizer)
    assert owner[4].tolist() == [NOTHING, 0, 0, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING]
