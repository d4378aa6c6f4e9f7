"""Edits of start tags: of attributes, properties in the style attribute, and the tag itself."""

import re
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from pds_nerfstudio.vector.svg.css import parse_declarations
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource

_TAG_NAME = re.compile(rb"(?:[^\s/>:]+:)?([^\s/>:]+)")


@dataclass
class TagEdit:
    """What is to change in one start tag."""

    attributes: dict[str, str] = field(default_factory=dict)
    """New values of attributes."""
    properties: dict[str, str] = field(default_factory=dict)
    """New values of properties, for the style attribute."""
    removed: set[str] = field(default_factory=set)
    """Attributes that go, by their names in the file."""
    tag: str | None = None
    """The new tag, if it changes."""


def replacements(source: XmlSource, element: Element, edit: TagEdit) -> list[tuple[int, int, bytes]]:
    """Return the replacements in the bytes of one element's tags."""
    data = source.data
    start, end = source.tag_span(element)
    spans = source.attribute_spans(element)
    values = dict(edit.attributes)
    if edit.properties:
        values["style"] = _with_properties(element.attributes.get("style", ""), edit.properties)
    changes, added = [], []
    for name, value in values.items():
        raw = element.raw_attributes.get(name)
        if raw is None:
            added.append(f' {name}="{escape(value, {chr(34): "&quot;"})}"')
            continue
        first, last = spans[raw]
        quote = data[first - 1 : first].decode()
        changes.append((first, last, escape(value, {quote: "&quot;" if quote == '"' else "&apos;"}).encode()))
    for raw in edit.removed:
        first, last = spans[raw]
        before = data.rindex(raw.encode(), start, first)
        while data[before - 1 : before].isspace() and data[before - 2 : before - 1].isspace():
            before -= 1
        changes.append((before - 1, last + 1, b""))
    if added:
        at = end - 2 if data[end - 2 : end] == b"/>" else end - 1
        while data[at - 1 : at].isspace():
            at -= 1
        changes.append((at, at, "".join(added).encode()))
    if edit.tag is not None:
        tags = [start + 1] if data[end - 2 : end] == b"/>" else [start + 1, element.end + 2]
        for position in tags:
            found = _TAG_NAME.search(data, position)
            assert found is not None
            changes.append((*found.span(1), edit.tag.encode()))
    return changes


def _with_properties(style: str, properties: dict[str, str]) -> str:
    """Return a style attribute with some properties set, the others as they are."""
    declarations = parse_declarations(style)
    remaining = dict(properties)
    for declaration in reversed(declarations):
        if declaration.name in properties:
            start, end = declaration.span
            value = properties[declaration.name]
            remaining.pop(declaration.name, None)
            if declaration.important:
                value = value.removesuffix(" !important")
            style = style[:start] + value + style[end:]
    if remaining:
        style = style.rstrip()
        joint = "" if not style or style.endswith(";") else ";"
        style += joint + ";".join(f"{name}:{value}" for name, value in remaining.items())
    return style
