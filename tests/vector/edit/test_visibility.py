"""Which path is seen where."""

from __future__ import annotations

import pytest
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


def _owner(body: str) -> torch.Tensor:
    document = Document(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{body}</svg>'.encode())
    return owners(document.scene, document.parameters, (1, 0, 0, 1, 0, 0), 16, Rasterizer)


MASK = """
<linearGradient id="g"><stop stop-color="white"/><stop offset="1" stop-color="white"/></linearGradient>
<pattern id="p" width="9" height="9" patternUnits="userSpaceOnUse"><rect width="9" height="9" fill="white"/></pattern>
<filter id="f"><feFlood flood-color="white" x="0" y="8" width="16" height="4"/></filter>
<mask id="m" maskUnits="userSpaceOnUse" x="0" y="0" width="16" height="16">
<rect width="16" height="4" fill="url(#g)"/><rect y="4" width="16" height="4" fill="url(#p)"/>
<rect y="8" width="16" height="4" fill="black" filter="url(#f)"/></mask>
"""


def test_a_mask_hides_what_is_below_it_in_its_own_light() -> None:
    with pytest.warns(UserWarning, match="patterns"):
        owner = _owner(f'{MASK}<rect width="16" height="16"/><rect width="8" height="16" mask="url(#m)" fill="red"/>')
    below, above = int(owner[2, 12]), int(owner[2, 4])
    assert above > below >= 0
    assert (owner[:12, :8] == above).all() and (owner[12:, :8] == below).all() and (owner[:, 8:] == below).all()


def test_blurred_and_mixed_paths_are_seen_where_they_are() -> None:
    blur = '<filter id="f"><feGaussianBlur stdDeviation="3"/></filter>'
    owner = _owner(
        f'{blur}<rect width="16" height="8" filter="url(#f)"/><rect y="8" width="16" height="8" fill="red"/>'
        '<rect x="8" width="8" height="16" fill="blue" style="mix-blend-mode:screen"/>'
    )
    first, second, third = int(owner[2, 2]), int(owner[12, 2]), int(owner[2, 12])
    assert len({first, second, third, NOTHING}) == 4
    assert (owner[:8, :8] == first).all() and (owner[8:, :8] == second).all() and (owner[:, 8:] == third).all()


DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""One black pixel."""


def test_what_a_pattern_paints_is_the_paths_and_a_picture_is_nobodys() -> None:
    pattern = '<pattern id="p" width="2" height="2" patternUnits="userSpaceOnUse"><path d="M0 0h2v2H0z"/></pattern>'
    picture = f'<image href="data:image/png;base64,{DOT}" x="8" width="8" height="16" preserveAspectRatio="none"/>'
    with pytest.warns(UserWarning, match="image, patterns"):
        owner = _owner(f'{pattern}<rect width="16" height="16" fill="url(#p)"/>{picture}')
    assert (owner[:, :8] == owner[0, 0]).all() and int(owner[0, 0]) >= 0
    assert (owner[:, 9:] == NOTHING).all()
