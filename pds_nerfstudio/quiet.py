"""What commands show of warnings: the text, and none of dependencies about each other.

nerfstudio warns while it imports itself, which is before it looks for plugins. torch, which it imports first, calls
every entry point of the group `torch.backends` at the end of its own import; `quiet_commands` stands there. This module
therefore imports nothing but the standard library.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_FOR_PROGRAMMERS = warnings.formatwarning
_COMMANDS = ("ns-", "pds-")
"""Beginnings of the names of commands that are kept quiet; other programs keep all their warnings."""
_SCRIPTS = Path(__file__).parents[1] / "scripts"
"""In a clone, the folder whose programs are kept quiet, too."""

_NOISE: tuple[tuple[type[Warning], str], ...] = (
    # nerfstudio's spelling of torch functions that still work; nobody but nerfstudio can change it.
    (FutureWarning, r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated"),
    (FutureWarning, r"`torch\.jit\.script` is deprecated"),
    (UserWarning, r"Using a non-tuple sequence for multidimensional indexing is deprecated"),
    # nerfstudio's loader of training images always asks for four workers, and works with the cores there are.
    (UserWarning, r"This DataLoader will create \d+ worker processes in total"),
    # viser on newer websockets, and torchmetrics' own imports.
    (DeprecationWarning, r"websockets\.\w+ (was renamed|is deprecated)"),
    (FutureWarning, r"Importing `\w+` from `torchmetrics\.functional` was deprecated"),
    # torch, of recordings of gradients (see `cuda_graph`): the streams are meant to differ.
    (UserWarning, r"The AccumulateGrad node's stream does not match"),
    # Python 3.12 on dependencies' strings, when it compiles their files at first use.
    (SyntaxWarning, r"invalid escape sequence"),
)
"""Warnings of dependencies about each other, which a user of this package can do nothing about."""


def quiet_dependencies() -> None:
    """Hide the warnings in `_NOISE`, and no others. Calling this again changes nothing.

    The filters stand behind all that there are: what the user asks for, say by `PYTHONWARNINGS=default`, holds.
    """
    for category, message in _NOISE:
        warnings.filterwarnings("ignore", message, category, append=True)


def _for_users(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning as it is shown."""
    if category is UserWarning:
        return f"Warning: {message}\n"
    return _FOR_PROGRAMMERS(message, category, filename, lineno, line)


def quiet_commands() -> None:
    """Where the running program is a command of nerfstudio or of this package, show warnings as its user needs them.

    Those in `_NOISE` are hidden. Those that are meant for users are shown without the line of Python that gave them.
    """
    program = Path(sys.argv[0] if sys.argv else "")
    if program.name.startswith(_COMMANDS) or program.absolute().parent == _SCRIPTS:
        quiet_dependencies()
        warnings.formatwarning = _for_users
