"""The folder of a run: of its own, whatever name it was given."""

from __future__ import annotations

import atexit
import shutil
from pathlib import Path

from filelock import FileLock, Timeout
from nerfstudio.engine.trainer import TrainerConfig

from pds_nerfstudio.runs import new_folder
from pds_nerfstudio.scenes.terminal import say

LOCK = ".running"
"""A file in the folder of a run, locked for as long as its process lives, and removed when that ends."""
FINISHED = "report.html"
"""What an edit writes last."""
_WITHOUT_WORK = (
    *("config.yml", "again.sh", "dataparser_transforms.json", "session.jsonl", "events.out.*", "viewer_log*"),
    *("history", "orbit", "unfinished*", LOCK),
)
"""What a run has in its folder before its first checkpoint."""
_locks: list[FileLock] = []
"""Of this process's runs."""


def claim_folder(config: TrainerConfig) -> None:
    """Make a run's folder, under another name if there is one already; two runs begun at once get two.

    A run that goes on from its own last checkpoint goes on in its own folder, unless that holds a finished edit, of
    which nothing is replaced. One that was killed before its first checkpoint has left nothing to go on from: its
    folder is taken again.

    Args:
        config: Of the run, whose timestamp may change.

    Raises:
        UserError: If no folder can be made there.
    """
    folder = config.get_base_dir()
    if goes_on_in(folder, config) and not (folder / FINISHED).exists():
        return
    if _takes_again(folder):
        say(f"{folder} is of a run that was ended before its first checkpoint: this one begins there again.", "yellow")
        return
    made = new_folder(folder.parent, folder.name)
    _locks_up(made)
    if made.name != folder.name:
        say(f"{folder} holds a run already: this one goes to {made}.", "yellow")
        config.timestamp = made.name


def _takes_again(folder: Path) -> bool:
    """Empty a folder in which there is no work, and no run at work; return whether that was done."""
    if not folder.is_dir() or not _holds_no_work(folder) or not _locks_up(folder):
        return False
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    return True


def _holds_no_work(folder: Path) -> bool:
    return (folder / "config.yml").is_file() and all(
        any(path.match(name) for name in _WITHOUT_WORK) for path in folder.iterdir()
    )


def _locks_up(folder: Path) -> bool:
    """Show to other runs that this process works in a folder; return whether that was possible."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError, NotImplementedError):  # another's, or a file system without locks
        return False
    _locks.append(lock)
    atexit.register((folder / LOCK).unlink, missing_ok=True)
    return True


def goes_on_in(folder: Path, config: TrainerConfig) -> bool:
    """Return whether a run starts from a checkpoint in its own folder."""
    start = config.load_dir or (config.load_checkpoint and config.load_checkpoint.parent)
    own = {folder.resolve(), (folder / config.relative_model_dir).resolve()}
    return start is not None and start.resolve() in own
