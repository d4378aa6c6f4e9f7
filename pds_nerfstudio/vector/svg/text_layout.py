"""Where the glyphs of a text stand (SVG 2, section 11), as far as that is plain: from left to right."""

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pds_nerfstudio.vector.svg.cascade import Cascade, Style
from pds_nerfstudio.vector.svg.glyphs import Face, face_of
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.xml_source import Element

PLACES = ("x", "y", "dx", "dy")
"""Attributes that say where characters stand."""
_OTHER = frozenset(
    """textLength lengthAdjust rotate baseline-shift text-decoration dominant-baseline alignment-baseline writing-mode
    direction unicode-bidi font-variant font-stretch font-variation-settings font-feature-settings""".split()
)
"""What takes more than this module knows."""
_BOXED = frozenset(("clip-path", "filter", "mask"))
"""Properties that may refer to the box around a text, which is not that around its outlines."""
_PREFIX = re.compile(r"[<\s/]([A-Za-z_][\w.-]*):[\w.-]+[\s=/>]")
_SHIFTS = {"middle": 0.5, "end": 1.0}


@dataclass(frozen=True)
class Glyph:
    """A glyph in its place."""

    owner: Element
    """The text or tspan that it is in."""
    face: Face
    """Its font."""
    name: str
    """Its name there."""
    x: float
    """Where it begins."""
    y: float
    """Where its base line is."""
    size: float
    """1 em."""


@dataclass(frozen=True)
class _Char:
    char: str
    owner: Element
    style: Style
    places: dict[str, float]


class NotPlain(ValueError):
    """A text that takes more than this module knows."""


def lay_out(text: Element, markup: str, cascade: Cascade, view: Viewport) -> list[Glyph]:
    """Return the glyphs of a text.

    Args:
        text: The text element.
        markup: It, from start tag to end tag.
        cascade: Has its properties.
        view: What lengths refer to.

    Raises:
        NotPlain: If it takes more than this module knows.
    """
    if "xml:space" in markup or cascade.declared(text).keys() & _BOXED:
        raise NotPlain(text.tag)
    prefixes = set(_PREFIX.findall(markup)) - {"xml", "xmlns"}
    declared = " ".join(f'xmlns:{prefix}="{prefix}"' for prefix in sorted(prefixes))
    try:
        (node,) = ET.fromstring(f"<r {declared}>{markup}</r>")
    except ET.ParseError as error:
        raise NotPlain(str(error)) from error
    return _placed(_squeezed(list(_chars(node, text, cascade, view, outermost=True))))


def _chars(
    node: ET.Element, element: Element, cascade: Cascade, view: Viewport, outermost: bool = False
) -> Iterator[_Char]:
    """Return all characters, those of an element with the places that it gives, by their number in it."""
    style = cascade.own_style(element)
    given = element.attributes.keys() | {name for name in _OTHER if name in element.attributes.get("style", "")}
    tags = ("text",) if outermost else ("tspan", "a")
    if given & _OTHER or element.tag not in tags or style.get("writing-mode", "").startswith(("tb", "v")):
        raise NotPlain(element.tag)
    if style.get("display") == "none":
        return
    here = replace(view, font_size=float(style.get("font-size", "16")), root_font_size=cascade.root_font_size)
    lists = {name: _lengths(element.attributes.get(name, ""), here, name) for name in PLACES}
    own = list(_content(node, element, style, cascade, view))
    squeezed = _seen(own)
    number = 0
    for char, seen in zip(own, squeezed, strict=True):
        places = {name: values[number] for name, values in lists.items() if number < len(values)} if seen else {}
        number += seen
        yield replace(char, places={**places, **char.places})


def _content(node: ET.Element, element: Element, style: Style, cascade: Cascade, view: Viewport) -> Iterator[_Char]:
    yield from (_Char(char, element, style, {}) for char in node.text or "")
    for child, inner in zip(node, element.children, strict=True):
        if inner.tag not in ("title", "desc"):
            yield from _chars(child, inner, cascade, view)
        yield from (_Char(char, element, style, {}) for char in child.tail or "")


def _lengths(text: str, view: Viewport, name: str) -> list[float]:
    found = [
        view.length(part, view.height if name.endswith("y") else view.width) for part in text.replace(",", " ").split()
    ]
    if None in found:
        raise NotPlain(text)
    return [value for value in found if value is not None]


def _seen(chars: list[_Char]) -> list[bool]:
    """Tell which characters count: of white space one at a time, and none in front."""
    result, blank = [], True
    for char in chars:
        space = char.char.isspace()
        result.append(not (space and blank))
        blank = space
    return result


def _squeezed(chars: list[_Char]) -> list[_Char]:
    kept = [char for char, seen in zip(chars, _seen(chars), strict=True) if seen]
    while kept and kept[-1].char.isspace():
        kept.pop()
    return [replace(char, char=" ") if char.char.isspace() else char for char in kept]


def _placed(chars: list[_Char]) -> list[Glyph]:
    """Return glyphs in their places, chunk by chunk: one begins wherever a place is given."""
    found: list[Glyph] = []
    x = y = trailing = 0.0
    chunk, start, anchor, before = 0, 0.0, "start", None
    for char in chars:
        face, size = _face(char), float(char.style.get("font-size", "16"))
        name = face.glyph(char.char)
        if name is None or not _is_simple(char.char):
            raise NotPlain(char.char)
        places = char.places
        if "x" in places or "y" in places or not found:
            shift = _SHIFTS.get(anchor, 0.0) * (x - trailing - start)
            found[chunk:] = _moved(found[chunk:], shift)
            x, y = places.get("x", x - shift), places.get("y", y)
            chunk, start, anchor, before = len(found), x, char.style.get("text-anchor", "start"), None
        x, y = x + places.get("dx", 0.0), y + places.get("dy", 0.0)
        if before is not None and before.face is face:
            x += face.kerning(before.name, name) * before.size
        before = Glyph(char.owner, face, name, x, y, size)
        found.append(before)
        trailing = _spacing(char, "letter-spacing", size)
        x += face.advance(name) * size + trailing
        x += _spacing(char, "word-spacing", size) if char.char == " " else 0.0
    found[chunk:] = _moved(found[chunk:], _SHIFTS.get(anchor, 0.0) * (x - trailing - start))
    return found


def _moved(glyphs: list[Glyph], to_the_left: float) -> list[Glyph]:
    return [replace(glyph, x=glyph.x - to_the_left) for glyph in glyphs]


def _face(char: _Char) -> Face:
    families = tuple(part.strip(" '\"") for part in char.style.get("font-family", "").split(",") if part.strip())
    return face_of(families, char.style.get("font-weight", "normal"), char.style.get("font-style", "normal"))


def _spacing(char: _Char, name: str, size: float) -> float:
    text = char.style.get(name, "normal")
    if text.endswith("%"):
        raise NotPlain(name)
    return 0.0 if text == "normal" else Viewport(0.0, 0.0, size).length(text, 0.0) or 0.0


def _is_simple(char: str) -> bool:
    """Tell whether a character has one glyph, whatever its neighbours are, and leads to the right."""
    return unicodedata.bidirectional(char) not in ("R", "AL", "NSM") and (ord(char) < 0x590 or ord(char) >= 0x1E00)
