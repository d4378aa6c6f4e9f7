"""Which value a property has on an element, and what gave it that value (CSS Cascade, SVG 2 section 6)."""

import re
from dataclasses import dataclass

from pds_nerfstudio.vector.svg.css import StyleSheet, parse_declarations
from pds_nerfstudio.vector.svg.xml_source import Element

Style = dict[str, str]
"""Values by property; a property without a value has its initial one."""

INHERITED = frozenset(
    """clip-rule color fill fill-opacity fill-rule font-size marker marker-end marker-mid marker-start
    paint-order stroke stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit
    stroke-opacity stroke-width visibility""".split()
)
PROPERTIES = INHERITED | frozenset(
    """clip-path display filter mask mix-blend-mode opacity overflow stop-color stop-opacity transform
    vector-effect""".split()
)

_URL = re.compile(r"url\(\s*(\"[^\"]*\"|'[^']*'|[^)\"']*)\s*\)\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Declared:
    """The value that an element itself has for a property."""

    value: str
    """The value."""
    origin: str
    """What gives it: "attribute", "sheet" or "style"."""
    important: bool = False
    """Whether it is declared !important."""


class Cascade:
    """The values of properties in one file."""

    def __init__(self, sheet: StyleSheet) -> None:
        self.sheet = sheet
        self._declared: dict[Element, dict[str, Declared]] = {}

    def declared(self, element: Element) -> dict[str, Declared]:
        """Return what is declared on the element itself: by attributes, then sheets, then its style attribute."""
        if element not in self._declared:
            found = {
                name: Declared(value.strip(), "attribute")
                for name, value in element.attributes.items()
                if name in PROPERTIES
            }
            blocks = [("sheet", self.sheet.declarations(element))]
            blocks.append(("style", parse_declarations(element.attributes.get("style", ""))))
            for important in (False, True):
                for origin, declarations in blocks:
                    for d in declarations:
                        if d.name in PROPERTIES and d.important == important:
                            found[d.name] = Declared(d.value, origin, important)
            self._declared[element] = found
        return self._declared[element]

    def style(self, element: Element, parent: Style) -> Style:
        """Return the values on an element whose parent has the given ones."""
        style = {name: value for name, value in parent.items() if name in INHERITED}
        for name, declared in self.declared(element).items():
            if declared.value == "inherit":
                if name in parent:
                    style[name] = parent[name]
            elif declared.value in ("initial", "unset", "revert"):
                if declared.value == "initial" or name not in INHERITED:
                    style.pop(name, None)
            else:
                style[name] = declared.value
        return style

    def own_style(self, element: Element) -> Style:
        """Return the values on an element where it stands in the file."""
        chain = [element]
        while chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        style: Style = {}
        for ancestor in reversed(chain):
            style = self.style(ancestor, style)
        return style


def parse_url(value: str | None) -> tuple[str, str] | None:
    """Read `url(#id) fallback`.

    Returns:
        What stands in the brackets, and the rest; None for anything else.
    """
    match = _URL.fullmatch(value.strip()) if value else None
    return (match[1].strip("\"' "), match[2].strip()) if match else None
