"""Writing back: what is not edited stays byte for byte, what is looks as the rasteriser says."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Oracle, Render

STRESS = (Path(__file__).parents[1] / "stress.svg").read_bytes()
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'


def _document(body: str) -> Document:
    return Document(f"{HEAD}{body}</svg>".encode())


def _inside(data: bytes) -> str:
    return data.decode()[len(HEAD) : -len("</svg>")]


def _write(document: Document, **changes: Callable[[Tensor], Tensor]) -> str:
    """Return the body of the file with some tensors changed by functions."""
    changed = {name: change(getattr(document.parameters, name).clone()) for name, change in changes.items()}
    return _inside(document.write(replace(document.parameters, **changed)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_without_an_edit_the_file_is_the_same(encoding: str) -> None:
    text = STRESS.decode().replace("UTF-8", encoding)
    data = text.encode(encoding)
    document = Document(data)
    assert document.write(document.parameters) == data


def test_a_moved_path_keeps_everything_else() -> None:
    document = _document("<!-- c --><path  id='a'\n d='M0 0 L8,0 8 8z' x-y=\"&lt;1\" /><g\t><path d='m1 1h1v1z'/></g>")
    assert document.parameters.points.shape[0] == 6

    def move(points: Tensor) -> Tensor:
        points[1] += 1.5
        return points

    found = _write(document, points=move)
    assert found == "<!-- c --><path  id='a'\n d='M0 0L9.5 1.5L8 8Z' x-y=\"&lt;1\" /><g\t><path d='m1 1h1v1z'/></g>"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<rect x="1" y="2" width="3" height="4"/>', '<rect x="2" y="4" width="6" height="8"/>'),
        ("<circle r='3' cx='5'/>", "<circle r='6' cx='10'/>"),
        ('<ellipse rx="3" ry="2"/>', '<ellipse rx="6" ry="4"/>'),
        ('<line x2="9"/>', '<line x2="18"/>'),
        ('<polyline points="0,0 1,2 3,4"/>', '<polyline points="0 0 2 4 6 8"/>'),
        ('<rect width="9" height="8" rx="2"></rect>', '<rect width="18" height="16" rx="4" ry="4"></rect>'),
    ],
)
def test_a_basic_shape_stays_one(before: str, after: str) -> None:
    assert _write(_document(before), points=lambda p: 2 * p) == after


def test_a_basic_shape_that_is_none_any_more_becomes_a_path() -> None:
    def pull(points: Tensor) -> Tensor:
        points[2] += 2
        return points

    found = _write(_document('<rect x="1" y="2" width="3" height="4" fill="red"></rect>'), points=pull)
    assert found == '<path fill="red" d="M1 2L4 2L6 8L1 6Z"></path>'
    document = _document('<style>rect{fill:red}</style><rect width="3"\n height="4"/>')
    assert _write(document, points=pull).endswith('<path d="M0 0L3 0L5 6L0 4Z" style="fill:red"/>')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<path d="M0 0L1 0 1 1z" fill="red"/>', '<path d="M0 0L1 0 1 1z" fill="#0080ff"/>'),
        ("<path d='M0 0L1 0 1 1z'/>", "<path d='M0 0L1 0 1 1z' fill=\"#0080ff\"/>"),
        (
            "<path style='x:y; fill : red ;a:b' fill='lime' d='M0 0L1 0 1 1z'/>",
            "<path style='x:y; fill : #0080ff ;a:b' fill='lime' d='M0 0L1 0 1 1z'/>",
        ),
        (
            "<style>path{fill:red}</style><path d='M0 0L1 0 1 1z' ></path>",
            "<style>path{fill:#0080ff}</style><path d='M0 0L1 0 1 1z' ></path>",
        ),
        (
            "<style>path{fill:red!important}</style><path style='opacity:1' d='M0 0L1 0 1 1z'/>",
            "<style>path{fill:#0080ff!important}</style><path style='opacity:1' d='M0 0L1 0 1 1z'/>",
        ),
        (
            '<path d="M0 0L1 0 1 1z" fill="rgba(255,0,0,.5)"/>',
            '<path d="M0 0L1 0 1 1z" fill="rgba(0, 128, 255, 0.5)"/>',
        ),
    ],
)
def test_a_colour_is_written_where_it_counts(before: str, after: str) -> None:
    document = _document(before)
    found = _write(document, colors=lambda c: torch.tensor([[0, 0.5, 1.0]]))
    assert found == after
    again = _document(found)
    torch.testing.assert_close(again.parameters.colors, torch.tensor([[0, 0.5, 1.0]]), atol=0.51 / 255, rtol=0)


def test_a_colour_from_the_parent_is_overridden_on_the_child() -> None:
    document = _document('<g fill="red"><path d="M0 0h1v1z"/><path d="M2 0h1v1z"/></g>')

    def paint(colors: Tensor) -> Tensor:
        colors[0] = torch.tensor([0, 0, 1.0])
        return colors

    found = _write(document, colors=paint)
    assert found == '<g fill="red"><path d="M0 0h1v1z" fill="#0000ff"/><path d="M2 0h1v1z"/></g>'


def test_opacities_widths_and_gradients() -> None:
    document = _document(
        '<linearGradient id="g" x2="50%"><stop offset="10%" stop-color="#f008"/>'
        '<stop offset="1"/></linearGradient>'
        '<path d="M0 0L1 0 1 1z" fill="url(#g)" stroke="red" stroke-width="2" opacity=".5"/>'
    )
    parameters = document.parameters
    found = _write(
        document,
        opacities=lambda o: o * 0.5,
        widths=lambda w: w + 1,
        gradients=lambda g: g + torch.tensor([0, 0.25, 0, 0, 0, 0]),
        offsets=lambda o: torch.where(o > 0.5, 0.75, o),
    )
    assert '<linearGradient id="g" x2="0.5" x1="0" y1="0.25" y2="0">' in found
    assert '<stop offset="10%" stop-color="#f008" stop-opacity="0.5"/><stop offset="0.75" stop-opacity="0.5"/>' in found
    assert 'stroke-width="3" opacity="0.25" fill-opacity="0.5" stroke-opacity="0.5"/>' in found
    again = _document(found).parameters
    torch.testing.assert_close(again.opacities.sort().values, (parameters.opacities * 0.5).sort().values)


def test_an_opacity_may_grow_beyond_the_alpha_of_its_colour() -> None:
    document = _document('<path d="M0 0L1 0 1 1z" fill="#ff000080"/>')
    assert document.parameters.opacities.tolist() == pytest.approx([128 / 255])
    found = _write(document, opacities=lambda o: o + 0.3)
    assert found == '<path d="M0 0L1 0 1 1z" fill="#ff0000" fill-opacity="0.802"/>'


def test_an_edited_file_looks_as_the_rasteriser_says(oracle: Oracle) -> None:
    # a line without height has no gradient in units of its box, until an edit gives it some
    document = Document(STRESS.replace(b'<path d="M320 185h60" stroke="url(#across)"', b"<path"))
    generator = torch.Generator().manual_seed(0)

    def shake(values: Tensor, amount: float) -> Tensor:
        return values + amount * torch.randn(values.shape, generator=generator)

    before = document.parameters
    edited = replace(
        before,
        points=torch.where(document.editable["points"][:, None], shake(before.points, 0.3), before.points),
        colors=torch.where(document.editable["colors"][:, None], shake(before.colors, 0.1).clamp(0, 1), before.colors),
        opacities=torch.where(
            document.editable["opacities"], shake(before.opacities, 0.1).clamp(0, 1), before.opacities
        ),
        widths=torch.where(document.editable["widths"], shake(before.widths, 0.2).clamp(min=0.1), before.widths),
    )
    data = document.write(edited)
    again = Document(data)
    size = 256
    view = document.view(size, size)
    said = Rasterizer(document.scene).render(edited, size, size, view, torch.ones(3, size, size))
    read = Rasterizer(again.scene).render(again.parameters, size, size, view, torch.ones(3, size, size))
    assert (said - read).abs().mean() < 1e-3
    assert psnr(said, read) > 45
    assert psnr(said, oracle(data, size, 4)) > 36


def _move(step: float, *rows: int) -> Callable[[Tensor], Tensor]:
    """Return what moves some points, or all, to the right and down, and the first of them further."""

    def moved(points: Tensor) -> Tensor:
        chosen = list(rows) or list(range(len(points)))
        points[chosen] += step
        points[chosen[0]] += torch.tensor([step, -step / 2])
        return points

    return moved


STAR = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:sodipodi="http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd"
xmlns:i="http://www.inkscape.org/namespaces/inkscape" viewBox="0 0 32 32">{}</svg>"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '<path sodipodi:type="star" sodipodi:sides="3"\n sodipodi:arg1="0" i:flatsided="true" i:label="k"'
            ' d="M9 5L3 8z"/>',
            '<path i:label="k" d="M11 5.5L4 9Z"/>',
        ),
        (
            '<g i:path-effect="#e" i:label="l"><path i:original-d="M0 0" d="M9 5L3 8z" sodipodi:nodetypes="cc"/></g>',
            '<g i:label="l"><path d="M11 5.5L4 9Z" sodipodi:nodetypes="cc"/></g>',
        ),
    ],
)
def test_inkscape_has_no_old_outline_to_go_back_to(before: str, after: str) -> None:
    document = Document(STAR.format(before).encode())
    assert document.write(replace(document.parameters, colors=document.parameters.colors + 0.5)).count(b"i:") > 1
    moved = replace(document.parameters, points=_move(1)(document.parameters.points.clone()))
    assert document.write(moved).decode() == STAR.format(after)


def test_what_css_gives_is_written_where_it_counts() -> None:
    document = _document("<style>.a{r:3px;cx:5px}</style><circle class='a' cy='4' r='9'/>")
    found = _write(document, points=lambda p: 2 * p)
    assert found == "<style>.a{r:3px;cx:5px}</style><circle class='a' cy='8' r='9' style=\"cx:10px;r:6px\"/>"
    document = _document("<path style=\"fill:red;d:path('M0 0h4v4z')\"/>")
    found = _write(document, points=lambda p: 2 * p)
    assert found == "<path style=\"fill:red;d:path('M0 0L8 0L8 8Z')\"/>"
    torch.testing.assert_close(_document(found).parameters.points, 2 * document.parameters.points)


def test_a_colour_is_written_over_what_could_not_be_read() -> None:
    for given in ("color(display-p3 1 0 0)", "lab(50 1 1)"):
        document = _document(f'<path d="M0 0h1v1z" fill="red" style="fill:red;fill:{given}"/>')
        found = _write(document, colors=lambda c: torch.tensor([[0, 0, 1.0]]))
        assert found == '<path d="M0 0h1v1z" fill="red" style="fill:#0000ff;fill:#0000ff"/>'


def test_a_background_is_edited_in_place() -> None:
    data = '<svg viewBox="0 0 9 9" style="background-color:#fe8;q:y"><path d="M0 0h1v1z"/></svg>'
    document = Document(data.encode())
    blue = replace(document.parameters, colors=torch.tensor([[0, 0, 0], [0, 0, 1.0]]))
    assert document.write(blue).decode() == data.replace("#fe8", "#0000ff")
    assert document.editable["points"].tolist() == [True] * 3 + [False] * 4


SHEET = """<style>rect{fill:red!important} path{stroke:blue;fill:gold} rect+path{fill:lime} [fill="tan"]{opacity:.5}
[width]{stroke-width:3}</style>"""


def test_rules_that_pick_by_tag_or_attribute_do_as_before() -> None:
    document = _document(SHEET + '<g stroke="tan"><rect width="9" height="8"/><path d="M9 9h9v9z" fill="tan"/></g>')

    def bend(points: Tensor) -> Tensor:
        points[2] += 2
        return points

    found = _write(document, points=bend, colors=lambda c: (c * 0.9).clamp(0, 1))
    assert "<rect" not in found
    again = _document(found)
    for name in ("widths", "opacities"):
        assert getattr(again.parameters, name).tolist() == pytest.approx(getattr(document.parameters, name).tolist())
    torch.testing.assert_close(again.parameters.colors, document.parameters.colors * 0.9, atol=0.51 / 255, rtol=0)


def test_what_is_locked_stays_in_the_file() -> None:
    body = '<path d="M0 0h9v9z" transform="rotate3d(1,1,1,45deg)" fill="lab(50 1 1)"/>'
    with pytest.warns(UserWarning, match="could not be read"):
        document = _document(body)
    assert _write(document, points=lambda p: p + 1, colors=lambda c: c + 0.5) == body


CLIPPED = [
    '<path d="M4 4h12v12h-12z" fill="navy" clip-path="url(#c)"/>',
    '<g transform="rotate(20 9 9)" clip-path="url(#c)"><path d="M4 4h12v12h-12z"/><circle cx="20" cy="9" r="4"/></g>',
    '<clipPath id="d"><path d="M4 4h12v12h-12z" clip-path="url(#c)"/></clipPath>'
    '<path d="M2 2h20v20z" clip-path="url(#d)"/>',
]


@pytest.mark.parametrize("body", CLIPPED)
def test_a_clip_in_units_of_a_box_moves_with_it(body: str, render: Render, oracle: Oracle) -> None:
    clip = '<clipPath id="c" clipPathUnits="objectBoundingBox"><ellipse cx=".5" cy=".5" rx=".5" ry=".3"/></clipPath>'
    head = HEAD.replace("viewBox", 'width="32" height="32" viewBox')
    document = Document(f"{head}{clip}{body}</svg>".encode())
    points = document.parameters.points
    changed = replace(
        document.parameters, points=torch.where(document.editable["points"][:, None], points * 1.2 + 3, points)
    )
    said = Rasterizer(document.scene).render(changed, 128, 128, document.view(128, 128), torch.ones(3, 128, 128))
    data = document.write(changed)
    assert psnr(said, render(Document(data))) > 45
    assert psnr(said, oracle(data, 128, 4)) > 36
    assert psnr(said, render(document)) < 20


@pytest.mark.parametrize("height", [0.0, 1e-5, 0.5])
def test_a_gradient_on_what_has_no_height(height: float, render: Render) -> None:
    """The file paints it as soon as it has any."""
    gradient = '<linearGradient id="g"><stop stop-color="red"/><stop offset="1" stop-color="blue"/></linearGradient>'
    document = _document(gradient + '<path d="M4 16H28" stroke="url(#g)" stroke-width="8"/>')
    points = document.parameters.points.clone()
    points[0, 1] = 4 + height
    points[1, 1] = 4
    changed = replace(document.parameters, points=points)
    said = Rasterizer(document.scene).render(changed, 128, 128, document.view(128, 128), torch.ones(3, 128, 128))
    assert (said - render(Document(document.write(changed)))).abs().max() < 1e-2
    assert bool((said < 0.9).any()) == (height > 0)


def test_compressed_files_stay_compressed(tmp_path: Path) -> None:
    plain = f'{HEAD}<path d="M0 0h4v4z"/></svg>'.encode()
    (tmp_path / "a.svgz").write_bytes(gzip.compress(plain))
    document = Document.read(tmp_path / "a.svgz")
    assert document.write(document.parameters) == gzip.compress(plain) and document.suffix == ".svgz"
    moved = document.write(replace(document.parameters, points=document.parameters.points * 2))
    assert gzip.decompress(moved) == plain.replace(b"M0 0h4v4z", b"M0 0L8 0L8 8Z")
    assert Document(plain).suffix == ".svg"


def test_what_leaves_the_viewport_is_seen_by_nobody() -> None:
    document = Document(b'<svg viewBox="0 0 40 10"><path d="M0 0h4v4h-4z"/></svg>')
    below = replace(document.parameters, points=document.parameters.points + torch.tensor([0.0, 12]))
    said = Rasterizer(document.scene).render(below, 40, 40, document.view(40, 40), torch.ones(3, 40, 40))
    assert (said == 1).all()


def test_editing_twice_adds_nothing_but_numbers() -> None:
    document = Document(STRESS)
    once = document.write(replace(document.parameters, points=document.parameters.points + 0.25))
    again = Document(once)
    twice = again.write(replace(again.parameters, points=again.parameters.points - 0.25))
    assert once.count(b"<") == twice.count(b"<") == STRESS.count(b"<")
    assert len(twice) < 1.01 * len(once)


def test_units_are_pixels_in_each_elements_own_measure() -> None:
    document = _document(
        '<linearGradient id="g" x2="3" y2="4"><stop/><stop offset="1"/></linearGradient>'
        '<g transform="scale(2 8)"><path d="M0 0L1 0 1 1z" stroke="red" fill="url(#g)"/></g>'
        '<path d="M0 0L1 1"/>'
    )
    units = document.units
    assert units["points"].tolist() == [0.25, 0.25, 0.25, 1, 1]
    assert units["widths"].tolist() == [0.25]
    assert units["gradients"].tolist() == pytest.approx([0.05])
    assert units["offsets"].tolist() == pytest.approx([0.01, 0.01])
    assert set(units["colors"].tolist()) == set(units["opacities"].tolist()) == {1.0}


def test_the_view_centres_the_drawing() -> None:
    document = Document(b'<svg viewBox="0 0 40 20"><path d="M0 0h40v20h-40z"/></svg>')
    assert document.view(80, 80) == (2, 0, 0, 2, 0, 20)


def test_reading_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(STRESS)
    assert Document.read(tmp_path / "a.svg").name == "a.svg"
    with pytest.raises(UserError):
        Document.read(tmp_path / "b.svg")


@pytest.mark.parametrize(
    ("side", "width", "points"),
    [(32, "0.333", "33.333 0 0 300"), (1000, "0.3", "33.3 0 0 300"), (0.1, "0.33333", "33.33333 0 0 300")],
)
def test_numbers_are_no_longer_than_can_be_seen(side: float, width: str, points: str) -> None:
    body = '<polyline points="100 0 0 900" stroke="red" stroke-width="1" opacity=".5"/>'
    body += '<linearGradient id="g" gradientUnits="userSpaceOnUse" x1="1" x2="301"><stop offset=".5"/><stop/>'
    body += '</linearGradient><path d="M0 0h9v9z" fill="url(#g)"/>'
    document = Document(f'<svg viewBox="0 0 {side} {side}" width="{side}" height="{side}">{body}</svg>'.encode())
    p = document.parameters
    found = document.write(p.map(lambda t: t / 3)).decode()
    assert f'points="{points}"' in found and f'stroke-width="{width}"' in found
    assert 'opacity="0.167"' in found and 'offset="0.1667"' in found and 'x1="0.33" x2="100.33"' in found


def test_style_sheets_in_other_files_are_named() -> None:
    data = b'<?xml-stylesheet type="text/css" href="a.css"?><svg viewBox="0 0 9 9"><rect width="5" height="5"/></svg>'
    with pytest.warns(UserWarning, match="could not be read: xml-stylesheet"):
        document = Document(data)
    assert document.write(document.parameters) == data
