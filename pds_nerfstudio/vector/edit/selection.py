"""Which elements of a drawing an option means."""

import re
from collections.abc import Sequence

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.svg.css import Compound
from pds_nerfstudio.vector.svg.document import Document

_SELECTOR = re.compile(r"(\*|[A-Za-z][\w-]*)?((?:[#.][\w-]+)*)")


def parse_selectors(text: str, option: str) -> list[Compound]:
    """Read selectors by element name, id and class, separated by commas: `#hat, .arm, circle`.

    Raises:
        UserError: If one is none, naming the option.
    """
    selectors = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _SELECTOR.fullmatch(part)
        if match is None:
            raise UserError(f"{option} has {part!r}: give names of elements, #ids and .classes, separated by commas.")
        names = re.findall(r"([#.])([\w-]+)", match[2])
        tag = None if match[1] in (None, "*") else match[1]
        ids, classes = (tuple(name for kind, name in names if kind == sign) for sign in "#.")
        selectors.append(Compound(tag, ids, classes))
    return selectors


def selected_paths(document: Document, text: str, option: str) -> set[int]:
    """Return the numbers of the paths that selectors pick, by themselves or with a group that they are in.

    Raises:
        UserError: If a selector is none, or picks nothing that is drawn.
    """
    found = set[int]()
    selectors = parse_selectors(text, option)
    for path in document.paths:
        element = path.element
        while element is not None:
            if any(selector.matches(element) for selector in selectors):
                found.add(path.path)
            element = element.parent  # type: ignore[assignment]
    if selectors and not found:
        raise UserError(f"{option} is {text!r}: nothing that {document.name} draws is called that; look at its ids.")
    return found


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
        raise UserError(f"region is {text!r}: give x,y,width,height in the drawing's units.") from None
    if not (width > 0 and height > 0):
        raise UserError(f"region is {text!r}: give a width and a height above 0.")
    return x, y, width, height
