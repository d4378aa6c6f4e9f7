"""CSS as SVG files use it: declarations, and style sheets that select elements."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cssselect2
import tinycss2

from pds_nerfstudio.vector.svg.xml_source import Element

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_DECLARATION = re.compile(r"([\w-]+)\s*:\s*((?:[^;\"'(]|\"[^\"]*\"?|'[^']*'?|\([^)]*\)?)*)")
_BY_NAME = re.compile(r"(?:\s*(?:[.#][\w-]+)+\s*,?)*")
_IMPORTANT = re.compile(r"!\s*important\s*\Z", re.IGNORECASE)

MAX_SHEET = 4 * 2**20
"""Longest style sheet that is read, in characters."""
MAX_SELECTORS = 2000
"""Longest list of selectors that is read, in characters."""
MAX_BRACKETS = 16
"""Most brackets in one."""
MAX_SIBLINGS = 2000
"""Most elements in one that selectors may look through."""
MAX_STEPS = 20_000_000
"""About how many steps the selectors of a file may take in all; those beyond are left out."""

_UNSEEN = ("font-face", "charset", "namespace", "keyframes", "-webkit-keyframes", "page")
"""At-rules that change nothing about a still drawing, or nothing that is drawn here."""


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
    """Where the value stands in the block's text; with an owner, in the text of that."""
    owner: Element | None = None
    """The style element that it stands in, where it is known where in that."""


def parse_declarations(text: str) -> list[Declaration]:
    """Read the inside of a block or of a style attribute."""
    # comments become blanks, so that places stay what they are
    text = _COMMENT.sub(lambda m: " " * len(m[0]), text)
    found = []
    for match in _DECLARATION.finditer(text):
        value = match[2].rstrip()
        plain = _IMPORTANT.sub("", value).rstrip()
        start = match.start(2)
        name = match[1] if match[1].startswith("--") else match[1].lower()
        found.append(Declaration(name, plain, plain != value, (start, start + len(plain))))
    return found


def _is_seen(queries: str) -> bool | None:
    """Tell whether a list of media queries has one for a light screen; None where it asks for something else."""
    answers = []
    for query in queries.lower().split(","):
        words = query.split()
        if words[:1] == ["only"]:
            words = words[1:]
        negative = words[:1] == ["not"]
        medium = " ".join(words[1:] if negative else words).replace(": ", ":").replace(" :", ":")
        known = {"": True, "all": True, "screen": True, "print": False, "speech": False}
        known |= {
            f"{p}(prefers-color-scheme:{s})": s == "light" for p in ("", "screen and ") for s in ("light", "dark")
        }
        answer = known.get(medium)
        answers.append(answer if answer is None else answer != negative)
    return True if True in answers else None if None in answers else False


def _cost(selectors: str, elements: int, depth: int, width: int) -> int:
    """Return about how many steps it takes to try selectors on all elements of a tree."""
    total = 0
    for selector in selectors.split(","):
        cost = elements
        # a blank leads through ancestors, a tilde and some pseudo-classes through siblings
        for joint in re.findall(r":has|-of-type|\bof\b|\s*[>+]\s*|\s*~(?!=)\s*|\s+", selector.strip()):
            plain = joint.strip()
            cost *= {"": depth, ">": 1, "+": 1, ":has": elements}.get(plain, width)
        total += cost
    return total


class _Place:
    """Where the declarations of one style element stand in its text.

    Args:
        owner: The element.
        text: Its text, as it is parsed.
    """

    def __init__(self, owner: Element, text: str) -> None:
        self._owner, self._text = owner, text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def locate(
        self, found: Sequence[Declaration], content: Sequence[tinycss2.ast.Node], block: str
    ) -> Iterator[Declaration]:
        """Return the declarations of a block with their places in the whole text, where the block stands in it."""
        if not content:
            return
        at = self._lines[content[0].source_line - 1] + content[0].source_column - 1
        # what is written with escapes, or with other line ends, is not found
        known = self._text.startswith(block, at)
        for d in found:
            start, end = d.span
            yield replace(d, span=(at + start, at + end), owner=self._owner) if known else d


