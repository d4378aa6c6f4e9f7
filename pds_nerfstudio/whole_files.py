"""Write files and folders whole or not at all, whenever the process ends and wherever the disk is full.

What is written lies in a folder unfinished-… beside its place, under its own name, and is moved when it is whole. A
process that is killed can leave such a folder behind. It may be removed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where to write a file. It gets its place when the block ends well, instead of one that was there.

    Args:
        path: Its place. Folders above it are made.
    """
    path = path.resolve()  # what a link leads to is replaced, not the link
    with _unfinished(path) as unfinished:
        yield unfinished
        flush(unfinished)
        os.replace(unfinished, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to write into. It gets its place when the block ends well, instead of one that was there.

    Args:
        path: Its place. Folders above it are made.
    """
    path = path.resolve()
    with _unfinished(path) as unfinished:
        unfinished.mkdir()
        yield unfinished
        if path.exists():
            os.replace(path, unfinished.parent / "before")
        os.replace(unfinished, path)


def flush(path: Path) -> None:
    """See that a file is on its disk. That of a network may say only now that it is full."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(data)


def as_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, which knows no NaN and no infinity: null stands for them."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Path, line: str) -> None:
    """Append a line to a file of one JSON value a line. Half a line, left by a process that ended, is removed first.

    Args:
        path: Of the file, which is made if it is not there. Folders above it are made.
        line: Without its line break.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _end_with_whole_line(path)
        file.write(f"{line}\n".encode())


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file that `append_line` writes, without half a line at its end."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    last = lines.pop()
    return [*lines, last] if _is_json(last) else lines


def _end_with_whole_line(path: Path) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        last = file.read().split(b"\n")[-1]
        if _is_json(last):
            file.write(b"\n")
        else:
            file.truncate(end - len(last))


def _is_json(line: str | bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Yield a path of the same name, which does not exist, in a new folder beside; that is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="unfinished-", dir=path.parent))
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
