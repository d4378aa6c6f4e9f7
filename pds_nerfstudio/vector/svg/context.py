"""Where an element is drawn: for one that is used, that is not where it stands in the file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Node
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.xml_source import Element

Box = tuple[float, float, float, float]
"""x, y, width, height."""
LANGUAGE = "en"
"""What readers understand."""


@dataclass(frozen=True)
class Context:
    """What an element inherits from where it is drawn, or, inside of the element, its own."""

    style: Style
    """Values of properties."""
    transform: Affine
    """From the element's units to the drawing's."""
    viewport: Viewport
    """What lengths refer to."""
    extent: Box
    """x, y, width and height of what can be seen, in the drawing's units; of a tile in those of the tile."""
    chain: tuple[Element, ...] = ()
    """Containers, uses and clip paths around the element."""
    locked: bool = False
    """Whether something about where it is could not be read, so that it must stay where it is."""


DrawChildren = Callable[[Iterable[Element], Context], list[Node]]
"""Draws elements."""


def geometry_of(element: Element, style: Style, name: str) -> str | None:
    """Return a geometry attribute, or the property of that name, which overrides it."""
    return style.get(name) or element.attributes.get(name)


def is_for_this_reader(element: Element) -> bool:
    """Tell whether an element's conditions hold (SVG 2, section 5.9): it is in English, and asks for no extension."""
    if element.attributes.get("requiredExtensions") is not None:
        return False
    languages = element.attributes.get("systemLanguage")
    if languages is None:
        return True
    return any(language.strip().lower().split("-")[0] == LANGUAGE for language in languages.split(","))