@dataclass
class StyleSheet:
    """The rules of all style elements of a file."""

    skipped: set[str] = field(default_factory=set)
    """What of them could not be read."""
    _rules: list[tuple[str, tuple[Declaration, ...]]] = field(default_factory=list)
    _matcher: cssselect2.Matcher | None = None
    _known: dict[tuple[str, str], list[Declaration]] = field(default_factory=dict)
    _keys: set[str] = field(default_factory=set)
    """An id, a class or a tag that an element needs for a rule to apply; empty where one needs none of them."""
    _wrapped: dict[Element, cssselect2.ElementWrapper] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether there is any rule."""
        return bool(self._rules)

    @cached_property
    def asks_for_attributes(self) -> bool:
        """Tell whether more than ids and classes decides whether a rule applies."""
        return not all(_BY_NAME.fullmatch(selectors) for selectors, _ in self._rules)

    def elsewhere(self) -> "StyleSheet":
        """Return the same rules for another tree."""
        return StyleSheet(_rules=self._rules)

    def add(self, text: str, media: str = "", owner: Element | None = None) -> None:
        """Append the rules of one style element.

        Args:
            text: The rules.
            media: The media queries under which they apply.
            owner: The element; without it, declarations do not know where they stand.
        """
        if not self._is_seen(media):
            return
        if len(text) > MAX_SHEET:
            self.skipped.add(f"style sheets of more than {MAX_SHEET // 2**20} MiB")
            return
        text = text.replace("<!--", "    ").replace("-->", "   ")
        place = None if owner is None else _Place(owner, text)
        rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        self._rules += self._read(rules, 0, place)
        self._matcher = None
        self._known.clear()
        self.__dict__.pop("asks_for_attributes", None)

    def _is_seen(self, queries: str) -> bool:
        """Tell whether media queries hold; note what they ask for beyond a light screen."""
        seen = _is_seen(queries)
        if seen is None:
            self.skipped.add(f"@media {queries[:40]}")
        return bool(seen)

    def _read(
        self, rules: Sequence[tinycss2.ast.Node], depth: int, place: "_Place | None"
    ) -> Iterator[tuple[str, tuple[Declaration, ...]]]:
        for rule in rules:
            try:
                prelude = tinycss2.serialize(getattr(rule, "prelude", ())).strip()
                block = tinycss2.serialize(rule.content) if rule.type == "qualified-rule" else ""
            except RecursionError:
                self.skipped.add("style sheets with too many brackets")
                continue
            if rule.type == "qualified-rule":
                found = parse_declarations(block)
                yield prelude, tuple(found if place is None else place.locate(found, rule.content, block))
            elif rule.type == "at-rule" and rule.lower_at_keyword == "media" and depth < MAX_BRACKETS:
                if self._is_seen(prelude):
                    inner = tinycss2.parse_rule_list(rule.content or (), skip_comments=True, skip_whitespace=True)
                    yield from self._read(inner, depth + 1, place)
            elif rule.type == "at-rule" and rule.lower_at_keyword not in _UNSEEN:
                self.skipped.add(f"@{rule.at_keyword[:40]}")

    def declarations(self, element: Element) -> list[Declaration]:
        """Return what the sheet declares for an element; later ones win."""
        if not self._rules:
            return []
        if self.asks_for_attributes:
            return self._match(element)
        names = element.attributes.get("class", ""), element.attributes.get("id", "")
        if names not in self._known:
            self._known[names] = self._match(element)
        return self._known[names]

    def _match(self, element: Element) -> list[Declaration]:
        if element not in self._wrapped:
            root = element
            while root.parent is not None:
                root = root.parent
            wrapped = cssselect2.ElementWrapper.from_xml_root(root)
            self._wrapped = {wrapper.etree_element: wrapper for wrapper in wrapped.iter_subtree()}
            self._matcher = None
        if self._matcher is None:
            self._matcher = self._compile()
        names = {element.tag, "#" + element.attributes.get("id", "")}
        names.update("." + name for name in element.attributes.get("class", "").split())
        if self._keys.isdisjoint(names) and "" not in self._keys:
            return []
        matches = self._matcher.match(self._wrapped[element])
        return [declaration for _, _, pseudo, rule in matches if pseudo is None for declaration in rule]

    def _compile(self) -> cssselect2.Matcher:
        """Return what finds the rules of elements; leave out what cannot be read, or would take too long."""
        matcher, left = cssselect2.Matcher(), MAX_STEPS
        depth = max((len(wrapper.ancestors) for wrapper in self._wrapped.values()), default=0)
        width = max((len(element.children) for element in self._wrapped), default=0)
        if any(re.search(r"~|\bof\b", selectors) for selectors, _ in self._rules) and width <= MAX_SIBLINGS:
            for wrapper in self._wrapped.values():
                _ = wrapper.previous_siblings  # which asks the one before: in this order, that is no recursion
        else:
            width = MAX_STEPS
        for selectors, declarations in self._rules:
            try:
                if len(selectors) > MAX_SELECTORS or selectors.count("(") > MAX_BRACKETS:
                    raise cssselect2.SelectorError
                plain = re.fullmatch(r"[\w.#,-]*", selectors)
                cost = 0 if plain else _cost(selectors, len(self._wrapped), depth, width)
                if cost > left:
                    raise cssselect2.SelectorError
                left -= cost
                for selector in cssselect2.compile_selector_list(selectors):
                    matcher.add_selector(selector, declarations)
                    named = f".{selector.class_name}" if selector.class_name else selector.local_name or ""
                    self._keys.add(f"#{selector.id}" if selector.id else named)
            except (cssselect2.SelectorError, NotImplementedError, RecursionError, SyntaxError):
                self.skipped.add(f"selector {selectors[:40]!r}")
        return matcher
