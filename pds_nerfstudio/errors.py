"""The one exception that is meant for the user."""

from __future__ import annotations

import re
from collections.abc import Callable

from pds_nerfstudio.one_line import one_line

_FIELD = re.compile(r"`([A-Za-z_][\w.]*)`")


class UserError(Exception):
    """A mistake that the user can mend: a wrong path, a missing prompt, an option out of range.

    Its text is one line that names the thing and the way out. Entry points catch it and print that line
    without a traceback; anything else that escapes is a bug and keeps its traceback.

    Fields of configurations that are options of commands stand in backticks. They are shown without, and a command
    shows them as on its command line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._groups: list[str] = []

    def within(self, group: str) -> None:
        """Note that the fields are those of a part of a configuration, of which there may be an outer one, too."""
        self._groups.insert(0, group)

    def __str__(self) -> str:
        return self._shown(lambda name: ".".join([*self._groups, name]))

    def on_command_line(self) -> str:
        """Return the text with fields as a command's options, such as --edit.fit-steps."""
        return self._shown(lambda name: "--" + ".".join([*self._groups, name]).replace("_", "-"))

    def _shown(self, field: Callable[[str], str]) -> str:
        return one_line(_FIELD.sub(lambda match: field(match[1]), super().__str__()))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop, to be quoted in a sentence.

    Libraries fail in ways of their own, often with pages of text. An error without text is called by its type.
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".: ") if lines else type(error).__name__
