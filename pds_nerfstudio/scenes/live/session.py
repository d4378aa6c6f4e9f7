"""Requests to a running edit, their record, and their replay without a person.

The viewer's panel only ever *asks*; the trainer takes what was asked between two steps, does it, and has it written
down with the step it came before. A record given back as a replay asks for the same at the same steps.
"""

from __future__ import annotations

import hashlib
import json
import math
import queue
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.page import Picture
from pds_nerfstudio.scenes.run import SETTINGS, Settings, Status
from pds_nerfstudio.scenes.states import State
from pds_nerfstudio.whole_files import append_line, write_text

Action = Literal[
    "set", "pick", "draft", "edit", "queue", "pause", "undo", "redo", "back", "branch", "snapshot", "export", "compare",
    "stop",
]  # fmt: skip
"""set: change settings. pick: let change, too, what is seen along some "rays", by a "brush", the radius of what is at a
distance of one; it becomes a set. draft: draw what a "view" may come to show; the scene stays as it is. edit: change
settings and go on (with a new round of steps, if all have been run). Where the settings hold a "round", that is from
"here" or the "source": a whole new round. queue: the same, once all steps have been run. undo: back to the scene before
the edit. redo: back to what was undone. back: to the kept "state" of that number. branch, snapshot, export: keep the
present result. compare: write a page of all kept states side by side. stop: end the run."""

_ASKED_BESIDE = ("round", "state", "view")
"""What a request may hold beside settings."""
_LONGEST_NAME = 60
_DIGITS = 6


@dataclass(frozen=True)
class Request:
    """A request to a running edit."""

    action: Action
    """What to do."""
    settings: Settings = field(default_factory=dict)
    """New values of settings, for the actions set and edit; what to pick."""


class EditSession:
    """The requests to one run, from any thread, and their record.

    Args:
        settings: By their names in `SETTINGS`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        """Their current values. The loop that runs the edit sets them; all else only reads them."""
        self.status = Status()
        """The current state of the run. The loop that runs the edit sets it; all else only reads it."""
        self.states: tuple[State, ...] = ()
        """The kept states that one can go back to. The loop that runs the edit sets them."""
        self.files: dict[str, Path] = {}
        """The last written of each result, by its name. The loop that runs the edit sets them."""
        self.draft: Picture | None = None
        """What somebody looked at, and right of it a draft of its edit. The loop that runs the edit sets it."""
        self.live = False
        """Whether an edit is running and answers requests; False where a finished run is viewed."""
        self.replaying = False
        """Whether the requests are those of an earlier run."""
        self.wake: Callable[[], None] = lambda: None
        """Called after each new request, in the thread that made it."""
        self._record: Path | None = None
        self._held: list[str] | None = None
        self._replay: list[tuple[int, Request]] = []
        self._asked: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def begin(self, record: Path | None, replay: list[tuple[int, Request]] | None = None) -> None:
        """Answer requests from now on.

        Args:
            record: File that every request that was fulfilled is appended to, one JSON object a line; None keeps none.
            replay: Requests of an earlier run, each with the step that it is to come before.
        """
        self.live, self._record = True, record
        self.replaying, self._replay = replay is not None, list(replay or [])

    def ask(self, request: Request) -> None:
        """Ask for something to be done before the next step. May be called from any thread."""
        self._asked.put(request)
        self.wake()

    def due(self, step: int) -> bool:
        """Return whether something is to be done before `step`."""
        return not self._asked.empty() or any(when <= step for when, _ in self._replay[:1])

    def take(self, step: int) -> list[Request]:
        """Remove and return the requests that are due before `step`, oldest first."""
        requests = []
        while self._replay and self._replay[0][0] <= step:
            requests.append(self._replay.pop(0)[1])
        while not self._asked.empty():
            requests.append(self._asked.get())
        return requests

    def hold(self) -> None:
        """Write nothing more into the record, which is that of a finished edit, until the session goes on elsewhere."""
        self._held = [] if self._held is None else self._held

    def go_on_in(self, record: Path) -> None:
        """Go on in another record, which begins with all that was fulfilled so far."""
        if self._record is not None:
            self.copy_record(record)
            self._record = record
        self._held = None

    def copy_record(self, record: Path) -> None:
        """Write all that was fulfilled so far into another file, if it is on record."""
        if self._record is not None:
            earlier = self._record.read_text("utf8") if self._record.exists() else ""
            write_text(record, earlier + "".join(f"{line}\n" for line in self._held or []))

    def write_down(self, step: int, request: Request) -> None:
        """Append a fulfilled request to the record."""
        if self._record is None:
            return
        line: dict[str, Any] = {
            "step": step,
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            "action": request.action,
        }
        if request.settings:
            line["settings"] = request.settings
        text = json.dumps(line, ensure_ascii=False)
        if self._held is not None:
            self._held.append(text)
            return
        append_line(self._record, text)


def read_record(path: Path) -> list[tuple[int, Request]]:
    """Return the requests of a record, each with the step that it came before.

    Raises:
        UserError: If the file is not there, or is no record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UserError(f"--replay {path}: there is no such file; give the session.jsonl of a run.") from None
    except ValueError:
        raise UserError(f"--replay {path}: it is no text; give the session.jsonl of a run.") from None
    requests = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            request = Request(entry["action"], entry.get("settings", {}))
            step = int(entry["step"])
            if request.action not in get_args(Action) or not set(request.settings) <= {*SETTINGS, *_ASKED_BESIDE}:
                raise ValueError
            if not all(_is_of_its_type(name, value) for name, value in request.settings.items()):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise UserError(f"--replay {path}: line {number} is not of a session.jsonl of this version.") from None
        requests.append((step, request))
    return requests


def _is_of_its_type(name: str, value: Any) -> bool:
    """Return whether a setting's value is of its type; whether it makes sense is looked at when it is set."""
    if name in ("src_prompt", "tgt_prompt", "objective", "t_schedule", "localize_by", "round"):
        return isinstance(value, str)
    if name in ("steps_left", "state"):
        return type(value) is int
    if name == "only":
        return isinstance(value, dict)
    if name == "rays":
        return isinstance(value, list)
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def branch_name(prompt: str, taken: Callable[[str], bool]) -> str:
    """Return a folder name for the result of `prompt` that is not taken yet: its words, and a number if need be.

    Where the words are not all of the prompt, a few digits of its own tell it from others that share them.
    """
    said = " ".join(prompt.split())
    words = re.sub(r"\W+", "-", said.lower()).strip("-")
    words = words.encode()[:_LONGEST_NAME].decode(errors="ignore").strip("-") or "branch"  # a file system counts bytes
    if words.replace("-", " ") != said:
        words += "-" + hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]
    name, number = words, 2
    while taken(name):
        name, number = f"{words}-{number}", number + 1
    return name
