"""New paths in a file: where they stand, how they look there, and that nothing else changes."""

from __future__ import annotations

import re

import pytest
import torch

from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.insertion import Line, NewGroup, NewPath, insert_paths
from tests.vector.conftest import Oracle, Render

SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">
  <g id="all" transform="scale(2) translate(1 0)">
    <rect id="low" width="20" height="20" fill="#0000ff"/>
    <rect id="high" x="8" y="8" width="20" height="20" fill="#00ff00"/>
  </g>
</svg>
"""
SQUARE = NewPath(
    torch.tensor([[10.0, 10.0], [40.0, 10.0], [40.0, 40.0], [10.0, 40.0]]),
    (((0, 0, 1, 1), (1, 1, 2, 2), (2, 2, 3, 3), (3, 3, 0, 0)),),
    (1.0, 0.0, 0.0),
)


def inserted(svg: bytes, below: str | None, path: NewPath = SQUARE) -> Document:
    document = Document(svg)
    element = None if below is None else next(e for e in document.elements if e.attributes.get("id") == below)
    result = insert_paths(document, [NewGroup((path,), element)])
    assert result is not None
    return result.document


@pytest.mark.parametrize(
    ("below", "front", "back"), [(None, "red", "red"), ("high", "lime", "red"), ("low", "lime", "blue")]
)
def test_a_path_looks_the_same_wherever_it_stands(
    below: str | None, front: str, back: str, render: Render, oracle: Oracle
) -> None:
    document = inserted(SVG, below)
    picture, colors = render(document, 64), {"red": [1, 0, 0], "lime": [0, 1, 0], "blue": [0, 0, 1]}
    assert picture[:, 30, 30].tolist() == colors[front] and picture[:, 12, 12].tolist() == colors[back]
    data = document.source.data
    assert (oracle(data, 64, 4) - picture).abs().mean() < 2e-3


@pytest.mark.parametrize("below", [None, "high", "low"])
def test_the_rest_stays_to_the_byte(below: str | None) -> None:
    data = inserted(SVG, below).source.data
    assert re.sub(rb' *<g id="pds-new-paths">.*?</g>\n', b"", data, count=1, flags=re.DOTALL) == SVG


def test_rows_say_where_the_old_numbers_are_now() -> None:
    document = Document(SVG)
    low = next(e for e in document.elements if e.attributes.get("id") == "low")
    result = insert_paths(document, [NewGroup((SQUARE,), low), NewGroup((SQUARE, SQUARE), None)])
    assert result is not None
    for name, values in vars(document.parameters).items():
        before, now = result.rows[name]
        assert torch.equal(getattr(result.document.parameters, name)[now], values[before]), name
    assert result.paths == {0: 1, 1: 2} and [slot.path for slot in result.new] == [0, 3, 4]
    assert b'id="pds-new-paths"' in result.document.source.data
    assert b'id="pds-new-paths-2"' in result.document.source.data


def test_ids_of_an_earlier_edit_are_not_taken_again() -> None:
    again = inserted(inserted(SVG, None).source.data, None).source.data
    assert again.count(b'id="pds-new-paths"') == 1 and again.count(b'id="pds-new-paths-2"') == 1


@pytest.mark.parametrize(
    "style",
    [
        b"<style>path { fill: #ffff00; stroke: #000; opacity: .5 }</style>",
        b"<style>* { fill: #ffff00; stroke-width: 9; stroke: #123456 }</style>",
    ],
)
def test_a_style_sheet_does_not_paint_them(style: bytes, render: Render) -> None:
    document = inserted(SVG.replace(b'viewBox="0 0 64 64">', b'viewBox="0 0 64 64">' + style), None)
    assert render(document, 64)[:, 30, 30].tolist() == [1, 0, 0]
    assert render(document, 64)[:, 30, 42].tolist() != [1, 0, 0]


def test_a_line_around_lies_below_the_fill(render: Render, oracle: Oracle) -> None:
    path = NewPath(SQUARE.points, SQUARE.contours, SQUARE.color, Line((0.0, 0.0, 0.0), 4.0))
    document = inserted(SVG, "high", path)
    picture = render(document, 64)
    assert picture[:, 12, 9].max() < 1e-3 and picture[:, 12, 10].tolist() == [1, 0, 0]
    assert (oracle(document.source.data, 64, 4) - picture).abs().mean() < 3e-3


def test_a_prefix_is_kept(render: Render) -> None:
    svg = b'<s:svg xmlns:s="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><s:circle r="9"/></s:svg>'
    document = inserted(svg, None)
    assert b"<s:path" in document.source.data and render(document, 64)[:, 30, 30].tolist() == [1, 0, 0]


def test_what_is_not_drawn_where_it_stands_is_no_place() -> None:
    kept = b'<defs><rect id="a" width="3" height="3"/></defs>'
    document = Document(b'<svg viewBox="0 0 9 9">' + kept + b'<use href="#a"/></svg>')
    element = next(e for e in document.elements if e.tag == "rect")
    assert insert_paths(document, [NewGroup((SQUARE,), element)]) is None
