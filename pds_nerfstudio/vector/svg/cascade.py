"""Which value a property has on an element, and what gave it that value (CSS Cascade, SVG 2 section 6)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY
from pds_nerfstudio.vector.svg.css import Declaration, StyleSheet, parse_declarations
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

VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,((?:[^()]|\([^()]*\))*))?\)", re.IGNORECASE)
"""A use of a variable; the first group is its name."""
_VIEWPORT = ("x", "y", "width", "height")
_MAX_SUBSTITUTIONS = 32
_MAX_VALUE = 1000


SHARED = frozenset(
    """color fill stroke stroke-width fill-opacity stroke-opacity opacity stop-color stop-opacity""".split()
)
"""Properties of which it is known which declaration gives them."""


@dataclass(frozen=True)
class Origin:
    """The one declaration that gives a value to all that inherit it, or that a rule picks."""

    name: str
    """The property, or the variable, that it declares."""
    element: Element
    """The element with the attribute or the style; of a rule, the style element that it stands in."""
    span: tuple[int, int] | None = None
    """Of a rule: where the value stands in the text of the style element."""


class Style(dict[str, str]):
    """Values by property; a property without a value has its initial one."""

    given: Mapping[str, Origin] = MappingProxyType({})
    """What gives the values of variables and of those in `SHARED`, where one declaration does."""

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
    rule: Declaration | None = None
    """The declaration of the value in a sheet."""
    plain: bool = True
    """Whether the value is what overrides all else; otherwise that could not be read, or stands back."""


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
                            for name, value in expand_shorthand(d.name, d.value):
                                if is_property(name) and name not in others:
                                    rule = d if origin == "sheet" and d.name == name else None
                                    _declare(found, name, value, origin, important, rule)
            self._declared[element] = found
        return self._declared[element]

    def style(self, element: Element, parent: Style) -> Style:
        """Return the values on an element whose parent has the given ones."""
        style = Style({name: value for name, value in parent.items() if name in INHERITED or name[:2] == "--"})
        unread = parent.unread & INHERITED if parent.unread else parent.unread
        declared = self.declared(element)
        origins = {name: origin for name, origin in parent.given.items() if name in INHERITED or name[:2] == "--"}
        for name, given in declared.items():
            if name[:2] == "--" and given.value is not None:
                style[name] = given.value
                _set_origin(origins, name, _origin(element, name, given))
        for name, given in declared.items():
            if name[:2] == "--":
                continue
            value = given.value
            if name in SHARED and value not in WIDE_KEYWORDS:
                _set_origin(origins, name, _behind_variables(_origin(element, name, given), value, style, origins))
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
                _set_origin(origins, name, parent.given.get(name) if name in style else None)
            elif name == "font-size":
                size = font_size(value, float(parent.get(name, "16")), self.root_font_size)
                style[name] = str(16.0 if size is None else size)
            else:
                style[name] = value
        if unread:
            style.unread = unread
        if origins:
            style.given = origins
        if element.parent is None:
            self.root_font_size = float(style.get("font-size", "16"))
        return style

    def color_origin(self, element: Element, name: str, style: Style) -> Origin | None:
        """Return what declares the colour of a paint; for `currentColor` that is what declares `color`.

        Where nothing does, it is for the outermost element to declare.
        """
        return self.current_color_origin(element, style) if style.get(name) == "currentcolor" else style.given.get(name)

    def current_color_origin(self, element: Element, style: Style) -> Origin | None:
        """Return what declares `color`. Where nothing does, it is for the outermost element to declare."""
        if "color" in style:
            return None if style["color"] == "currentcolor" else style.given.get("color")
        root = element
        while root.parent is not None:
            root = root.parent
        return Origin("color", root)

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


def _declare(
    found: dict[str, Declared],
    name: str,
    value: str,
    origin: str,
    important: bool,
    rule: Declaration | None = None,
) -> None:
    """Add a declaration to those that it overrides."""
    plain = value if "var(" in value or (name == "transform" and origin == "attribute") else read_value(name, value)
    before, counts = found.get(name), plain is not None
    if before is not None and before.value is not None and (plain is None or stands_back(name, plain)):
        plain, counts = before.value, False
    found[name] = Declared(plain, origin, important, rule, counts)


def _origin(element: Element, name: str, given: Declared) -> Origin | None:
    """Return what gives an element the value that it declares; None where that cannot be written in its place."""
    if not given.plain:
        return None
    if given.origin != "sheet":
        return Origin(name, element)
    rule = given.rule
    return None if rule is None or rule.owner is None else Origin(name, rule.owner, rule.span)


def _behind_variables(
    origin: Origin | None, value: str | None, style: Style, origins: Mapping[str, Origin]
) -> Origin | None:
    """Return what declares a value that is nothing but a variable, or leads on to one."""
    for _ in range(_MAX_SUBSTITUTIONS):
        match = VARIABLE.fullmatch(value or "")
        if match is None:
            return None if value is None or "var(" in value else origin
        if match[1] not in style:
            return None
        value, origin = style[match[1]].strip(), origins.get(match[1])
    return None


def _set_origin(origins: dict[str, Origin], name: str, origin: Origin | None) -> None:
    if origin is None:
        origins.pop(name, None)
    else:
        origins[name] = origin


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
        match = VARIABLE.search(value)
        if match is None:
            return None if "var(" in value.lower() else value.strip()
        put = style.get(match[1], match[2])
        if put is None or len(value) + len(put) > _MAX_VALUE:
            return None
        value = value[: match.start()] + put.strip() + value[match.end() :]
    return None
