"""What elements draw. Every small drawing is rendered here and, where resvg is installed, there."""

from pathlib import Path

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.raster.scene import Gradient, Group, Shape, Solid
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Oracle, Render

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 32 32">'


def _document(body: str, head: str = HEAD) -> Document:
    return Document(f"{head}{body}</svg>".encode())


def _shapes(node: Shape | Group) -> list[Shape]:
    return [node] if isinstance(node, Shape) else [s for child in node.children for s in _shapes(child)]


DRAWINGS = dict(
    part.split("\n", 1) for part in (Path(__file__).parents[1] / "drawings.txt").read_text().split("\n# ")[1:]
)


@pytest.mark.parametrize("name", DRAWINGS)
def test_small_drawings_look_as_resvg_draws_them(name: str, render: Render, oracle: Oracle) -> None:
    head = HEAD.replace("viewBox", 'width="32" height="32" viewBox')
    data = f"{head}{DRAWINGS[name]}</svg>".encode()
    difference = (render(Document(data)) - oracle(data, 128, 4)).abs()
    # edges may differ by a little, areas may not
    assert difference.square().mean() < 1e-4
    assert difference.max() < 0.15


def test_the_stress_file_looks_as_resvg_draws_it(render: Render, oracle: Oracle) -> None:
    data = (Path(__file__).parents[1] / "stress.svg").read_bytes()
    document = Document(data)
    assert document.unsupported == () and document.size == (420, 420)
    assert psnr(render(document, 512), oracle(data, 512, 4)) > 43


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ('<svg viewBox="1 2 30 20">', (30, 20)),
        ('<svg width="2in" height="48" viewBox="0 0 1 1">', (192, 48)),
        ('<svg width="50%" height="100%" viewBox="0 0 40 10">', (20, 10)),
        ("<svg>", (100, 100)),
    ],
)
def test_size(head: str, size: tuple[float, float]) -> None:
    assert _document("", head).size == size


def test_shared_things_share_rows() -> None:
    document = _document(
        '<linearGradient id="g"><stop stop-color="red"/><stop offset="1" stop-color="blue"/></linearGradient>'
        '<path id="p" d="M0 0L9 0 9 9z" fill="url(#g)"/><use href="#p" x="9"/>'
        '<rect width="4" height="4" stroke="url(#g)"/>'
    )
    first, second, third = _shapes(document.scene.root)
    assert first.path == second.path and first.fill == second.fill
    assert first.fill is not None and isinstance(first.fill.paint, Gradient)
    assert third.stroke is not None and isinstance(third.stroke.paint, Gradient)
    assert third.stroke.paint.stops == first.fill.paint.stops
    assert document.parameters.colors.shape[0] == 3


def test_a_used_shape_seen_in_two_colours_has_none_to_edit() -> None:
    document = _document(
        '<path id="p" d="M0 0L9 0 9 9z"/><use href="#p" fill="red"/><path d="M0 0L9 0 9 9z" fill="lime"/>'
    )
    fills = [shape.fill.paint for shape in _shapes(document.scene.root) if shape.fill is not None]
    colors = [paint.color for paint in fills if isinstance(paint, Solid)]
    assert document.editable["colors"][colors].tolist() == [False, False, True]
    assert document.editable["points"].all()


def test_a_stroke_that_one_use_lacks_has_no_colour_to_edit() -> None:
    body = '<path id="p" d="M0 0L9 0 9 9z"/><use href="#p" stroke="red"/>'
    document = _document(body)
    stroke = _shapes(document.scene.root)[1].stroke
    assert stroke is not None and isinstance(stroke.paint, Solid)
    assert not document.editable["colors"][stroke.paint.color]


def test_what_is_not_drawn_is_named_once() -> None:
    body = """<text>a</text><text>b</text><image href="http://127.0.0.1:9/x.png"/><filter id="f"/><mask
    id="m"/> <pattern id="p"/><rect width="4" height="4" filter="url(#f)" mask="url(#m)" fill="url(#p)"
    marker-end="url(#q)"/> <use href="other.svg#a"/><path d="M0 0L1 1 1
    2X"/><style>a:hover{fill:red}</style>"""
    with pytest.warns(UserWarning, match="filter") as caught:
        document = _document(body)
    assert len(caught) == 1
    assert document.unsupported == (
        "filter", "image", "marker", "mask", "path data after an error", "pattern",
        "references to other files", "selector 'a:hover'", "text",
    )  # fmt: skip
    assert all(name in str(caught[0].message) for name in document.unsupported)


BOMB = "".join(f'<g id="g{i}">' + f'<use href="#g{i - 1}"/>' * 10 + "</g>" for i in range(1, 9))


@pytest.mark.parametrize(
    "body",
    [
        '<g id="a"><use href="#a"/></g>',
        '<use id="a" href="#b"/><use id="b" href="#a"/>',
        '<symbol id="a"><use href="#b"/></symbol><g id="b"><use href="#a"/></g>',
        f'<g id="g0"><path d="M0 0h1v1z"/></g>{BOMB}',
        '<clipPath id="c" clip-path="url(#c)"/><rect width="9" height="9" clip-path="url(#c)"/>',
        '<clipPath id="c"><rect width="9" height="9" clip-path="url(#c)"/></clipPath>'
        '<g clip-path="url(#c)"><circle r="2"/></g>',
        '<clipPath id="c"><use id="u" href="#u"/></clipPath><g clip-path="url(#c)"><circle r="2"/></g>',
        '<linearGradient id="g" href="#h"/><linearGradient id="h" href="#g"/><circle r="3" fill="url(#g)"/>',
    ],
)  # fmt: skip
def test_what_leads_to_itself_is_refused_in_one_line(body: str) -> None:
    with pytest.raises(UserError) as error:
        _document(body)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "head", ['<svg width="0" height="3">', '<svg width="-4" height="3">', '<svg width="x">', "<g>"]
)
def test_a_drawing_without_size_is_refused(head: str) -> None:
    with pytest.raises(UserError):
        Document(f"{head}</{head[1:].split('>')[0].split()[0]}>".encode())


def test_an_empty_drawing_is_white(render: Render) -> None:
    assert render(_document("")).min() == 1
    assert _document('<g><g/><rect width="0" height="3"/></g>').scene.root == Group((Group(()),))


def test_huge_numbers_stay_finite(render: Render) -> None:
    body = """<path d="M-1e9 -1e9L1e9 3 5 1e9z" stroke="red" stroke-width="1e9" transform="scale(1e8)"/>
    <circle r="1e300"/><rect width="1e9" height="1e9" fill="blue" transform="scale(1e-9)"/>
    <path d="M0 0h30" stroke="red" stroke-dasharray="1e-9"/>"""
    assert render(_document(body)).isfinite().all()


def test_deep_nesting_within_the_bound_is_drawn(render: Render) -> None:
    depth = 140
    body = '<g opacity=".99">' * depth + '<path d="M0 0h32v32h-32z"/>' + "</g>" * depth
    expected = 1 - 0.99**depth
    assert float(render(_document(body), 8)[0, 4, 4]) == pytest.approx(expected, abs=1e-3)
