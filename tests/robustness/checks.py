"""What is to hold after any end of a run: inputs untouched, no half file under its final name, the same bits."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import torch
import yaml
from PIL import Image
from plyfile import PlyData
from torch import Tensor

from pds_nerfstudio.scenes.run_folder import LOCK
from pds_nerfstudio.whole_files import whole_lines

OTHERS = ("dataparser_transforms.json", "events.out.tfevents", LOCK)
"""What nerfstudio and TensorBoard write themselves, and what shows that a run is at work."""


def digest(folder: Path) -> str:
    """Return a number for all that a folder holds."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        whole.update(str(path.relative_to(folder)).encode())
        whole.update(path.read_bytes() if path.is_file() else b"")
    return whole.hexdigest()


def half_files(folder: Path) -> Iterator[str]:
    """Yield what is not whole among the files and folders of a run and its branches."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith("unfinished") for part in parts):
            continue
        if path.name.startswith(OTHERS):
            continue
        try:
            _read(path)
        except Exception as error:  # whatever reading half a file raises
            yield f"{'/'.join(parts)}: {type(error).__name__} {error}"
    for views in folder.rglob("edited_views"):
        if any(part.startswith("unfinished") for part in views.relative_to(folder).parts):
            continue
        frames = json.loads((views / "transforms.json").read_text())["frames"]
        if {views / frame["file_path"] for frame in frames} != set((views / "images").iterdir()):
            yield f"{views}: not all views"
    for source in folder.rglob("reconstruction"):
        if len([*source.glob("step-*.ckpt")]) != 1 and not source.parent.name.startswith("unfinished"):
            yield f"{source}: no checkpoint"


def _read(path: Path) -> None:
    if path.suffix == ".ckpt":
        _load(path)
    elif path.suffix in (".png", ".jpg"):
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".yml":
        assert yaml.load(path.read_text(), yaml.Loader).method_name
    elif path.suffix == ".ply":
        PlyData.read(path)
    elif path.suffix == ".jsonl":
        for line in whole_lines(path):
            json.loads(line)
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".sh":
        subprocess.run(["sh", "-n", path], check=True)
    elif path.suffix == ".mp4":
        assert imageio_ffmpeg.count_frames_and_secs(path)[0]
    else:
        raise ValueError("a file of no known kind")


def start_of(run: Path) -> Path | None:
    """Return the folder of checkpoints from which a run is to be resumed, if it has one."""
    folders = [run / "nerfstudio_models", run / "reconstruction"]
    return next((folder for folder in folders if any(folder.glob("step-*.ckpt"))), None)


def last_state(run: Path) -> Any:
    """Return the last checkpoint of a run."""
    return _load(max((run / "nerfstudio_models").glob("step-*.ckpt")))


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """Yield the names of the numbers in which two checkpoints differ, by the last bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{name}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for key, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{name}/{key}")
    elif not (torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other):
        yield name
