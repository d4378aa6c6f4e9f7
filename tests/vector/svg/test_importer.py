"""What elements draw. Every small drawing is rendered here and, where resvg is installed, there."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.raster.scene import Gradient, Group, Node, Shape, Solid
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Oracle, Render

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 32 32">'


def _document(body: str, head: str = HEAD) -> Document:
    return Document(f"{head}{body}</svg>".encode())


def _shapes(node: Node) -> list[Shape]:
    if isinstance(node, Group):
        return [shape for child in node.children for shape in _shapes(child)]
    return [node] if isinstance(node, Shape) else []


DRAWINGS = dict(
    part.split("\n", 1) for part in (Path(__file__).parents[1] / "drawings.txt").read_text().split("\n# ")[1:]
)


@pytest.mark.filterwarnings("ignore:.*could not be read", "ignore:.*drawn, but not edited")
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
    body = """<foreignObject/><image href="http://127.0.0.1:9/x.png"/><image href="http://127.0.0.1:9/y.png"/>
    <rect width="4" height="4" filter="none()" fill="url(#p)"/><hatch id="p"/> <use href="other.svg#a"/>
    <path d="M0 0L1 1 1 2X"/><style>a:odd{fill:red}</style>"""
    with pytest.warns(UserWarning, match="filter") as caught:
        document = _document(body)
    assert len(caught) == 1
    assert document.unsupported == (
        "filter 'none()'", "foreignObject", "hatch", "image", "path data after an error",
        "references to other files", "selector 'a:odd'",
    )  # fmt: skip
    assert all(name in str(caught[0].message) for name in document.unsupported)


ALIKE = {
    "a value that cannot be read is dropped": (
        '<g fill="lime"><path d="M4 4h20v20z" fill="nonsense" style="stroke:red;stroke:12"/></g>',
        '<path d="M4 4h20v20z" fill="lime" stroke="red"/>',
    ),
    "variables and their fallbacks": (
        '<style>svg{--w:3px}</style><path d="M4 4h20v20z" fill="var(--a, lime)" style="stroke-width:var(--w);'
        'stroke:var(--b, var(--c, #e60))"/>',
        '<path d="M4 4h20v20z" fill="lime" stroke="#e60" stroke-width="3"/>',
    ),
    "em of the font": (
        '<g font-size="4"><circle cx="4em" cy="4em" r="1em" stroke="red" stroke-width=".5em"/>'
        '<rect width="1rem" height="1ex" style="font-size:200%"/></g>',
        '<circle cx="16" cy="16" r="4" stroke="red" stroke-width="2"/><rect width="16" height="4"/>',
    ),
    "an origin of transforms": (
        '<rect x="8" y="12" width="16" height="8" transform="rotate(45)" transform-origin="16 16"/>',
        '<rect x="8" y="12" width="16" height="8" transform="rotate(45 16 16)"/>',
    ),
    "an origin in CSS": (
        '<g style="transform-origin:center;transform:rotate(45deg) scale(.7)"><path d="M8 4h20v9z"/></g>',
        '<g transform="translate(16 16) rotate(45) scale(.7) translate(-16 -16)"><path d="M8 4h20v9z"/></g>',
    ),
    "an origin in the shape's box": (
        '<rect x="8" y="12" width="16" height="8" style="transform-box:fill-box;transform-origin:0% 50%;'
        'transform:translateX(25%) rotate(30deg)"/>',
        '<rect x="8" y="12" width="16" height="8" transform="translate(4) rotate(30 8 16)"/>',
    ),
    "geometry in CSS": (
        "<style>.a{r:6px;cx:50%;cy:14px} rect{width:5px;height:4px;rx:auto;ry:1px}</style><circle class='a' r='1'/>"
        "<rect x='2' style='x:3px'/><path d='M0 0' style=\"d:path('M20 20h8v8z')\"/>"
        "<svg x='9' width='4' height='4' style='x:20px;height:6px'><path d='M0 0h9v9h-9z'/></svg>",
        '<circle r="6" cx="16" cy="14"/><rect x="3" width="5" height="4" ry="1"/><path d="M20 20h8v8z"/>'
        '<path d="M20 0h4v6h-4z"/>',
    ),
    "a switch for readers of English": (
        '<switch><g systemLanguage="de"><path d="M0 0h30v30z"/></g><o:x xmlns:o="urn:o"/>'
        '<path d="M4 4h9v9z" systemLanguage="fr, en-GB"/><path d="M0 0h3v3z"/></switch>'
        '<path d="M0 0h30v3z" systemLanguage="fr"/><switch><path requiredExtensions="" d="M0 0h30v3z"/></switch>',
        '<path d="M4 4h9v9z"/>',
    ),
    "box first, then the transform of the clip path": (
        '<clipPath id="c" clipPathUnits="objectBoundingBox" transform="translate(2 -3)"><circle cx=".5" cy=".5"'
        ' r=".4"/></clipPath><rect x="4" y="8" width="20" height="10" transform="rotate(9)" clip-path="url(#c)"/>',
        '<clipPath id="c"><ellipse cx="16" cy="10" rx="8" ry="4"/></clipPath>'
        '<rect x="4" y="8" width="20" height="10" transform="rotate(9)" clip-path="url(#c)"/>',
    ),
    "clip paths of clip paths in units of boxes": (
        '<clipPath id="d" clipPathUnits="objectBoundingBox"><rect width=".5" height="1"/></clipPath>'
        '<clipPath id="c" clipPathUnits="objectBoundingBox" clip-path="url(#d)"><circle cx=".5" cy=".5" r=".5"'
        ' clip-path="url(#e)"/></clipPath><clipPath id="e" clipPathUnits="objectBoundingBox"><rect width="1"'
        ' height=".75"/></clipPath><g clip-path="url(#c)"><rect x="4" y="8" width="9" height="12"/>'
        '<rect x="20" y="10" width="4" height="4"/></g>',
        '<clipPath id="d"><rect x="4" y="8" width="10" height="9"/></clipPath><clipPath id="c" clip-path="url(#d)">'
        '<ellipse cx="14" cy="14" rx="10" ry="6"/></clipPath><g clip-path="url(#c)"><rect x="4" y="8" width="9"'
        ' height="12"/><rect x="20" y="10" width="4" height="4"/></g>',
    ),
    "dashes in a measure of the author's": (
        '<path d="M4 4h24v8h-24" fill="none" stroke="red" pathLength="7" stroke-dasharray="1 .5"'
        ' stroke-dashoffset=".25"/>',
        '<path d="M4 4h24v8h-24" fill="none" stroke="red" stroke-dasharray="8 4" stroke-dashoffset="2"/>',
    ),
    "a sign separates": (
        '<polygon points="10 10,28 8-5 20.5.5 24" transform="translate(2-1)"/>',
        '<polygon points="10 10 28 8 -5 20.5 .5 24" transform="translate(2 -1)"/>',
    ),
    "what uses itself is left out": (
        '<g id="g"><path d="M4 4h20v20z"/><g><use href="#g" x="3"/></g></g>'
        '<clipPath id="c" clip-path="url(#c)"><path d="M0 0h9v9h-9z" clip-path="url(#c)"/></clipPath>'
        '<path d="M0 20h20v9h-20z"/><path d="M3 3h20v9h-20z" clip-path="url(#c)" fill="red"/>',
        '<path d="M4 4h20v20z"/><path d="M0 20h20v9h-20z"/><path d="M3 3h6v6h-6z" fill="red"/>',
    ),
    "what has no box cannot be cut to it": (
        '<clipPath id="c" clipPathUnits="objectBoundingBox"><rect width="1" height="1"/></clipPath>'
        '<path d="M4 4h20" stroke="red" stroke-width="9" clip-path="url(#c)"/>',
        "",
    ),
}
"""Two files each that must look the same."""


@pytest.mark.filterwarnings("ignore:.*references to themselves")
@pytest.mark.filterwarnings("ignore:.*could not be read")
@pytest.mark.parametrize("name", ALIKE)
def test_two_ways_to_say_the_same_look_the_same(name: str, render: Render) -> None:
    one, other = (render(_document(body)) for body in ALIKE[name])
    assert (one - other).abs().max() < 2e-3


def test_a_background_is_as_large_as_the_viewport(render: Render) -> None:
    head = '<svg viewBox="0 0 40 20" style="background:rgb(255 0 0 / .5)" opacity=".1">'
    picture = render(_document('<path d="M-99 5h200v5h-200z"/>', head), 40)
    assert (picture[:, :10] == 1).all() and (picture[:, 30:] == 1).all()
    torch.testing.assert_close(picture[:, 25], torch.tensor([1.0, 0.5, 0.5])[:, None].expand(3, 40))
    assert (picture[:, 17] < picture[:, 25]).any()


@pytest.mark.parametrize("transform", ["rotate(180)", "scale(-1)", "translate(40 20) rotate(180)"])
def test_the_outermost_element_is_turned_about_its_middle(transform: str, render: Render) -> None:
    head = f'<svg viewBox="0 0 8 4" width="40" height="20" transform="{transform}"'
    about = ' transform-origin="0 0">' if "translate" in transform else ">"
    picture = render(_document('<path d="M0 0h2v4h-2z"/>', head + about), 40)
    assert (picture[:, 10:30, 30:] == 0).all() and (picture[:, :, :30] == 1).all()


@pytest.mark.filterwarnings("ignore:.*could not be read")
@pytest.mark.parametrize(
    ("body", "locked"),
    [
        ('<path d="M0 0h9v9z" fill="lab(50 1 1)" stroke="red"/>', {"colors": [True, False]}),
        ('<g fill="var(--theme)"><path d="M0 0h9v9z" stroke="red"/></g>', {"colors": [True, False]}),
        (
            '<g color="var(--theme)"><path d="M0 0h9v9z" fill="currentColor" stroke="red"/></g>',
            {"colors": [True, False]},
        ),
        ('<g fill="lab(50 1 1)"><path d="M0 0h9v9z" style="fill:red"/></g>', {"colors": [False]}),
        ('<path d="M0 0h9v9z" stroke="red" stroke-width="calc(1px)"/>', {"widths": [True]}),
        ('<path d="M0 0h9v9z" fill-opacity="calc(1)"/>', {"opacities": [True]}),
        ('<path d="M0 0h9z" transform="rotate3d(1,1,1,45deg)"/>', {"points": [True] * 2}),
        ('<g style="rotate:20deg"><path d="M0 0h9z"/></g>', {"points": [True] * 2}),
        ('<line x2="calc(3px)" y2="9"/><line y2="1"/>', {"points": [True] * 2 + [False] * 2}),
        ('<line x2="9" style="transform-box:fill-box;transform:scale(2)"/>', {"points": [True] * 2}),
        (
            '<linearGradient id="g" gradientTransform="wobble(3)"><stop stop-color="lch(1 2 3)"/><stop offset="1"/>'
            '</linearGradient><path d="M0 0h9v9z" fill="url(#g)"/>',
            {"gradients": [True], "colors": [True, False]},
        ),
    ],
)
def test_what_could_not_be_read_is_not_edited(body: str, locked: dict[str, list[bool]]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        document = _document(body)
    editable = document.editable
    assert {name: (~editable[name]).tolist() for name in locked} == locked
    if any(True in rows for rows in locked.values()) and "fill-box" not in body:
        assert len(caught) == 1 and "could not be read" in str(caught[0].message)


def test_a_warning_has_an_end() -> None:
    with pytest.warns(UserWarning, match=r"fill 'x21', and 18 more$"):
        _document("".join(f'<path fill="x{k:02}" d="M0 0h1v1z"/>' for k in range(10, 40)))


def test_what_is_drawn_plain_is_said_so() -> None:
    noise = '<filter id="f"><feTurbulence baseFrequency=".1" numOctaves="1000000000"/></filter>'
    with pytest.warns(UserWarning, match=r"drawn without, but kept in the file: feTurbulence$"):
        document = _document(noise + '<g filter="url(#f)"><path d="M0 0h9v9z"/></g>')
    assert document.unsupported == ("feTurbulence",)


MARKER = '<marker id="m" markerWidth="4" markerHeight="4"><path d="M0 0h4v4z" fill="red"/></marker>'


def test_markers_and_what_they_stand_on_stay() -> None:
    body = f"""{MARKER}<path d="M4 4h20v9" stroke="blue" marker-end="url(#m)"/><path d="M0 0h9v9z" stroke="red"/>"""
    with pytest.warns(UserWarning, match=r"drawn, but not edited: paths with markers, and markers$"):
        document = _document(body)
    points, colors = document.editable["points"], document.editable["colors"]
    assert [bool(points[p.first]) for p in document.paths] == [False, False, True]
    # the paints of the path are its own, those of the marker are locked
    red = document.parameters.colors[~colors]
    assert red.tolist() == [[1, 0, 0]] and document.editable["widths"].tolist() == [False, True]


@pytest.mark.filterwarnings("ignore:.*drawn, but not edited")
@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("M4 4L20 4L20 9", [(4, 4, 0), (20, 4, 45), (20, 9, 90)]),
        ("M4 4A6 6 0 1 1 4 16L4 20", [(4, 4, 0), (4, 16, 135), (4, 20, 90)]),
        ("M4 4L20 4L20 20z", [(4, 4, -67.5), (20, 4, 45), (20, 20, 157.5), (4, 4, -67.5)]),
    ],
)
def test_markers_stand_on_vertices_along_the_path(path: str, places: list[tuple[float, float, float]]) -> None:
    style = "marker:url(#m)"
    marker = MARKER.replace("<marker", '<marker orient="auto" markerUnits="userSpaceOnUse" overflow="visible"')
    (_, *markers) = _shapes(_document(f'''{marker}<path style="{style}" d="{path}"/>''').scene.root)
    found = [(*s.transform[4:], math.degrees(math.atan2(s.transform[1], s.transform[0]))) for s in markers]
    assert len(found) == len(places)
    for (x, y, angle), (px, py, expected) in zip(found, places, strict=True):
        assert (x, y) == pytest.approx((px, py))
        assert angle == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["marker", "marker-mid"])
def test_a_marker_with_itself_on_its_paths_ends(name: str) -> None:
    body = f'''<marker id="m"><path d="M0 0h2v2" style="{name}:url(#m)"/></marker>
    <path d="M0 0h9v9" marker-mid="url(#m)"/>'''
    with pytest.warns(UserWarning, match="references to themselves"):
        _document(body)


def test_a_stroke_that_does_not_scale_is_as_wide_as_it_says(render: Render) -> None:
    around = '<g transform="rotate(20) scale(4)">{}</g>'
    line = '<path d="M2 1h4v4" fill="none" stroke="red" stroke-width="{}" stroke-dasharray="{}"{}/>'
    given = _document(around.format(line.format(2, "6 3", ' vector-effect="non-scaling-stroke"')))
    assert given.unsupported == () and bool(given.editable["widths"].all())
    assert torch.equal(render(given), render(_document(around.format(line.format(0.5, "1.5 .75", "")))))
    wider = replace(given.parameters, widths=given.parameters.widths * 2)
    assert b'stroke-width="4"' in given.write(wider)


def test_a_stroke_that_would_need_an_oval_pen_is_named() -> None:
    with pytest.warns(UserWarning, match="drawn without, but kept in the file: vector-effect$"):
        _document('<path d="M2 1h4" stroke="red" transform="scale(1 4)" vector-effect="non-scaling-stroke"/>')


BOMB = "".join(f'<g id="g{i}">' + f'<use href="#g{i - 1}"/>' * 10 + "</g>" for i in range(1, 9))


@pytest.mark.parametrize(
    "body",
    [
        '<g id="a"><use href="#a"/></g>',
        '<use id="a" href="#b"/><use id="b" href="#a"/>',
        '<symbol id="a"><use href="#b"/></symbol><g id="b"><use href="#a"/></g>',
        '<clipPath id="c" clip-path="url(#c)"/><rect width="9" height="9" clip-path="url(#c)"/>',
        '<clipPath id="c"><rect width="9" height="9" clip-path="url(#c)"/></clipPath>'
        '<g clip-path="url(#c)"><circle r="2"/></g>',
        '<clipPath id="c"><use id="u" href="#u"/></clipPath><g clip-path="url(#c)"><circle r="2"/></g>',
        '<linearGradient id="g" href="#h"/><linearGradient id="h" href="#g"/><circle r="3" fill="url(#g)"/>',
    ],
)  # fmt: skip
def test_what_leads_to_itself_is_named_in_one_line(body: str) -> None:
    with pytest.warns(UserWarning, match="references to themselves") as caught:
        _document(body)
    assert "\n" not in str(caught[0].message)


def test_uses_without_measure_are_refused_in_one_line() -> None:
    with pytest.raises(UserError) as error:
        _document(f'<g id="g0"><path d="M0 0h1v1z"/></g>{BOMB}')
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
