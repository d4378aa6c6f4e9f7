"""What people wrote, as the panel shows it: as it stands, with what has changed marked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.scenes.run import Settings
from pds_nerfstudio.scenes.states import State

MOST_LAST_WORDS = 5


def plain(text: str) -> str:
    """Return text that viser's markdown shows literally.

    That markdown is MDX: it runs code in braces, and whole lines of JavaScript; addresses become links, however they
        are escaped. Only a string in braces is merely shown.
    """
    escaped = re.sub(r"[^\w ]|_", lambda match: f"\\u{{{ord(match[0]):x}}}", one_line(text))
    return f'{{"{escaped}"}}'


def marked(source: str, target: str) -> str:
    """Return both prompts as markdown, with the words in bold that the target does not have from the source."""
    old, new = one_line(source).split(), one_line(target).split()
    parts = []
    for what, _, _, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if words := " ".join(new[first:last]):
            parts.append(plain(words) if what == "equal" else f"**{plain(words)}**")
    return f"*{plain(source)}* → {' '.join(parts)}"


def last_words(settings: Settings, states: Sequence[State]) -> dict[str, tuple[str, str]]:
    """Return the last prompts, newest first: source and target by what they are called.

    Args:
        settings: As they are now.
        states: That were kept.
    """
    all_of_them = [settings, *(state.settings for state in reversed(states))]
    named = {one_line(one["tgt_prompt"]): (one["src_prompt"], one["tgt_prompt"]) for one in reversed(all_of_them)}
    newest = list(dict.fromkeys(one_line(one["tgt_prompt"]) for one in all_of_them))
    return {name: named[name] for name in newest[:MOST_LAST_WORDS]}
