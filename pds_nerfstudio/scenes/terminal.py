"""Print lines that may hold text from users: the terminal obeys no command in them."""

from __future__ import annotations

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
