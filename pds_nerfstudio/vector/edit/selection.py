"""Which elements of a drawing an option means."""

import math
import re
from collections.abc import Iterator, Sequence

import cssselect2

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.xml_source import Element


def parse_selectors(text: str, option: str) -> list[cssselect2.compiler.CompiledSelector]:
    """Read CSS selectors, separated by commas: `#hat, .arm, g > circle`.

    Raises:
        UserError: If one is none, naming the option.
    """
    if not text.strip():
        return []
    try:
        return list(cssselect2.compile_selector_list(text))
    except (cssselect2.SelectorError, SyntaxError, NotImplementedError):
        raise UserError(
            f"`{option}` is {text!r}: give names of elements, #ids and .classes, separated by commas."
        ) from None


def selected_paths(document: Document, text: str, option: str) -> set[int]:
    """Return the numbers of the paths that selectors pick, by themselves or with a group that they are in.

    Raises:
        UserError: If a selector is none, or picks nothing that is drawn.
    """
    selectors = parse_selectors(text, option)
    tree = cssselect2.ElementWrapper.from_xml_root(document.source.root)
    picked = {node.etree_element for node in tree.iter_subtree() if any(s.test(node) for s in selectors)}
    found = {path.path for path in document.paths if not picked.isdisjoint(_with_ancestors(path.element))}
    if selectors and not found:
        raise UserError(f"`{option}` is {text!r}: nothing that {document.name} draws is called that; look at its ids.")
    return found


def _with_ancestors(element: Element | None) -> Iterator[Element]:
    while element is not None:
        yield element
        element = element.parent


def parse_region(text: str) -> tuple[float, float, float, float] | None:
    """Read `x,y,width,height`; None for an empty text.

    Raises:
        UserError: If it is none.
    """
    if not text.strip():
        return None
    parts: Sequence[str] = re.split(r"[\s,]+", text.strip())
    try:
        x, y, width, height = (float(part) for part in parts)
    except ValueError:
        raise UserError(f"`region` is {text!r}: give x,y,width,height in the drawing's units.") from None
    if not (width > 0 and height > 0 and all(map(math.isfinite, (x, y, width, height)))):
        raise UserError(f"`region` is {text!r}: give finite numbers, a width and a height above 0.")
    return x, y, width, height
