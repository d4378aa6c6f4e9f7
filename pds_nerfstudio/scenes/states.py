"""The states of an edit that one can go back to, and their list, which outlives the run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pds_nerfstudio.page import Fineness, Picture
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.run import Settings
from pds_nerfstudio.whole_files import write_bytes, write_text

FOLDER = "states"
"""Of a run's folder, with its list and what is kept of states that have no folder of their own."""
_HOME = "home"
"""A file there, in the other folders that a session has made: the path of the folder that holds the list."""
_PICTURE = Fineness(320, 80)


@dataclass(frozen=True)
class State:
    """A kept state of the scene; its files are never written again."""

    number: int
    """From 1 on, in the order in which they were kept."""
    settings: Settings
    """That have made it."""
    plan: EditPlan
    """Of the steps that have made it."""
    next_step: int
    """The step that would have been run next."""
    checkpoint: Path
    """With everything of the scene and of the optimisers."""
    picture: Path
    """Of the fixed view."""
    finished: Path | None = None
    """The folder of the run, if all of its steps had been run."""

    @property
    def name(self) -> str:
        """What it is called in the panel: a number, which tells it from all others, and its words."""
        done = max(0, self.next_step - self.plan.start)
        end = "finished" if self.finished else f"{done} steps"
        return f"{self.number}: {self.settings['tgt_prompt']} ({end})"


class KeptStates:
    """The list of the states of a run, which begins with that of the run that it has started from.

    For each there are a .json and a .jpg in the run's folder states, and a .ckpt where no finished edit has it.

    Args:
        folder: Of the run.
        start: Folder of the run that it has started from, or goes on with; None if it began from nothing.
    """

    def __init__(self, folder: Path, start: Path | None) -> None:
        earlier = None if start is None else _home_of(start.resolve())
        goes_on = start is not None and start.resolve() == folder.resolve()
        self.home = folder.parent / earlier.name if goes_on and earlier is not None else folder
        """The run's folder that holds the list."""
        self._states = _read(self.home, folder.parent)
        if earlier is not None and not goes_on and not self._states:
            for state in _read(earlier, folder.parent):
                self._put(state, state.picture.read_bytes() if state.picture.exists() else b"")

    @property
    def all(self) -> tuple[State, ...]:
        """All of them, in the order in which they were kept."""
        return tuple(self._states)

    @property
    def next_number(self) -> int:
        """That of the next state."""
        taken = [int(path.stem) for path in (self.home / FOLDER).glob("*.*") if path.stem.isdecimal()]
        return max(taken, default=0) + 1

    def checkpoint(self, number: int) -> Path:
        """Return where to write the checkpoint of a state that has no folder of its own."""
        return self._file(number, ".ckpt")

    def add(self, state: State, picture: Picture) -> State:
        """Write a state into the list.

        Args:
            state: The path of its picture is set here.
            picture: What it looks like from the fixed view.

        Returns:
            The state as it is in the list.
        """
        return self._put(state, _PICTURE.jpeg(picture))

    def belong_to(self, folder: Path) -> None:
        """Note in another folder of this session that its list is here."""
        write_text(folder / FOLDER / _HOME, os.path.relpath(self.home, folder))

    def _put(self, state: State, picture: bytes) -> State:
        entry = replace(state, picture=self._file(state.number, ".jpg"))
        write_bytes(entry.picture, picture)
        write_text(self._file(state.number, ".json"), json.dumps(_plain(entry, self.home), ensure_ascii=False))
        self._states.append(entry)
        return entry

    def _file(self, number: int, ending: str) -> Path:
        return self.home / FOLDER / f"{number:03d}{ending}"


def _home_of(folder: Path) -> Path:
    """Return the folder that holds the list of a run's states."""
    pointer = folder / FOLDER / _HOME
    home = folder / pointer.read_text("utf8") if pointer.is_file() else folder
    return Path(os.path.normpath(home)) if home.is_dir() else folder


def _plain(state: State, home: Path) -> dict[str, Any]:
    """Return a state as JSON has it, with its paths as seen from the folder of its run."""
    paths = {"checkpoint": state.checkpoint, "finished": state.finished}
    return {
        **{name: getattr(state, name) for name in ("number", "settings", "next_step")},
        "plan": asdict(state.plan),
        **{name: None if path is None else os.path.relpath(path, home) for name, path in paths.items()},
    }


def _read(home: Path, beside: Path) -> list[State]:
    """Return the states in a list whose checkpoints are there: a folder may have been removed.

    Args:
        home: Folder of the run that the list is of.
        beside: The folder in which a run can rest in that of a finished edit.
    """
    states = []
    for file in sorted((home / FOLDER).glob("*.json")):
        try:
            entry = json.loads(file.read_text("utf8"))
            checkpoint, finished = (
                None if entry[name] is None else Path(os.path.normpath(home / entry[name]))
                for name in ("checkpoint", "finished")
            )
            plan = EditPlan(**entry["plan"])
            numbers = int(entry["number"]), int(entry["next_step"])
            settings = dict(entry["settings"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of another version, or no state
        if checkpoint is None or not checkpoint.is_file():
            continue
        if finished is not None:
            finished = beside / finished.name if finished.parent.resolve() == beside.resolve() else None
        states.append(State(numbers[0], settings, plan, numbers[1], checkpoint, file.with_suffix(".jpg"), finished))
    return states
