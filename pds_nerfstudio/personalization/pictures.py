"""The pictures of a subject: one, those of a folder, or the training views of a nerfstudio data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.latents import model_image_size, resize
from pds_nerfstudio.images.picture import Picture

TRANSFORMS = "transforms.json"
"""What a nerfstudio data set says of its views."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""What the names of pictures in a folder end with."""


def find_pictures(data: Path) -> list[Path]:
    """Return the files of the pictures that `data` names, in order.

    Args:
        data: A picture, a folder of pictures, a nerfstudio data set or its transforms.json. Of a data set that says
            which views are for training, those.

    Raises:
        UserError: If there are none, or the transforms.json is damaged or names files that are not there.
    """
    data = data.expanduser()
    if data.is_dir() and (data / TRANSFORMS).is_file():
        data = data / TRANSFORMS
    if data.name == TRANSFORMS and data.is_file():
        return _training_views(data)
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise UserError(f"{data}: there is no such picture or folder; give --data one of them, or a data set.")
    found = sorted(path for path in data.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(
            f"{data} holds no pictures ({', '.join(SUFFIXES)}) and no {TRANSFORMS}: give --data another folder."
        )
    return found


def _training_views(transforms: Path) -> list[Path]:
    """Return the pictures that a data set's transforms.json names for training."""
    try:
        content: dict[str, Any] = json.loads(transforms.read_text(encoding="utf-8"))
        names = [Path(frame["file_path"]) for frame in content["frames"]]
        training = {Path(name) for name in content.get("train_filenames", names)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{transforms}: not the description of a nerfstudio data set; give --data another.") from error
    found = [_picture(transforms.parent / name) for name in names if name in training]
    if not found:
        raise UserError(f"{transforms} names no views for training: give --data another data set.")
    return found


def _picture(path: Path) -> Path:
    """Return the picture of a view, whose name some data sets give without its ending.

    Raises:
        UserError: If it is not there.
    """
    for candidate in (path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: the data set names this picture, and it is not there; copy it again.")


def latents_of(
    paths: Iterable[Path], denoiser: Denoiser, resolution: int
) -> Iterator[Float[Tensor, "1 channels height width"]]:
    """Yield the latent of each picture, at the size at which an edit shows it to the model.

    Args:
        paths: Of the pictures.
        denoiser: The model.
        resolution: Side in pixels of the square whose area they get.

    Raises:
        UserError: If one cannot be read, or is too small.
    """
    for path in paths:
        image = Picture.read(path).rgb()
        size = model_image_size(image.shape[-2], image.shape[-1], resolution, denoiser.size_multiple)
        yield denoiser.encode_image(resize(image, size).to(denoiser.device)).detach()
