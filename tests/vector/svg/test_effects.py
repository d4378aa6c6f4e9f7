"""Masks, filters, blend modes, patterns, text and pictures of files: what is edited, what stays, what is said."""

import base64
import io
import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Group, Node, Picture
from pds_nerfstudio.vector.svg import picture_importer
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Oracle, Render

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32" viewBox="0 0 32 32">'


def _document(body: str) -> Document:
    return Document(f"{HEAD}{body}</svg>".encode())


def _changed(document: Document, change: Callable[[Tensor], Tensor]) -> tuple[bytes, Tensor]:
    """The file with all points that may move elsewhere, and the picture that the rasteriser has of it."""
    points = document.parameters.points
    moved = torch.where(document.editable["points"][:, None], change(points), points)
    numbers = replace(document.parameters, points=moved)
    said = Rasterizer(document.scene).render(numbers, 128, 128, document.view(128, 128), torch.ones(3, 128, 128))
    return document.write(numbers), said


SHAPES = '<g {}><path d="M4 4h12v12h-12z" fill="navy"/><circle cx="18" cy="9" r="4" fill="crimson"/></g>'
FOLLOWING = {
    "mask": '<mask id="m" x="0" y=".2" width=".8" height="1"><rect width="40" height="40" fill="#ccc"/></mask>'
    + SHAPES.format('mask="url(#m)"'),
    "filter": '<filter id="f" x="-.05" width="1.1"><feGaussianBlur stdDeviation="1.5"/></filter>'
    + SHAPES.format('filter="url(#f)" transform="rotate(90 12 12)"'),
    "functions": SHAPES.format('style="filter:blur(1px) hue-rotate(90deg)"'),
    "blend": '<rect width="14" height="32" fill="gold"/>' + SHAPES.format('style="mix-blend-mode:multiply"'),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_effects_move_with_what_they_are_on(name: str, render: Render, oracle: Oracle) -> None:
    document = _document(FOLLOWING[name])
    data, said = _changed(document, lambda p: p * 1.1 + 3)
    assert psnr(said, render(Document(data))) > 45
    assert psnr(said, oracle(data, 128, 4)) > 33
    assert psnr(said, render(document)) < 22


def test_what_a_mask_draws_is_edited_in_place(render: Render) -> None:
    mask = '<mask id="m"><path d="M2 2h20v20z" fill="#fff"/></mask>'
    body = '<g mask="url(#m)" opacity=".9"><path d="M0 0h30v30z" fill="#00f"/></g><path d="M1 30h3v1z"/>'
    document = _document(mask + body)
    points, colors = document.parameters.points.clone(), document.parameters.colors.clone()
    inner = next(path for path in document.paths if path.element.parent and path.element.parent.tag == "mask")
    points[inner.first] += 3
    colors[(colors == 1).all(1)] = 0.5
    changed = replace(document.parameters, points=points, colors=colors)
    data = document.write(changed)
    written = data.decode()
    assert body in written and 'd="M5 5L22 2' in written and 'fill="#808080"' in written
    said = Rasterizer(document.scene).render(changed, 128, 128, document.view(128, 128), torch.ones(3, 128, 128))
    assert psnr(said, render(Document(data))) > 45


LOCKED = {
    "masks in units of a box, and what they are on": '<mask id="m" maskContentUnits="objectBoundingBox"><path '
    'd="M0 0h1v1z" fill="white"/></mask><path d="M4 4h9v9z" mask="url(#m)"/>',
    "filters in units of a box, and what they are on": '<filter id="f" primitiveUnits="objectBoundingBox">'
    '<feOffset dx=".1"/></filter><path d="M4 4h9v9z" filter="url(#f)"/>',
    "patterns": '<pattern id="p" width="4" height="4" patternUnits="userSpaceOnUse"><path d="M0 0h2v2z" fill="red"/>'
    '</pattern><rect y="-9" width="1" height="1" fill="url(#p)"/>',
    "patterns, and what is painted with patterns in units of a box": '<pattern id="p" width=".1" height=".1"><path '
    'd="M0 0h2v2z"/></pattern><path d="M4 4h9v9z" fill="url(#p)"/>',
    "text": '<text x="3" y="20" class="a">Hi</text>',
}


@pytest.mark.parametrize("what", LOCKED)
def test_what_cannot_follow_stays_and_is_said_so(what: str) -> None:
    body = LOCKED[what]
    with pytest.warns(UserWarning, match="drawn, but not edited: ") as caught:
        document = _document(body)
    assert len(caught) == 1
    assert all(part in str(caught[0].message) for part in what.split(", and what is"))
    assert document.unsupported == ()
    data, _ = _changed(document, lambda p: p + 1)
    assert data.decode() == f"{HEAD}{body}</svg>" or "y=" in body


def _dot(size: int = 8) -> str:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PICTURES = {
    "text": '<g font-family="DejaVu Sans" font-size="9" fill="navy" transform="rotate(8)"><text x="3" y="14">ab'
    '<tspan fill="red" font-weight="bold">c</tspan></text><text x="50%" y="24" text-anchor="middle">Mid</text></g>',
    "text by a rule": "<style>g text{fill:teal;font-size:20px}.b{font-family:serif}</style>"
    '<g><text class="b" x="4" y="22">Q</text></g>',
    "text in a clip, a mask and an opacity": '<clipPath id="c"><rect width="16" height="32"/></clipPath><mask id="m">'
    '<rect y="8" width="32" height="20" fill="#999"/></mask><g clip-path="url(#c)" mask="url(#m)" opacity=".8">'
    '<text x="2" y="24" font-size="20" transform="skewX(-10)">Ag</text></g>',
    "text in a pattern": '<pattern id="p" width="16" height="16" patternUnits="userSpaceOnUse"><text y="12"'
    ' font-size="14">x</text></pattern><rect width="32" height="32" fill="url(#p)"/>',
    "text that is used": '<defs><text id="t" y="12" font-size="12">t</text></defs><use href="#t" x="4" fill="red"/>'
    '<use href="#t" x="14" y="8" transform="scale(1.2)"/>',
    "between shapes": '<rect width="20" height="20" fill="gold"/><text x="2" y="18" font-size="18">W</text>'
    '<rect x="8" y="8" width="9" height="20" fill="navy"/>',
    "a picture": f'<image href="data:image/png;base64,{_dot(64)}" x="4" y="4" width="20" height="20" opacity=".7"/>',
    "noise": '<filter id="f" x="0" y="0" width="1" height="1"><feTurbulence baseFrequency=".05"/></filter>'
    '<rect x="4" y="4" width="24" height="24" filter="url(#f)" stroke="red"/>',
}


@pytest.mark.filterwarnings("ignore:.*drawn, but not edited")
@pytest.mark.parametrize("name", PICTURES)
def test_what_resvg_draws_stands_in_its_place(name: str, render: Render, oracle: Oracle) -> None:
    data = f"{HEAD}{PICTURES[name]}</svg>".encode()
    document = Document(data)
    difference = (render(document) - oracle(data, 128, 4)).abs()
    assert difference.square().mean() < 1e-4 and difference.max() < 0.2
    assert (1 - render(document)).mean() > 0.005
    assert document.write(document.parameters) == data


def test_text_beside_text_is_one_picture() -> None:
    with pytest.warns(UserWarning, match=r"drawn, but not edited: text$"):
        document = _document(
            "<text y='9'>a</text><text y='20'>b</text><rect width='3' height='3'/><text y='30'>c</text>"
        )
    (group,) = document.scene.root.children
    assert isinstance(group, Group)
    assert [isinstance(child, Picture) for child in group.children] == [True, False, True]
    assert sum(int(mask.sum()) for mask in document.editable.values()) == 4 + 2


@pytest.mark.parametrize(
    "href",
    [
        "http://127.0.0.1:9/x.png",
        "x.png",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png;base64,AAAA",
        "data:image/png;base64,!",
    ],
)
def test_no_other_pictures_are_opened(href: str) -> None:
    with pytest.warns(UserWarning, match=r"neither drawn nor edited: image$"):
        _document(f'<image href="{href}" width="9" height="9"/>')


def test_a_huge_picture_is_not_unpacked() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    with pytest.warns(UserWarning, match=r"neither drawn nor edited: image$"):
        _document(f'<image href="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"/>')


SHADOWS = [
    '<path d="M9 9h3v3z" fill="red" style="filter:drop-shadow(1px 1px)"/>',
    '<filter id="f"><feFlood flood-color="currentColor"/></filter>',
]


@pytest.mark.parametrize("shadow", SHADOWS)
def test_a_colour_that_a_shadow_shares_stays(shadow: str) -> None:
    document = _document(f'<g color="red">{shadow}<path d="M1 1h3v3z" fill="currentColor"/></g>')
    before = document.parameters.colors
    colors = torch.where((before == torch.tensor([1.0, 0, 0])).all(1, keepdim=True), 0.5, before)
    data = document.write(replace(document.parameters, colors=colors)).decode()
    assert f'<g color="red">{shadow.replace("red", "#808080") if "fill=" in shadow else shadow}' in data


@pytest.mark.parametrize(
    "body",
    [
        '<mask id="m"><rect width="9" height="9" mask="url(#m)"/></mask><rect width="9" height="9" mask="url(#m)"/>',
        '<mask id="m" mask="url(#m)"><rect width="9" height="9"/></mask><rect width="9" height="9" mask="url(#m)"/>',
        '<filter id="f" href="#f"/><rect width="9" height="9" filter="url(#f)"/>',
        '<pattern id="p" width="2" height="2" patternUnits="userSpaceOnUse"><rect width="9" height="9" fill="url(#p)"/>'
        '</pattern><rect width="9" height="9" fill="url(#p)"/>',
    ],
)
def test_what_leads_to_itself_has_an_end(body: str, render: Render) -> None:
    with pytest.warns(UserWarning, match="references to themselves"):
        document = _document(body)
    assert bool(render(document).isfinite().all())


@pytest.mark.parametrize(
    "value",
    ["blur(-1px)", "blur(10%)", "drop-shadow(1px)", "brightness(-1)", "hue-rotate(3)", "turn(1)", "blur(1px) x"],
)
def test_a_filter_that_cannot_be_read_is_no_filter(value: str, render: Render) -> None:
    with pytest.warns(UserWarning, match=r"could not be read: filter "):
        document = _document(f'<rect width="20" height="20" style="filter:{value}"/>')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(render(document), render(_document('<rect width="20" height="20"/>')))


def test_a_hue_goes_round(render: Render) -> None:
    whole, none = (
        render(_document(f'<rect width="32" height="32" fill="#c63" style="filter:hue-rotate({turn})"/>'))
        for turn in (f"{2 * math.pi}rad", "0")
    )
    assert (whole - none).abs().max() < 1e-3


@pytest.mark.filterwarnings("ignore:.*drawn, but not edited")
def test_text_is_drawn_once_however_often_the_drawing_is_read() -> None:
    text = '<g font-size="9"><text id="a" x="2" y="9" class="b">a</text><text id="a" x="9" y="20">c</text></g>'
    head = "<style>#a{fill:red}</style>"
    before = _document(f'{head}{text}<rect width="3" height="3"/>').scene
    drawn = picture_importer._png.cache_info().misses
    after = _document(f'{head}{text}<g id="pds-new-paths"><path d="M0 0h9v9z"/></g>').scene
    assert picture_importer._png.cache_info().misses == drawn
    pictures = [_pictures(scene.root) for scene in (before, after)]
    assert [len(found) for found in pictures] == [1, 1]
    assert torch.equal(pictures[0][0].pixels, pictures[1][0].pixels) and pictures[0][0].box == pictures[1][0].box


def _pictures(node: Node) -> list[Picture]:
    if isinstance(node, Group):
        return [picture for child in node.children for picture in _pictures(child)]
    return [node] if isinstance(node, Picture) else []
