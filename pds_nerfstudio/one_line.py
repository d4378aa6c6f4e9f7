"""What people write, made safe to show: in a terminal, on a page, in a picture."""

from __future__ import annotations

import re
import unicodedata

# What a terminal takes for a command: CSI … letter, OSC … BEL (or ESC \), and ESC with one character.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -~]?")
_TURNS_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str, most: int | None = None) -> str:
    """Return text on one line, without anything that a terminal or page would obey instead of show.

    Line breaks become spaces. Escape sequences of terminals, control characters and invisible marks that change the
    direction of reading are removed. Lone surrogates, which names of files may hold, become �: no UTF-8 file can hold
    them.

    Args:
        text: What somebody wrote.
        most: Characters at most; the last is … if some were left out.
    """
    kept = (_shown(character) for character in _ESCAPES.sub("", text))
    line = " ".join("".join(kept).split())
    return line if most is None or len(line) <= most else line[: most - 1].rstrip() + "…"


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    return "" if category == "Cc" or character in _TURNS_DIRECTION else character
