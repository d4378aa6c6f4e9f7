"""How a run ends early: after the current step on Ctrl-C, with one line on a user's mistake."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pds_nerfstudio.errors import UserError


@contextmanager
def stopped_by_ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C inside; a second one ends the program at once, as is usual in Python.

    In another thread than the main one, which no signal reaches, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop_once(signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    signal.signal(signal.SIGINT, stop_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line, in place of a traceback, for a `UserError` or a full disk."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SystemExit(
            f"Error: The disk is full ({error}): make room, then resume from the last checkpoint."
        ) from None


@contextmanager
def nothing_left_if_refused(folder: Path, above: Path) -> Iterator[None]:
    """Remove a run's folder after a `UserError` inside, if nothing but the config.yml of ns-train was written into it.

    Args:
        folder: Of the run.
        above: A folder above it, which stays; those between go where they are empty.
    """
    try:
        yield
    except UserError:
        written = list(folder.rglob("*"))
        if [path.name for path in written] in ([], ["config.yml"]):
            with suppress(OSError):  # another run of the same name may have begun to write
                for path in written:
                    path.unlink(missing_ok=True)
                while folder != above:
                    folder.rmdir()
                    folder = folder.parent
        raise
