"""What lies in a folder: a scene in one of nerfstudio's layouts, or what one can be made from."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pds_nerfstudio.errors import UserError

_MODELS = tuple(
    f"{folder}/cameras.{ending}" for folder in ("colmap/sparse/0", "sparse/0", "sparse") for ending in ("bin", "txt")
)
_MARKS: dict[str, tuple[str, ...]] = {
    "nerfstudio-data": ("transforms.json",),
    "instant-ngp-data": ("transforms.json",),
    "blender-data": ("transforms_train.json",),
    "dnerf-data": ("transforms_train.json",),
    "colmap": _MODELS,
    "sdfstudio-data": ("meta_data.json",),
    "phototourism-data": ("dense/sparse/cameras.bin",),
    "scannetpp-data": ("dslr/nerfstudio/transforms.json",),
    "scannet-data": ("intrinsic/intrinsic_color.txt",),
    "arkit-data": ("*_frames/lowres_wide.traj",),
    "dycheck-data": ("extra.json",),
    "sitcoms3d-data": ("cameras.json",),
    "minimal-parser": ("train.npz",),
    "nerfosr-data": ("*/final/train/pose", "*/final_clean/train/pose"),
}
"""By the name of nerfstudio's parser: what tells its layout, the first of which is looked for by default."""
_VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".insv"})
_PHOTOS = frozenset({".jpg", ".jpeg", ".png", ".heic", ".tif", ".tiff", ".webp", ".bmp", ".dng"})
_FOLDERS_OF_PHOTOS = ("images", "input", "rgb", "color")


def check_layout(data: Path, parser: str, colmap_path: Path | None = None) -> None:
    """Refuse a path that holds no scene in a parser's layout, and say what to do with what it holds.

    Args:
        data: The path.
        parser: Its name in nerfstudio. Parsers of other packages are left alone.
        colmap_path: Where in the path the parser of COLMAP's models looks.

    Raises:
        UserError: Naming it.
    """
    if parser not in _MARKS or (data.is_file() and data.suffix == ".json"):
        return
    if colmap_path is not None:
        is_there, wanted = _found(data / colmap_path, "cameras.*"), f"{colmap_path}/cameras.bin"
    else:
        is_there, wanted = _found(data, *_MARKS[parser]), _MARKS[parser][0]
    if is_there:
        return
    raise UserError(_complaint(data, wanted))


def ending_of(folder: Path) -> str | None:
    """Return what a command ends with to read a folder: a parser's name, and its options; None if none reads it."""
    parser = next((name for name, marks in _MARKS.items() if _found(folder, *marks)), None)
    if parser == "blender-data" and _has_times(folder / "transforms_train.json"):
        return "dnerf-data"
    if parser == "colmap":
        model = _found(folder, *_MODELS)[0]
        return f"colmap{_colmap_options(folder, model.parent.relative_to(folder))}"
    if parser == "nerfosr-data":
        pose = _found(folder, *_MARKS[parser])[0]
        return f"nerfosr-data --scene {pose.relative_to(folder).parts[0]}"
    return parser


def _colmap_options(folder: Path, model: Path) -> str:
    options = "" if model == Path("colmap/sparse/0") else f" --colmap-path {model.as_posix()}"
    if not (folder / "images").is_dir():
        other = next((name for name in _FOLDERS_OF_PHOTOS if (folder / name).is_dir()), None)
        options += f" --images-path {other}" if other else ""
    return options


def _has_times(transforms: Path) -> bool:
    try:
        return "time" in json.loads(transforms.read_text("utf8"))["frames"][0]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _complaint(data: Path, wanted: str) -> str:
    """Return what a path holds in place of what is wanted, and the way out."""
    nothing = f"--data {data} holds no {wanted}: make one with ns-process-data, or mend the path."
    if not data.exists():
        return nothing
    if data.is_file():
        return _of_file(data)
    if (ending := ending_of(data)) is not None:
        parser = ending.split()[0]
        return f"--data {data} holds no {wanted}, but what {parser} reads: end the command with {ending}."
    inner = next((path for path in sorted(data.iterdir()) if path.is_dir() and ending_of(path) is not None), None)
    if inner is not None:
        return f"--data {data} holds no {wanted}, but {inner} is a scene: give that."
    if (data / "EXR_RGBD").is_dir():
        found = "a Record3D capture", "record3d", data
    elif photos := [path for path in (data, *(data / name for name in _FOLDERS_OF_PHOTOS)) if _holds(path, _PHOTOS)]:
        found = "photos", "images", photos[0]
    elif (video := _holds(data, _VIDEOS)) is not None:
        found = "a video", "video", video
    else:
        return nothing
    what, command, source = found
    return f"--data {data} holds {what} and no {wanted}: make a scene with {_making(command, source, data)}."


def _of_file(data: Path) -> str:
    kind = data.suffix.lower()
    if kind in _VIDEOS:
        return f"--data {data} is a video: make a scene of it with {_making('video', data, data)}."
    if kind == ".zip":
        made = _making("polycam", data, data)
        return f"--data {data} is an archive: unpack it or, if it is Polycam's, make a scene of it with {made}."
    return f"--data {data} is a file: give the folder of a scene."


def _making(command: str, source: Path, data: Path) -> str:
    """Return the command that makes a scene, in a new folder beside the data."""
    made = data.parent / f"{data.resolve().stem}-scene"
    return f"ns-process-data {command} --data {_as_typed(source)} --output-dir {_as_typed(made)}"


def _as_typed(path: Path) -> str:
    return shlex.quote(str(path))


def _found(folder: Path, *marks: str) -> list[Path]:
    """Return what fits the first of some patterns that anything fits."""
    if not folder.is_dir():
        return []
    return next((found for mark in marks if (found := sorted(folder.glob(mark)))), [])


def _holds(folder: Path, kinds: frozenset[str]) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds), None)
