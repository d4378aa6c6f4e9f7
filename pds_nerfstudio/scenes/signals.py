"""How a run ends early: after the current step on Ctrl-C or another signal, with one line on a user's mistake."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pds_nerfstudio.again import NAME
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.orbit import FOLDER
from pds_nerfstudio.scenes.run_folder import LOCK

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that end a program and mean that it should end: of SLURM and other queues, of a terminal that closes."""
_WRITTEN_BY_A_START = ("config.yml", NAME, FOLDER, LOCK, "events.out.*", "viewer_log*")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def stopped_by_signals(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` with the number of each signal inside that asks the program to end; but a second Ctrl-C ends it.

    Those of a queue may come several times, by ways of their own. What is ignored, as by nohup, stays so. In another
    thread than the main one, which no signal reaches, this does nothing.
    """
    before = _handlers()

    def on_ctrl_c(signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        stop(signum)

    def on_others(signum: int, frame: object) -> None:
        stop(signum)

    try:
        for signum in before:
            signal.signal(signum, on_ctrl_c if signum == signal.SIGINT else on_others)
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def stopped_while_loading() -> Iterator[None]:
    """End the program with one line on Ctrl-C and the signals that ask for it, while there is nothing to save."""
    before = _handlers()
    caught = signal.SIGINT

    def interrupt(signum: int, frame: object) -> None:
        nonlocal caught
        caught = signal.Signals(signum)
        raise KeyboardInterrupt

    try:
        for signum in before:
            signal.signal(signum, interrupt)
        yield
    except KeyboardInterrupt:
        tell("Stopped while loading: there is nothing to save.")
        raise SystemExit(exit_status(caught)) from None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def hand_on_signals() -> None:
    """From now on, hand the signals that ask this process to end on to those that it has started, and wait for them.

    For the process that nerfstudio starts one for each GPU from. It would end at once, and the others be killed by what
    had started it before they have saved.
    """

    def hand_on(signum: int, frame: object) -> None:
        for process in multiprocessing.active_children():
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signum)
        raise SystemExit(exit_status(signal.Signals(signum)))  # which waits for them

    for signum in _handlers().keys() - {signal.SIGINT}:
        signal.signal(signum, hand_on)


def _handlers() -> dict[signal.Signals, Any]:
    """Return the handlers of the signals to be caught."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    others = {signum: signal.getsignal(signum) for signum in _STOPPING}
    return {
        signal.SIGINT: signal.getsignal(signal.SIGINT),
        **{signum: handler for signum, handler in others.items() if handler == signal.SIG_DFL},
    }


def exit_status(signum: int) -> int:
    """Return the exit status of a program that a signal has ended, as shells have it."""
    return 128 + signum


def tell(line: str) -> None:
    """Print a line to stderr, also from within a handler of a signal, and where the terminal is gone."""
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode())


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line, in place of a traceback, for a `UserError` or what a disk refuses."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    except OSError as error:
        raise SystemExit(f"Error: {refusal(error)}") from None


def refusal(error: OSError) -> str:
    """Return in a sentence what a disk has refused."""
    if error.errno in _FULL:
        return f"The disk is full ({error}): make room, then resume from the last checkpoint."
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or error}."


@contextmanager
def nothing_left_if_refused(folder: Path, above: Path) -> Iterator[None]:
    """Remove a run's folder where a mistake or Ctrl-C ends its start, if there is only what a start writes in it.

    Args:
        folder: Of the run.
        above: A folder above it, which stays; those between go where they are empty.
    """
    try:
        yield
    except (UserError, OSError, KeyboardInterrupt):
        if all(any(path.match(name) for name in _WRITTEN_BY_A_START) for path in folder.glob("*")):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another run may be in one of them
                while (folder := folder.parent) != above:
                    folder.rmdir()
        raise
