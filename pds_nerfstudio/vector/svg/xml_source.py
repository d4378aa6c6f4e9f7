"""An XML file as a tree of elements that know where in the file their start tags and attributes stand.

expat parses, and never fetches anything. What makes XML dangerous is refused as well: external entities, entities that
contain markup or grow long, very large files, very deep ones. A file may be compressed by gzip (.svgz).
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from pds_nerfstudio.errors import UserError

MAX_BYTES = 32 * 2**20
MAX_ELEMENTS = 200_000
MAX_DEPTH = 150
MAX_ENTITIES = 256
MAX_ENTITY_LENGTH = 256

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
EDITORS = ("http://www.inkscape.org/namespaces/inkscape", "http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd")
"""Namespaces of what Inkscape keeps in a file for itself."""

_GZIP = b"\x1f\x8b"
_PICTURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"RIFF": "WebP", b"%PDF": "PDF"}

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_ATTRIBUTE = re.compile(rb"\s([^\s=/>]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_REFERENCE = re.compile(r"&([^\s&;#]+);")
_DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


@dataclass(eq=False)
class Element:
    """One element."""

    tag: str
    """Local name of an SVG element, "{namespace}name" of any other."""
    attributes: dict[str, str]
    """Values by local name, without those of foreign namespaces; a plain href wins over one of xlink."""
    parent: "Element | None"
    """What it stands in; None for the root."""
    start: int
    """Byte where the start tag begins."""
    raw_attributes: dict[str, str]
    """Names as they stand in the file, for each key of `attributes`."""
    editor_attributes: dict[str, str] = field(default_factory=dict)
    """Names as they stand in the file, by local names, of attributes in one of the namespaces `EDITORS`."""
    children: list["Element"] = field(default_factory=list)
    """What stands in it."""
    text: str = ""
    """Character data directly inside a style element."""
    end: int = 0
    """Byte where the end tag begins, for an element that has one."""

    @property
    def attrib(self) -> dict[str, str]:
        """The attributes, by the name that `cssselect2` knows from `xml.etree`."""
        return self.attributes

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def __iter__(self) -> Iterator["Element"]:
        """Return what stands in it."""
        return iter(self.children)

    def walk(self) -> Iterator["Element"]:
        """Return the element and all below it, in document order."""
        stack = [self]
        while stack:
            element = stack.pop()
            yield element
            stack.extend(reversed(element.children))


@dataclass(frozen=True)
class XmlSource:
    """A parsed file."""

    data: bytes
    """The file in UTF-8; all positions count in it."""
    encoding: str
    """What the file itself is written in."""
    mark: bytes
    """The byte order mark before it."""
    root: Element
    """The outermost element."""
    packed: bytes | None = None
    """The file as it came, if it was compressed."""
    stylesheets: tuple[str, ...] = ()
    """What `xml-stylesheet` instructions of the file say."""

    def tag_span(self, element: Element) -> tuple[int, int]:
        """Return where a start tag begins, and where it has ended."""
        at = element.start
        while True:
            close = self.data.index(b">", at)
            quoted = _open_quote(self.data[element.start : close])
            if quoted is None:
                return element.start, close + 1
            at = self.data.index(quoted, close) + 1

    def attribute_spans(self, element: Element) -> dict[str, tuple[int, int]]:
        """Return for each attribute, by its name in the file, where its value stands, without the quotes."""
        start, end = self.tag_span(element)
        tag = self.data[start:end]
        return {
            match[1].decode(): (start + match.start(2) + 1, start + match.end(2) - 1)
            for match in _ATTRIBUTE.finditer(tag)
        }

    def encode(self, data: bytes) -> bytes:
        """Return UTF-8 text in the file's own encoding, compressed if the file was.

        Raises:
            UserError: If the text has a character which that encoding lacks.
        """
        if self.packed is not None and data == self.data:
            return self.packed
        try:
            written = self.mark + data.decode().encode(self.encoding)
            return written if self.packed is None else gzip.compress(written, mtime=0)
        except UnicodeEncodeError as error:
            raise UserError(f"The file's encoding {self.encoding} cannot hold the edit; save it as UTF-8.") from error


def _open_quote(tag: bytes) -> bytes | None:
    """Return the quote in which a piece of a tag breaks off, if it does."""
    rest = tag
    while True:
        found = re.search(rb"[\"']", rest)
        if found is None:
            return None
        close = rest.find(found[0], found.end())
        if close < 0:
            return found[0]
        rest = rest[close + 1 :]


def _unpacked(data: bytes, name: str) -> bytes:
    """Return what a gzip file holds, which is no more than MAX_BYTES."""
    parts: list[bytes] = []
    left = MAX_BYTES
    try:
        while data.startswith(_GZIP):
            reader = zlib.decompressobj(wbits=31)
            parts.append(reader.decompress(data, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise UserError(f"{name}: unpacks to more than {MAX_BYTES // 2**20} MiB; simplify the drawing.")
            if not reader.eof:
                raise UserError(f"{name}: the compressed file breaks off; save it again.")
            data = reader.unused_data
    except zlib.error as error:
        raise UserError(f"{name}: cannot be unpacked ({error}); save it as a plain SVG.") from error
    return b"".join(parts)


def _decode(data: bytes, name: str) -> tuple[str, str, bytes]:
    """Return text, encoding and byte order mark of a file."""
    declared = _DECLARED.match(data)
    mark, encoding = b"", declared[1].decode() if declared else "utf-8"
    for candidate, meaning in _MARKS.items():
        if data.startswith(candidate):
            mark, encoding = candidate, meaning
    try:
        text = data[len(mark) :].decode(encoding)
        if text.encode(encoding) != data[len(mark) :]:
            raise UserError(f"{name}: the encoding {encoding} does not survive a round trip; save it as UTF-8.")
        return text, encoding, mark
    except (UnicodeError, LookupError) as error:
        raise UserError(f"{name}: not text in the encoding {encoding}; save it as UTF-8.") from error


class _Builder:
    """The tree so far, and expat's handlers."""

    def __init__(self, parser: expat.XMLParserType, name: str) -> None:
        self.parser, self.name = parser, name
        self.root: Element | None = None
        self.current: Element | None = None
        self.scopes: list[dict[str, str]] = [{"": "", "xml": "http://www.w3.org/XML/1998/namespace"}]
        self.stylesheets: list[str] = []
        self.elements = self.entities = 0
        self.entity_lengths = {"amp": 1, "lt": 1, "gt": 1, "apos": 1, "quot": 1}

    def instruction(self, target: str, data: str) -> None:
        if target == "xml-stylesheet":
            self.stylesheets.append(data)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise UserError(f"{self.name}: more than {MAX_ELEMENTS} elements; simplify the drawing.")
        if len(self.scopes) > MAX_DEPTH:
            raise UserError(f"{self.name}: elements are nested more than {MAX_DEPTH} deep; ungroup some.")
        scope = self.scopes[-1]
        declared = {k[6:]: v for k, v in attributes.items() if k == "xmlns" or k.startswith("xmlns:")}
        if declared:
            scope = {**scope, **declared}
        self.scopes.append(scope)
        local, raw, editors = {}, {}, {}
        for key, value in attributes.items():
            prefix, _, rest = key.rpartition(":")
            namespace = scope.get(prefix, "") if prefix else ""
            short = rest if not prefix else "href" if (namespace, rest) == (XLINK, "href") else None
            if namespace in EDITORS:
                editors[rest] = key
            if short is None or (short in local and prefix):
                continue
            local[short], raw[short] = value, key
        prefix, _, rest = tag.rpartition(":")
        namespace = scope.get(prefix, "")
        # a file that names no namespace at all can only mean SVG
        name = rest if namespace in (SVG, "") else f"{{{namespace}}}{rest}"
        element = Element(name, local, self.current, self.parser.CurrentByteIndex, raw, editors)
        if self.current is None:
            self.root = element
        else:
            self.current.children.append(element)
        self.current = element

    def end(self, tag: str) -> None:
        assert self.current is not None
        self.scopes.pop()
        self.current.end = self.parser.CurrentByteIndex
        self.current = self.current.parent

    def text(self, data: str) -> None:
        if self.current is not None and self.current.tag == "style":
            self.current.text += data

    def entity(
        self,
        name: str,
        is_parameter: int,
        value: str | None,
        base: str | None,
        system_id: str | None,
        public_id: str | None,
        notation: str | None,
    ) -> None:
        self.entities += 1
        text, used = value or "", _REFERENCE.findall(value or "")
        # an entity can only hold those before it, so that each has a length
        length = len(text) + sum(self.entity_lengths.get(other, MAX_ENTITY_LENGTH + 1) for other in used)
        harmless = value is not None and length <= MAX_ENTITY_LENGTH and not set(_REFERENCE.sub("", text)) & set("&<%")
        if is_parameter or not harmless or self.entities > MAX_ENTITIES:
            raise UserError(f"{self.name}: the entity {name[:40]!r} is external, too large or holds markup; remove it.")
        self.entity_lengths.setdefault(name, length)


def parse_xml(data: bytes, name: str) -> XmlSource:
    """Parse a file.

    Args:
        data: Its bytes.
        name: What to call it in messages.

    Raises:
        UserError: If it is no well-formed XML, or something about it is dangerous.
    """
    packed = data if data.startswith(_GZIP) else None
    if packed is not None:
        data = _unpacked(packed, name)
    for start, kind in _PICTURES.items():
        if data.startswith(start):
            raise UserError(f"{name}: this is a {kind}, not an SVG; give a drawing.")
    if len(data) > MAX_BYTES:
        raise UserError(f"{name}: larger than {MAX_BYTES // 2**20} MiB; simplify the drawing.")
    text, encoding, mark = _decode(data, name)
    utf8 = text.encode()
    parser = expat.ParserCreate("utf-8")
    builder = _Builder(parser, name)
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.EntityDeclHandler = builder.entity
    parser.ProcessingInstructionHandler = builder.instruction
    try:
        parser.Parse(utf8, True)
    except expat.ExpatError as error:
        raise UserError(f"{name}: not well-formed XML ({error}); open and save it in a drawing program.") from error
    assert builder.root is not None
    return XmlSource(utf8, encoding, mark, builder.root, packed, tuple(builder.stylesheets))
