"""The one exception that is meant for the user."""

from __future__ import annotations

from pds_nerfstudio.one_line import one_line


class UserError(Exception):
    """A mistake that the user can mend: a wrong path, a missing prompt, an option out of range.

    Its text is one line that names the thing and the way out. Entry points catch it and print that line
    without a traceback; anything else that escapes is a bug and keeps its traceback.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop, to be quoted in a sentence.

    Libraries fail in ways of their own, often with pages of text. An error without text is called by its type.
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".: ") if lines else type(error).__name__
