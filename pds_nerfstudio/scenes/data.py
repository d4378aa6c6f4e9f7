"""Whether a run's data can be used, before anything is loaded."""

from __future__ import annotations

import copy
import json
import math
import shlex
from collections.abc import Sequence, Set
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, Cameras, CameraType
from nerfstudio.configs.dataparser_configs import all_dataparsers
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.comms import get_rank
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.picture_files import open_picture
from pds_nerfstudio.scenes.layouts import check_layout
from pds_nerfstudio.scenes.models.scene_model import SceneKind
from pds_nerfstudio.scenes.photos import fits
from pds_nerfstudio.scenes.present import PresentFrames, missing_of
from pds_nerfstudio.scenes.terminal import say

_LENSES: dict[SceneKind, frozenset[CameraType]] = {
    "splat": frozenset({CameraType.PERSPECTIVE, CameraType.FISHEYE}),
    "nerf": frozenset({CameraType.PERSPECTIVE, CameraType.FISHEYE, CameraType.EQUIRECTANGULAR}),
}
"""Splats are seen through plain lenses, and through those that nerfstudio makes plain ones of."""
_WIDEST = 80.0
"""Degrees from a fisheye's axis; beyond, the plain picture that nerfstudio asks OpenCV for is off, or none at all."""
_ONE_PLACE = 1e-5
"""Cameras nearer to each other than that, in the data's units, differ by rounding."""
_IN_ONE_PLACE = (
    "All cameras stand in one place, and nerfstudio scales a scene by how far they are apart: end the command with "
    "{name} --auto-scale-poses False."
)


def data_of(config: TrainerConfig) -> Path:
    """Return where a run's data lie, as nerfstudio looks for them."""
    datamanager: Any = config.pipeline.datamanager
    return Path(datamanager.data or config.data or datamanager.dataparser.data)


def lacks_data(config: TrainerConfig) -> bool:
    """Return whether no data are named, nor lie in the working folder."""
    dataparser = getattr(config.pipeline.datamanager, "dataparser", None)
    if not isinstance(dataparser, NerfstudioDataParserConfig):
        return False
    data = data_of(config)
    return data == Path() and not (data / "transforms.json").is_file()


def name_of(dataparser: Any) -> str:
    """Return the name of a configuration's parser on the command line."""
    return next((name for name, other in all_dataparsers.items() if type(other) is type(dataparser)), "its parser")


def ending_of(config: TrainerConfig) -> str:
    """Return what a command ends with to read the data as a run does; nothing, if that is what it does by itself."""
    dataparser: Any = getattr(config.pipeline.datamanager, "dataparser", None)
    name = name_of(dataparser)
    if name not in all_dataparsers:
        return ""
    usual: Any = all_dataparsers[name]
    if name == "nerfstudio-data":
        usual = replace(usual, load_3D_points=dataparser.load_3D_points)  # which differs between the methods
    words = [name]
    for option in (field.name for field in fields(usual) if field.name != "data"):
        value = getattr(dataparser, option)
        if value != getattr(usual, option):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{option.replace('_', '-')}", *(shlex.quote(str(part)) for part in values)]
    return "" if words == ["nerfstudio-data"] else " ".join(words)


def check_data(config: TrainerConfig, kind: SceneKind) -> None:
    """Refuse data that nerfstudio, or the edit, would trip over, and say how many of their pictures are missing.

    Headers of pictures are read, and none of their pixels.

    Args:
        config: Of the run.
        kind: What sort of scene it edits.

    Raises:
        UserError: Naming what is wrong.
    """
    dataparser = getattr(config.pipeline.datamanager, "dataparser", None)
    if dataparser is None:
        return
    data = data_of(config)
    name = name_of(dataparser)
    check_layout(data, name, dataparser.colmap_path if isinstance(dataparser, ColmapDataParserConfig) else None)
    if name in ("nerfstudio-data", "instant-ngp-data"):
        _check_transforms(data if data.is_file() else data / "transforms.json", name)
    parser = copy.deepcopy(dataparser)
    parser.data = data
    if isinstance(parser, ColmapDataParserConfig) and parser.load_3D_points:
        _check_points(data / parser.colmap_path)
    if hasattr(parser, "load_3D_points"):
        parser.load_3D_points = False  # which takes its time, and may ask a question: that is left to the run
    splits, left_out = _parse(parser, data, name)
    are_scaled = getattr(parser, "auto_scale_poses", False) and not left_out  # which count for the scale, too
    _check_poses(splits, are_scaled, name)
    _check_lenses(splits[0].cameras, kind)
    way_out = "put them there, or take their frames out of the data"
    if (getattr(parser, "downscale_factor", None) or 1) > 1:
        way_out = f"make these smaller copies, or end the command with {name} --downscale-factor 1"
    for outputs in splits:
        _check_files(outputs, way_out)
    if left_out and get_rank() == 0:
        _tell_of_missing(left_out, {path for outputs in splits for path in outputs.image_filenames})


