"""What several elements have from one declaration is edited there, and goes on being shared."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.svg.document import Document

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"{}>'
A, B, C = (f'<path{{}} d="M{x} 1h3v3z"/>' for x in (1, 6, 11))
BLUE = torch.tensor([0, 0, 1.0])


def _document(body: str, root: str = "") -> Document:
    return Document((HEAD.format(root) + body + "</svg>").encode())


def _write(document: Document, **changes: Callable[[Tensor], Tensor]) -> str:
    changed = {name: change(getattr(document.parameters, name).clone()) for name, change in changes.items()}
    return document.write(replace(document.parameters, **changed)).decode()


def _blue(*rows: int) -> Callable[[Tensor], Tensor]:
    def paint(colors: Tensor) -> Tensor:
        colors[list(rows) or slice(None)] = BLUE
        return colors

    return paint


ALL_BLUE = [
    ("", "<style>.a{{fill:{}}}</style>" + 2 * '<path class="a" d="M1 1h3v3z"/>', "red", "#0000ff"),
    ("", "<style><![CDATA[\n/* ö */ <!-- @media screen {{\r\n .b, .a {{\r\n fill : {}!important }} }}]]></style>"
     + 2 * '<path class="a" d="M1 1h3v3z"/>', "red", "#0000ff"),
    ("", '<g fill="{}">' + 2 * '<path d="M1 1h3v3z"/>' + "</g>", "red", "#0000ff"),
    ("", '<g style="opacity:1;fill:{}"><g><path d="M1 1h3v3z"/></g><path fill="inherit" d="M1 1h3v3z"/></g>',
     "red", "#0000ff"),
    (' fill="none" stroke="currentColor" color="{}"', 2 * '<path d="M1 1h3v3z"/>', "red", "#0000ff"),
    (' fill="currentColor"{}', 2 * '<path d="M1 1h3v3z"/>', "", ' color="#0000ff"'),
    ("", "<style>svg{{--m: {};--n:var(--m)}}.a{{fill:var(--m)}}.b{{fill:var(--n, tan)}}</style>"
     '<path class="a" d="M1 1h3v3z"/><path class="b" d="M1 1h3v3z"/>', "red", "#0000ff"),
    ("", '<defs><path id="p" d="M1 1h3v3z"/></defs><g fill="{}"><use href="#p"/><use href="#p" x="9"/></g>',
     "red", "#0000ff"),
]  # fmt: skip


@pytest.mark.parametrize(("root", "body", "before", "after"), ALL_BLUE)
def test_what_changes_for_all_is_written_where_it_is_declared(root: str, body: str, before: str, after: str) -> None:
    document = _document(body.format(before), root.format(before))
    assert _write(document, colors=_blue()) == HEAD.format(root.format(after)) + body.format(after) + "</svg>"


def test_widths_and_opacities_are_shared_too() -> None:
    body = '<style>.a{{stroke-width:{}}}</style><g fill-opacity="{}" stroke="red">{}</g>'
    paths = (A + B).format(*2 * [' class="a"'])
    found = _write(
        _document(body.format("2px", ".5", paths)),
        widths=lambda w: w + 1,
        opacities=lambda o: torch.where(o == 0.5, 0.25, o),
    )
    assert found == HEAD.format("") + body.format("3", "0.25", paths) + "</svg>"


def test_one_that_differs_gets_its_own_value() -> None:
    paths = (A + B + C).format(*3 * [' class="a"'])
    document = _document("<style>.a{fill:red}</style>" + paths)

    def paint(colors: Tensor) -> Tensor:
        colors[:] = BLUE
        colors[1] = torch.tensor([0, 1.0, 0])
        return colors

    found = _write(document, colors=paint)
    assert found.count("style=") == 1 and ".a{fill:#0000ff}" in found
    assert _document(found[len(HEAD.format("")) : -6]).parameters.colors.tolist() == paint(torch.zeros(3, 3)).tolist()


def test_one_that_stays_keeps_what_it_has_to_the_byte() -> None:
    paths = (A + B + C).format(*3 * [' class="a"'])
    found = _write(_document("<style>.a{fill:red}</style>" + paths), colors=_blue(0))
    blue = A.format(' class="a"').replace("/>", ' style="fill:#0000ff"/>')
    assert found == HEAD.format("") + "<style>.a{fill:red}</style>" + blue + (B + C).format(*2 * [' class="a"']) + (
        "</svg>"
    )


@pytest.mark.filterwarnings("ignore:SVG. drawn, but not edited")
@pytest.mark.parametrize(
    "other",
    [
        "<text>t</text>",
        '<text class="a">t</text>',
        '<pattern id="q"><path d="M0 0h1v1z" class="a"/></pattern>',
        '<text style="stroke:var(--m)">t</text>',
    ],
)
def test_what_is_not_drawn_stays_as_it_is(other: str) -> None:
    sheet = "<style>svg{fill:var(--m);--m:red} .a{fill:red}</style>"
    own = "" if other == "<text>t</text>" or "var" in other else ' class="a"'
    found = _write(_document(sheet + (A + B).format(own, own) + other), colors=_blue())
    assert sheet in found and other in found
    assert found.count("#0000ff") == 2


def test_a_declaration_with_several_values_is_not_edited() -> None:
    body = '<g fill="currentColor"><g color="red">{}</g><g color="tan">{}</g></g>'.format(A.format(""), B.format(""))
    found = _write(_document(body), colors=_blue())
    assert found.count('color="#0000ff"') == 2 and found.count("currentColor") == 1
    width = '<g stroke-width="1em" stroke="red"><g font-size="3">{}</g>{}</g>'.format(A.format(""), B.format(""))
    assert 'stroke-width="1em"' in _write(_document(width), widths=lambda w: w * 0 + 2)


def test_what_is_used_with_two_colours_is_not_shared() -> None:
    body = '<defs>{}</defs><use href="#p" fill="red"/><use href="#p" fill="tan"/>'.format(A.format(' id="p"'))
    assert _write(_document(body), colors=_blue()) == HEAD.format("") + body + "</svg>"


def test_sharers_change_alike() -> None:
    other = '<path d="M20 20h9v9z" fill="tan"/>'
    editor = VectorEditor(_document("<style>.a{fill:red}</style>" + (A + B).format(*2 * [' class="a"']) + other), 64)
    optimizer = torch.optim.SGD(editor.parameter_groups({**dict.fromkeys(editor.groups, 0.0), "colors": 0.01}))
    goal = torch.zeros(3, 64, 64)
    goal[0, :, :12] = 1  # the two should differ
    editor.render().sub(goal).square().sum().backward()
    optimizer.step()
    editor.project()
    first, second, alone = editor.parameters().colors
    assert first.tolist() == second.tolist() != [1, 0, 0]
    assert alone.tolist() != editor.source.colors[2].tolist()


def test_of_sharers_those_that_may_not_change_stay() -> None:
    document = _document("<style>.a{fill:red}</style>" + (A + B + C).format(*3 * [' class="a"']))
    editor = VectorEditor(document, 64, ["colors"])
    start = replace(editor.source, colors=editor.source.colors.clone())
    editor.start(document, start, freedom={"colors": torch.tensor([0, 1.0, 0.5])})
    with torch.no_grad():
        editor.changes["colors"][1] = torch.tensor([-0.5, 0, 0])
    assert editor.parameters().colors[:, 0].tolist() == [1, 0.75, 0.75]
