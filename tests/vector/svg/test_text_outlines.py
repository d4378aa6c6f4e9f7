"""Text as outlines: it looks as before, and what is not plain stays text."""

import warnings
from pathlib import Path

import pytest

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.text_outlines import with_outlines
from tests.vector.conftest import Oracle, Render

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32" viewBox="0 0 32 32" font-family="DejaVu Sans">'
TEXTS = {
    "kerned": '<text x="2" y="20" font-size="11" fill="navy">AVATo</text>',
    "tspans": '<text id="t" x="2" y="12" font-size="8">a<tspan fill="red" font-weight="bold" dx="1">b <tspan '
    'font-size="12" opacity=".2">c</tspan></tspan>\n  d</text>',
    "places of each": '<text x="2 9 18" y="10 14" dy="0 0 4" font-size="9">ABCd</text>',
    "anchors": '<g font-size="7"><text x="50%" y="8" text-anchor="middle">Mid</text><text x="31" y="16"'
    ' style="text-anchor:end" letter-spacing="1">End</text><text x="16" y="24" text-anchor="middle">A<tspan '
    'y="31">bc</tspan></text></g>',
    "rules": "<style>text{fill:teal;stroke:red;stroke-width:.3px}tspan.b{fill:gold}.c{font:italic 9px serif}</style>"
    '<text class="c" x="2" y="12" stroke-linejoin="round">Qu<tspan class="b">ick</tspan></text>',
    "turned, clear, in em": '<text transform="rotate(20)" opacity=".5" x="1em" y="2em" font-size="6" word-spacing="2">'
    "a b &amp; c</text>",
    "other prefixes": '<s:text xmlns:s="http://www.w3.org/2000/svg" xmlns:i="urn:i" i:label="x" x="2" y="20"'
    ' font-size="14">ok<s:tspan i:role="line">!</s:tspan></s:text>',
    "in a collection of others": '<text y="9" font-size="6" font-family="No Such Font, monospace">mono</text><text '
    'y="20" font-family="No Such Font" font-size="6">none</text>',
}


@pytest.mark.parametrize("name", TEXTS)
def test_outlines_look_as_the_text(name: str, render: Render, oracle: Oracle) -> None:
    data = f"{HEAD}{TEXTS[name]}</svg>".encode()
    outlined = with_outlines(data, "a.svg")
    assert b"text>" not in outlined.replace(b"<style>text", b"") and b"path" in outlined
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        document = Document(outlined)
    assert any(document.editable["points"])
    assert psnr(render(document), oracle(data, 128, 4)) > 36
    assert (1 - render(document)).mean() > 0.005


LEFT = {
    "on a path": '<path id="p" d="M0 9h30"/><text><textPath href="#p">a</textPath></text>',
    "from right to left": '<text y="20">\u05d0\u05d1</text>',
    "shaped": '<text y="20">\u0e01\u0e33</text>',
    "turned letters": '<text y="20" rotate="10">a</text>',
    "underlined": '<text y="20" style="text-decoration:underline">a</text>',
    "fitted": '<text y="20" textLength="20">a</text>',
    "vertical": '<text y="20" writing-mode="tb">a</text>',
    "kept blanks": '<text y="20" xml:space="preserve"> a</text>',
    "without a glyph": '<text y="20">\U0001f9ff</text>',
    "in a box of its own": '<filter id="f"><feOffset dx="1"/></filter><text y="20" filter="url(#f)">a</text>',
    "another text in it": '<text y="20">a<text>b</text></text>',
    "an entity of the file": '<text y="20">&e;</text>',
    "nothing": '<text y="20"/>',
}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_not_plain_stays_text(what: str) -> None:
    data = f'<!DOCTYPE svg [<!ENTITY e "e">]>{HEAD}{LEFT[what]}</svg>'.encode()
    assert with_outlines(data, "a.svg") == data


def test_all_else_stays_byte_for_byte(tmp_path: Path) -> None:
    before, after = "<rect  width='3'\nheight='3'/><!-- a -->", "<g ><circle r='2' /></g>"
    text = '<text id="t"  x="3" y=\'9\' style="fill:red" font-size="9">I</text>'
    file = tmp_path / "a.svg"
    file.write_bytes(f"{HEAD}{before}{text}{after}</svg>".encode("utf-16"))
    document = Document.read(file, outlines=True)
    written = document.write(document.parameters).decode("utf-16")
    start, end = written.split(before)[1].split(after)[0], written.endswith(f"{after}</svg>")
    assert end and start.startswith('<g id="t"') and 'style="fill:red" font-size="9"><path d="M' in start
    assert start.endswith("/></g>") and " x=" not in start and " y=" not in start