def _check_transforms(path: Path, name: str) -> None:
    """Refuse a transforms.json with a fault that nerfstudio would report in other words."""
    try:
        meta = json.loads(path.read_text("utf8"))
    except OSError as error:
        raise UserError(f"--data {path} can't be read ({error.strerror}): mend the path.") from None
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON, or was broken off ({first_line(error)}): run ns-process-data again, or mend it."
        ) from None
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not frames:
        raise UserError(f"{path} has no frames: run ns-process-data again, and see that images find their poses.")
    if not isinstance(frames, list):
        raise UserError(f"The frames of {path} are no list: run ns-process-data again, or mend it.")
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise UserError(f"Frame {i} of {path} is none: take it out.")
        lacking = [key for key in ("file_path", "transform_matrix") if key not in frame]
        if lacking:
            raise UserError(f"Frame {i} of {path} has no {lacking[0]}: add it, or take the frame out.")
        if not isinstance(frame["file_path"], str):
            raise UserError(f"Frame {i} of {path} has a file_path that is no text: mend it, or take the frame out.")
        if not _is_pose(frame["transform_matrix"]):
            raise UserError(f"The pose of {frame['file_path']} in {path} is no matrix of numbers: take that frame out.")
        if "\\" in frame["file_path"]:
            raise UserError(f"{path} names {frame['file_path']}, as Windows does: write / in place of \\ in it.")
    lens = meta.get("camera_model", "OPENCV")
    if lens not in list(CAMERA_MODEL_TO_TYPE):
        raise UserError(
            f"{path} has the camera_model {lens!r:.40}, which nerfstudio can't read: undistort the images, and write "
            f"one of {', '.join(CAMERA_MODEL_TO_TYPE)}."
        )
    for key in ("mask_path", "depth_file_path"):
        count = sum(key in frame for frame in frames)
        if 0 < count < len(frames):
            raise UserError(f"{path} has a {key} for {count} of {len(frames)} frames: give one to each, or to none.")
    has_angle_only = "camera_angle_x" in meta and "fl_x" not in meta and "fl_x" not in frames[0]
    if name == "nerfstudio-data" and has_angle_only:
        raise UserError(f"{path} has camera_angle_x and no fl_x: end the command with instant-ngp-data.")


def _check_points(model: Path) -> None:
    if not any((model / f"points3D.{ending}").is_file() for ending in ("bin", "txt")):
        raise UserError(f"{model} has no points3D.bin: end the command with colmap --load-3D-points False.")


def _is_pose(matrix: Any) -> bool:
    try:
        pose = np.array(matrix, dtype=float)
    except (ValueError, TypeError, OverflowError):
        return False
    return pose.shape in ((3, 4), (4, 4)) and bool(np.isfinite(pose).all())


def _parse(parser: Any, data: Path, name: str) -> tuple[list[DataparserOutputs], Set[Path]]:
    """Return the views that a parser reads, those for training first, and which pictures of them are missing.

    It is silent, since it will say all of it again. But COLMAP's may have a question.
    """
    silence = nullcontext() if isinstance(parser, ColmapDataParserConfig) else CONSOLE.capture()
    try:
        with silence:
            present = PresentFrames(parser.setup())
            return [present.get_dataparser_outputs(split=split) for split in ("train", "val")], present.left_out
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}, which {name} reads, is not there: put it there, or mend --data.") from None
    except ZeroDivisionError:
        raise UserError(_IN_ONE_PLACE.format(name=name)) from None
    except Exception as error:  # whatever a parser trips over
        reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(
            f"--data {data} can't be read by {name} ({reason}): mend what that names, or end the command with the name "
            "of another parser."
        ) from None


def _check_poses(splits: Sequence[DataparserOutputs], are_scaled: bool, name: str) -> None:
    """Refuse data without training views, and cameras that nerfstudio can't scale a scene by.

    It divides by the distance of the farthest from their middle; of one camera that is 0, or what rounding left.
    """
    if not splits[0].image_filenames:
        raise UserError(f"No view of the data is for training: end the command with {name} --eval-mode all.")
    for focal in (part for outputs in splits for part in (outputs.cameras.fx, outputs.cameras.fy)):
        if not bool((focal.isfinite() & (focal > 0)).all()):
            raise UserError("The focal length of a camera (fl_x, fl_y) is no positive number: mend it in the data.")
    if not all(bool(outputs.cameras.camera_to_worlds.isfinite().all()) for outputs in splits):
        raise UserError("The pose of a camera is no number: mend it, or take its frame out of the data.")
    if not are_scaled:
        return
    places = torch.cat([outputs.cameras.camera_to_worlds[..., 3] for outputs in splits]) / splits[0].dataparser_scale
    if float((places - places.mean(0)).abs().max()) < _ONE_PLACE:
        raise UserError(_IN_ONE_PLACE.format(name=name))


