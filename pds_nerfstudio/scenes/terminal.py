"""Lines in the terminal, which may hold what somebody typed: nothing in them is acted on."""

from __future__ import annotations

from nerfstudio.utils.rich_utils import CONSOLE
from rich.text import Text

from pds_nerfstudio.one_line import one_line


def say(line: str, style: str = "", before: str = "") -> None:
    """Print one line as it stands, without line breaks, markup and commands for the terminal that may be in it.

    Args:
        line: What to say.
        style: Of all of it, as rich calls it, for example "yellow".
        before: What the line begins with: words of this package's own, with spaces to stand below each other.
    """
    CONSOLE.print(Text(before + one_line(line), style), soft_wrap=True)
