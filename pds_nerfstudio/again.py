"""again.sh: a script in a run's folder that does the run again, with the options that are given to it besides."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pds_nerfstudio import __version__
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.whole_files import whole_file

NAME = "again.sh"
"""Of the script, in each run's folder."""
OWN_FOLDER = "$here"
"""Word that a command may begin a path with: the script's own folder, wherever that has gone."""
FURTHER_OPTIONS = "$@"
"""Word of a command that stands for the options that are given to the script."""
_OTHER_STARTS = "|".join(f'*" --load"[-_]{name}*' for name in ("dir", "checkpoint", "ply"))
"""Pattern of a shell for options that name a start; commands take an underscore for a dash."""
_RUNS, _NEXT_LINE = "exec ", " \\\n    "


@dataclass(frozen=True)
class Start:
    """What a run starts from, unless the script is given another start."""

    words: Sequence[str] = ()
    """Options that name it."""
    instead: Sequence[str] = ()
    """Options that count where another is given."""

    @property
    def lines(self) -> list[str]:
        """Lines of the script that put these options before the others that are given."""
        if not (self.words or self.instead):
            return []
        another, this = (
            " ".join(["set --", *map(_quoted, [*words, FURTHER_OPTIONS])]) for words in (self.instead, self.words)
        )
        return ['case " $* " in', f"{_OTHER_STARTS}) {another} ;;", f"*) {this} ;;", "esac"]


NO_START = Start()


def write_again(
    folder: Path, command: Sequence[Sequence[str]], start: Start = NO_START, notes: Sequence[str] = ()
) -> Path:
    """Write the script that does a run again; return its path.

    It works in the folder that this process works in, because paths may be named from there, and finds the commands of
    this Python first.

    Args:
        folder: Of the run.
        command: The words of each line of the command. `FURTHER_OPTIONS` is one of them.
        start: What it starts from.
        notes: What a reader should know, each on a line.
    """
    lines = [
        "#!/bin/sh",
        f"# Does this run again. Options that it is given count more than its own. By pds_nerfstudio {__version__}.",
        *(f"# {one_line(note)}" for note in notes),
        'here=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd) || exit',
        f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        f"cd -- {shlex.quote(str(Path.cwd()))} || exit",
        *start.lines,
        _RUNS + _NEXT_LINE.join(" ".join(map(_quoted, words)) for words in command),
    ]
    with whole_file(folder / NAME) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", "utf8", "surrogateescape")
        unfinished.chmod(0o755)
    return folder / NAME


def command_in(folder: Path) -> list[str]:
    """Return the lines of the command in a run's script, as one would type it; none if it has no script."""
    path = folder / NAME
    text = path.read_text("utf8", "replace") if path.is_file() else ""
    command = text.partition(f"\n{_RUNS}")[2].replace(f'"{OWN_FOLDER}"/', "")
    command = command.replace(f'{_NEXT_LINE}"{FURTHER_OPTIONS}"', "").replace(f' "{FURTHER_OPTIONS}"', "")
    return command.splitlines()


def printed(folder: Path, *words: str) -> str:
    """Return the command that does a run again with some further options, as a shell takes it."""
    return shlex.join(["sh", str(folder / NAME), *words])


def reopening(folder: Path, checkpoints: Path) -> str:
    """Return the command that opens the finished edit of a scene in the viewer, to be steered further."""
    shown = ("--vis", "viewer", "--viewer.quit-on-train-completion", "False")
    return printed(folder, "--load-dir", str(checkpoints), *shown)


def _quoted(word: str) -> str:
    if word == FURTHER_OPTIONS:
        return f'"{word}"'
    if word.startswith(OWN_FOLDER):
        return f'"{OWN_FOLDER}"{shlex.quote(word.removeprefix(OWN_FOLDER))}'
    return shlex.quote(word)