def _check_lenses(cameras: Cameras, kind: SceneKind) -> None:
    types = {CameraType(value) for value in cameras.camera_type.unique().tolist()}
    if other := types - _LENSES[kind]:
        raise UserError(_of_other_lens(other.pop(), kind))
    if kind == "splat" and _has_fourth_term(cameras):
        raise UserError("pds-splat can't undo a lens's distortion with a k4: leave k4 out, or take pds-nerf.")
    if kind == "splat" and _sees_sideways(cameras):
        raise UserError(
            f"pds-splat can't make plain pictures of fisheyes that see more than {2 * _WIDEST:.0f} degrees: take "
            "pds-nerf, or crop them."
        )


def _of_other_lens(lens: CameraType, kind: SceneKind) -> str:
    if lens is CameraType.EQUIRECTANGULAR:
        return (
            "pds-splat can't edit equirectangular pictures: take pds-nerf, or make plain ones with ns-process-data "
            "images --camera-type equirectangular."
        )
    return f"pds-{kind} can't edit pictures of a camera of type {lens.name}: undistort them first."


def _has_fourth_term(cameras: Cameras) -> bool:
    lens = cameras.distortion_params
    if lens is None:
        return False
    return bool(((cameras.camera_type[..., 0] == CameraType.PERSPECTIVE.value) & (lens[..., 3] != 0)).any())


def _sees_sideways(cameras: Cameras) -> bool:
    """Return whether there are fisheyes in whose pictures light from the side ends up: a plain one has no place for it.

    A fisheye shows what comes in at an angle θ at the distance f·θ(1 + k1·θ² + k2·θ⁴ + k3·θ⁶ + k4·θ⁸) from the middle.
    """
    angle = math.radians(_WIDEST)
    reach = torch.full_like(cameras.fx, angle)
    if cameras.distortion_params is not None:
        powers = torch.tensor([angle ** (2 * n) for n in range(1, 5)])
        reach = angle * (1 + (cameras.distortion_params[..., :4] * powers).sum(-1, keepdim=True))
    across = torch.maximum(cameras.cx, cameras.width - cameras.cx) / cameras.fx
    down = torch.maximum(cameras.cy, cameras.height - cameras.cy) / cameras.fy
    is_fisheye = cameras.camera_type == CameraType.FISHEYE.value
    return bool((is_fisheye & (torch.maximum(across, down) > reach)).any())


def _check_files(outputs: DataparserOutputs, way_out: str) -> None:
    """Refuse images and masks that are not there, or are not of their cameras' sizes.

    Args:
        outputs: What names them.
        way_out: What to do about those that are not there.
    """
    sides = zip(outputs.cameras.width[:, 0].tolist(), outputs.cameras.height[:, 0].tolist(), strict=True)
    sizes = [(int(width), int(height)) for width, height in sides]
    images = [Path(path) for path in outputs.image_filenames]  # of NeRF-OSR they are words
    _refuse_missing(images, "images", way_out)
    for path, size in zip(images, sizes, strict=True):
        with _opened(path) as photo:
            try:
                fitting = fits(photo, size)
            except Exception as error:  # what a camera wrote beside the pixels is damaged
                raise UserError(f"{path} can't be read as a picture ({first_line(error)}): save it anew.") from None
            if not fitting:
                raise UserError(
                    f"{path} is {photo.width}x{photo.height} pixels and its camera {size[0]}x{size[1]}: give images at "
                    "their cameras' sizes, or mend the cameras."
                )
    masks = [Path(path) for path in outputs.mask_filenames or ()]
    _refuse_missing(masks, "masks", way_out)
    for path, size in zip(masks, sizes, strict=False):
        with _opened(path) as mask:
            if mask.size != size:
                raise UserError(
                    f"The mask {path} is {mask.width}x{mask.height} pixels and its image {size[0]}x{size[1]}: give it "
                    "the image's size."
                )
            if len(mask.getbands()) > 1:
                raise UserError(f"The mask {path} is in colour ({mask.mode}): save it as a grey picture.")


def _refuse_missing(paths: Sequence[Path], what: str, way_out: str) -> None:
    if missing := missing_of(paths):
        raise UserError(f"{missing[0]} is not there ({len(missing)} of {len(paths)} {what} are missing): {way_out}.")


def _tell_of_missing(missing: Set[Path], there: Set[Path]) -> None:
    say(
        f"{min(missing)} is not there ({len(missing)} of {len(missing) + len(there)} images are missing): such frames "
        "are left out.",
        "yellow",
    )


def _opened(path: Path) -> Image.Image:
    try:
        return open_picture(path)
    except UserError:
        raise
    except Exception as error:  # of damaged files, Pillow raises whatever it stumbles over
        raise UserError(f"{path} can't be read as a picture ({first_line(error)}): save it anew.") from None
