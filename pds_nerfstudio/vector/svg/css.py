"""The part of CSS that SVG files use: declarations, and style sheets of simple selectors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pds_nerfstudio.vector.svg.xml_source import Element

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_COMPOUND = re.compile(r"(\*|[A-Za-z][\w-]*)?((?:[.#][\w-]+)*)")
_COMBINATOR = re.compile(r"\s*>\s*|\s+")
_DECLARATION = re.compile(r"([\w-]+)\s*:\s*((?:[^;\"'(]|\"[^\"]*\"?|'[^']*'?|\([^)]*\)?)*)")
_IMPORTANT = re.compile(r"!\s*important\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Declaration:
    """One property of a block."""

    name: str
    """The property."""
    value: str
    """Its value."""
    important: bool
    """Whether it is marked !important."""
    span: tuple[int, int]
    """Where the value stands in the block's text."""


def parse_declarations(text: str) -> list[Declaration]:
    """Read the inside of a block or of a style attribute."""
    # comments become blanks, so that places stay what they are
    text = _COMMENT.sub(lambda m: " " * len(m[0]), text)
    found = []
    for match in _DECLARATION.finditer(text):
        value = match[2].rstrip()
        plain = _IMPORTANT.sub("", value).rstrip()
        start = match.start(2)
        found.append(Declaration(match[1].lower(), plain, plain != value, (start, start + len(plain))))
    return found


@dataclass(frozen=True)
class Compound:
    """A tag, an id and classes, all of which an element must have."""

    tag: str | None
    """The tag; None for any."""
    ids: tuple[str, ...]
    """The ids. No element has two of them."""
    classes: tuple[str, ...]
    """The classes."""

    def matches(self, element: Element) -> bool:
        """Return whether an element has them all."""
        if self.tag is not None and element.tag != self.tag:
            return False
        if any(element.attributes.get("id") != name for name in self.ids):
            return False
        return not self.classes or set(self.classes) <= set(element.attributes.get("class", "").split())


@dataclass(frozen=True)
class Rule:
    """One selector with its declarations."""

    compounds: tuple[Compound, ...]
    """From the element itself to its ancestors."""
    child: tuple[bool, ...]
    """For each step to an ancestor, whether that must be the parent."""
    declarations: tuple[Declaration, ...]
    """What it says."""
    order: int
    """Its place in the file: of two alike, the later one wins."""

    @property
    def specificity(self) -> tuple[int, int, int]:
        """The numbers of its ids, classes and tags."""
        return (
            sum(len(c.ids) for c in self.compounds),
            sum(len(c.classes) for c in self.compounds),
            sum(c.tag is not None for c in self.compounds),
        )

    def matches(self, element: Element) -> bool:
        """Return whether the selector picks an element."""
        return self._matches(element, 0)

    def _matches(self, element: Element, index: int) -> bool:
        if not self.compounds[index].matches(element):
            return False
        if index + 1 == len(self.compounds):
            return True
        ancestor = element.parent
        while ancestor is not None:
            if self._matches(ancestor, index + 1):
                return True
            if self.child[index]:
                return False
            ancestor = ancestor.parent
        return False


MAX_COMPOUNDS = 4
"""Selectors of more steps are left out, which bounds the time that matching can take."""


def _parse_selector(text: str) -> tuple[tuple[Compound, ...], tuple[bool, ...]] | None:
    compounds: list[Compound] = []
    child: list[bool] = []
    position, text = 0, text.strip()
    while True:
        match = _COMPOUND.match(text, position)
        if match is None or match.end() == position:
            return None
        names = re.findall(r"([.#])([\w-]+)", match[2])
        compounds.append(
            Compound(
                None if match[1] in (None, "*") else match[1],
                tuple(n for kind, n in names if kind == "#"),
                tuple(n for kind, n in names if kind == "."),
            )
        )
        position = match.end()
        if position == len(text):
            if len(compounds) > MAX_COMPOUNDS:
                return None
            return tuple(reversed(compounds)), tuple(reversed(child))
        joint = _COMBINATOR.match(text, position)
        if joint is None:
            return None
        child.append(">" in joint[0])
        position = joint.end()


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Return (prelude, inside) of every rule; leave out what an at-rule encloses."""
    position = 0
    while True:
        opening = text.find("{", position)
        semicolon = text.find(";", position)
        if opening < 0:
            return
        if 0 <= semicolon < opening and text[position:semicolon].lstrip().startswith("@"):
            position = semicolon + 1
            continue
        prelude = text[position:opening].strip()
        depth, at = 1, opening + 1
        for bracket in re.finditer("[{}]", text[opening + 1 :]):
            depth += 1 if bracket[0] == "{" else -1
            if depth == 0:
                at = opening + 1 + bracket.start()
                break
        else:
            at = len(text)
        if not prelude.startswith("@"):
            yield prelude, text[opening + 1 : at]
        position = at + 1


@dataclass
class StyleSheet:
    """The rules of all style elements of a file."""

    rules: list[Rule] = field(default_factory=list)
    """All of them, in order."""
    skipped: set[str] = field(default_factory=set)
    """Selectors that could not be read."""
    _by_key: dict[str, list[Rule]] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Append the rules of one style element."""
        text = _COMMENT.sub(" ", text.replace("<!--", "").replace("-->", ""))
        for prelude, block in _blocks(text):
            declarations = tuple(parse_declarations(block))
            for selector in prelude.split(","):
                parsed = _parse_selector(selector)
                if parsed is None:
                    self.skipped.add(selector.strip()[:40])
                    continue
                rule = Rule(*parsed, declarations, len(self.rules))
                self.rules.append(rule)
                first = rule.compounds[0]
                keys = [f"#{n}" for n in first.ids[:1]] or [f".{n}" for n in first.classes[:1]] or [first.tag or "*"]
                self._by_key.setdefault(keys[0], []).append(rule)

    def declarations(self, element: Element) -> list[Declaration]:
        """Return what the sheet declares for an element; later ones win."""
        keys = ["*", element.tag, "#" + element.attributes.get("id", "")]
        keys += ["." + name for name in set(element.attributes.get("class", "").split())]
        rules = [rule for key in keys for rule in self._by_key.get(key, ()) if rule.matches(element)]
        rules.sort(key=lambda rule: (rule.specificity, rule.order))
        return [declaration for rule in rules for declaration in rule.declarations]

    def selects_tag(self, tag: str) -> bool:
        """Return whether some selector asks for a tag."""
        return any(compound.tag == tag for rule in self.rules for compound in rule.compounds)
