"""Which value a property has on an element, and what gave it that value (CSS Cascade, SVG 2 section 6)."""

import re
from dataclasses import dataclass
from functools import lru_cache

from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY
from pds_nerfstudio.vector.svg.css import StyleSheet, parse_declarations
from pds_nerfstudio.vector.svg.properties import (
    ATTRIBUTES,
    GEOMETRY_PROPERTIES,
    INHERITED,
    WIDE_KEYWORDS,
    expand_shorthand,
    font_size,
    is_property,
    read_value,
    stands_back,
)
from pds_nerfstudio.vector.svg.xml_source import Element

_VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,((?:[^()]|\([^()]*\))*))?\)", re.IGNORECASE)
_VIEWPORT = ("x", "y", "width", "height")
_MAX_SUBSTITUTIONS = 32
_MAX_VALUE = 1000


class Style(dict[str, str]):
    """Values by property; a property without a value has its initial one."""

    unread: frozenset[str] = frozenset()
    """Properties whose declared value could not be read, and which have another one here for that reason."""


@dataclass(frozen=True)
class Declared:
    """The value that an element itself has for a property."""

    value: str | None
    """The value; None where none of those declared could be read."""
    origin: str
    """What overrides all else that declares it: "attribute", "sheet" or "style"."""
    important: bool = False
    """Whether that is declared !important."""


class Cascade:
    """The values of properties in one file."""

    def __init__(self, sheet: StyleSheet) -> None:
        self.sheet = sheet
        self.root_font_size = 16.0
        """1 rem, as soon as the outermost element's style is known."""
        self.unread: set[str] = set()
        """Declarations that could not be read, where nothing else gives the property."""
        self._declared: dict[Element, dict[str, Declared]] = {}

    def declared(self, element: Element) -> dict[str, Declared]:
        """Return what is declared on the element itself: by attributes, then sheets, then its style attribute."""
        if element not in self._declared:
            found: dict[str, Declared] = {}
            others = _foreign_geometry(element.tag)
            for name, value in element.attributes.items():
                if name in ATTRIBUTES and value:
                    # what is wrong with a transform shows where it is composed
                    plain = value if name == "transform" else value.strip()
                    _declare(found, name, plain, "attribute", False)
            blocks = [("sheet", self.sheet.declarations(element))] if self.sheet else []
            if "style" in element.attributes:
                blocks.append(("style", parse_declarations(element.attributes["style"])))
            for important in (False, True):
                for origin, declarations in blocks:
                    for d in declarations:
                        if d.important == important:
                            name, value = expand_shorthand(d.name, d.value)
                            if is_property(name) and name not in others:
                                _declare(found, name, value, origin, important)
            self._declared[element] = found
        return self._declared[element]

    def style(self, element: Element, parent: Style) -> Style:
        """Return the values on an element whose parent has the given ones."""
        style = Style({name: value for name, value in parent.items() if name in INHERITED or name[:2] == "--"})
        unread = parent.unread & INHERITED if parent.unread else parent.unread
        declared = self.declared(element)
        for name, given in declared.items():
            if name[:2] == "--" and given.value is not None:
                style[name] = given.value
        for name, given in declared.items():
            if name[:2] == "--":
                continue
            value = given.value
            if value is not None and "var(" in value:
                value = _substituted(value, style)
                value = None if value is None else read_value(name, value)
            if value is None:
                unread |= {name}
                self.unread.add(f"{name} {_text_of(element, name, given)[:40]!r}")
                continue
            if unread:
                unread -= {name}
            if value in WIDE_KEYWORDS:
                _apply_keyword(style, name, value, parent)
            elif name == "font-size":
                size = font_size(value, float(parent.get(name, "16")), self.root_font_size)
                style[name] = str(16.0 if size is None else size)
            else:
                style[name] = value
        if unread:
            style.unread = unread
        if element.parent is None:
            self.root_font_size = float(style.get("font-size", "16"))
        return style

    def own_style(self, element: Element) -> Style:
        """Return the values on an element where it stands in the file."""
        chain = [element]
        while chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        style = Style()
        for ancestor in reversed(chain):
            style = self.style(ancestor, style)
        return style


@lru_cache(maxsize=64)
def _foreign_geometry(tag: str) -> frozenset[str]:
    """Return the geometry of other shapes, which elements with this tag have not."""
    return GEOMETRY_PROPERTIES.difference(GEOMETRY.get(tag, _VIEWPORT))


def _declare(found: dict[str, Declared], name: str, value: str, origin: str, important: bool) -> None:
    """Add a declaration to those that it overrides."""
    plain = value if "var(" in value or (name == "transform" and origin == "attribute") else read_value(name, value)
    before = found.get(name)
    if before is not None and before.value is not None and (plain is None or stands_back(name, plain)):
        plain = before.value
    found[name] = Declared(plain, origin, important)


def _text_of(element: Element, name: str, given: Declared) -> str:
    """Return a declaration that could not be read, as it stands in the file if that is easy to tell."""
    if given.value is not None:
        return given.value
    if given.origin == "style":
        return next((d.value for d in parse_declarations(element.attributes["style"]) if d.name == name), "")
    return element.attributes.get(name, "") if given.origin == "attribute" else ""


def _apply_keyword(style: Style, name: str, keyword: str, parent: Style) -> None:
    if keyword == "inherit":
        if name in parent:
            style[name] = parent[name]
    elif keyword == "initial" or name not in INHERITED:
        style.pop(name, None)


def _substituted(value: str, style: Style) -> str | None:
    """Return a value with every var() replaced (CSS Variables 1); None where one has neither value nor fallback."""
    for _ in range(_MAX_SUBSTITUTIONS):
        match = _VARIABLE.search(value)
        if match is None:
            return None if "var(" in value.lower() else value.strip()
        put = style.get(match[1], match[2])
        if put is None or len(value) + len(put) > _MAX_VALUE:
            return None
        value = value[: match.start()] + put.strip() + value[match.end() :]
    return None
