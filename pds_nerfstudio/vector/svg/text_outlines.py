"""Text as paths: each text element becomes a group of outlines, in the same place and colours."""

from collections.abc import Iterator
from itertools import groupby
from math import ceil, log10
from xml.sax.saxutils import quoteattr

from pds_nerfstudio.vector.svg.cascade import Cascade, Style
from pds_nerfstudio.vector.svg.import_record import FileIndex
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.properties import INHERITED
from pds_nerfstudio.vector.svg.tag_edits import TagEdit, replacements
from pds_nerfstudio.vector.svg.text_layout import PLACES, NotPlain, lay_out
from pds_nerfstudio.vector.svg.viewbox import parse_view_box
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource, parse_xml

_EXACT = 1e-3
"""How exactly outlines are written, in em."""


def with_outlines(data: bytes, name: str) -> bytes:
    """Return a file with its text as outlines, as far as it is plain; all else stays as it is, byte for byte.

    Args:
        data: The file.
        name: What to call it in messages.

    Raises:
        UserError: If it cannot be read.
    """
    source = parse_xml(data, name)
    cascade = FileIndex(source, name).cascade
    cascade.style(source.root, Style())
    _, _, width, height = parse_view_box(source.root.attributes.get("viewBox")) or (0.0, 0.0, 100.0, 100.0)
    changes: list[tuple[int, int, bytes]] = []
    for element in source.root.walk():
        if element.tag == "text" and element.end > element.start and not _is_in_text(element):
            try:
                changes += _outlined(source, element, cascade, Viewport(width, height))
            except NotPlain:
                continue
    parts, position = [], 0
    for start, end, text in sorted(changes):
        parts += [source.data[position:start], text]
        position = end
    return source.encode(b"".join([*parts, source.data[position:]]))


def _is_in_text(element: Element) -> bool:
    around = element.parent
    while around is not None and around.tag != "text":
        around = around.parent
    return around is not None


def _outlined(
    source: XmlSource, element: Element, cascade: Cascade, view: Viewport
) -> Iterator[tuple[int, int, bytes]]:
    """Return the replacements in the file's bytes that make outlines of a text."""
    close = source.data.index(b">", element.end) + 1
    glyphs = lay_out(element, source.data[element.start : close].decode(), cascade, view)
    closing = source.data[element.end + 2 : close - 1].decode().strip()
    prefix = closing.rpartition(":")[0] + ":" if ":" in closing else ""
    paths = []
    for owner, run in groupby(glyphs, lambda glyph: glyph.owner):
        outlines = [
            glyph.face.outline(glyph.name, glyph.x, glyph.y, glyph.size, max(ceil(-log10(_EXACT * glyph.size)), 0))
            for glyph in run
        ]
        path = "".join(outlines)
        if path:
            style = _declared_within(owner, element, cascade)
            paths.append(f'<{prefix}path d="{path}"{style}/>')
    edit = TagEdit(tag="g", removed={element.raw_attributes[name] for name in PLACES if name in element.attributes})
    sheet = {
        name: given.value
        for name, given in cascade.declared(element).items()
        if given.origin == "sheet" and given.value is not None
    }
    edit.properties = {name: value for name, value in sheet.items() if not name.startswith("font")}
    _, start = source.tag_span(element)
    yield from replacements(source, element, edit)
    yield start, element.end, "".join(paths).encode()


def _declared_within(owner: Element, text: Element, cascade: Cascade) -> str:
    """Return the style attribute that gives a path what the tspans around it declare."""
    chain = [owner]
    while chain[-1] is not text:
        parent = chain[-1].parent
        assert parent is not None
        chain.append(parent)
    found: dict[str, str] = {}
    for element in reversed(chain[:-1]):
        declared = cascade.declared(element).items()
        found |= {name: given.value for name, given in declared if given.value is not None and name in INHERITED}
    text_of = ";".join(f"{name}:{value}" for name, value in found.items() if not name.startswith("font"))
    return f" style={quoteattr(text_of)}" if text_of else ""
