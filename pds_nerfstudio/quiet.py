"""Hide the warnings of dependencies about each other, in the commands of nerfstudio and of this package.

nerfstudio warns while it imports itself, which is before it looks for plugins. torch, which it imports first, calls
every entry point of the group `torch.backends` at the end of its own import; `quiet_commands` stands there. This module
therefore imports nothing but the standard library.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

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


def quiet_commands() -> None:
    """Call `quiet_dependencies` where the running program is a command of nerfstudio or of this package."""
    program = Path(sys.argv[0] if sys.argv else "")
    if program.name.startswith(_COMMANDS) or program.absolute().parent == _SCRIPTS:
        quiet_dependencies()
