"""Print lines that may hold text from users, and go on when nobody reads them any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from nerfstudio.utils.rich_utils import CONSOLE
from rich.text import Text

from pds_nerfstudio.one_line import one_line


def say(line: str, style: str = "", before: str = "") -> None:
    """Print text literally on one line: markup is not applied; line breaks and terminal commands are removed.

    Args:
        line: What to say.
        style: Of all of it, as rich calls it, for example "yellow".
        before: What the line begins with: words of this package's own, with spaces to stand below each other.
    """
    CONSOLE.print(Text(before + one_line(line), style), soft_wrap=True)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Go on inside when the output can't be written: its reader has ended, its terminal is closed, its disk is full."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Lasting(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Lasting:
    """A stream that is written to nowhere once it can't be written.

    Args:
        stream: The program's stdout or stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if that can be done."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Write what has been buffered, if that can be done."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()
        if self._stream.fileno() != 2:
            print(f"The output can't be written any more ({error.strerror}): the run goes on.", file=sys.stderr)
