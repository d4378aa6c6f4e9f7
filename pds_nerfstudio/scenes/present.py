"""The frames of a data set whose pictures are there: those that are missing are left out, the same wherever it is read.

They are left out after nerfstudio has read the data. So a scene keeps its coordinates, and its views for evaluation,
whether or not some pictures are there.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio
from PIL import Image


class PresentFrames(DataParser):
    """A parser of nerfstudio's, without the frames whose pictures are missing.

    Where all of the training views are missing it leaves out none of them: a finished run can still be rendered.

    Args:
        parser: The parser.
    """

    def __init__(self, parser: Any) -> None:
        super().__init__(parser.config)
        self.includes_time = parser.includes_time
        self.parser = parser
        self.left_out: set[Path] = set()
        """The missing pictures of what has been read so far."""

    @property
    def downscale_factor(self) -> int | None:
        """How much smaller than the cameras the pictures are, where the parser knows."""
        return getattr(self.parser, "downscale_factor", None)

    @downscale_factor.setter
    def downscale_factor(self, factor: int | None) -> None:
        self.parser.downscale_factor = factor

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # there is a bound of our own
            if isinstance(self.parser, Nerfstudio) and self.downscale_factor is None:
                _find_downscale_factor(self.parser)
            outputs = self.parser.get_dataparser_outputs(split, **kwargs)
        missing = missing_of(outputs.image_filenames)
        if not missing or (split == "train" and len(missing) == len(outputs.image_filenames)):
            return outputs
        self.left_out |= set(missing)
        return _without(outputs, set(missing))


class OfPresentFrames:
    """A data manager that reads its data without the frames whose pictures are missing."""

    @property
    def dataparser(self) -> PresentFrames:
        """What reads the data."""
        return self._present

    @dataparser.setter
    def dataparser(self, parser: DataParser) -> None:
        self._present = PresentFrames(parser)


def names_of(outputs: DataparserOutputs) -> list[str]:
    """Return the names of the pictures of some views."""
    return [Path(path).name for path in outputs.image_filenames]


def missing_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are not there."""
    return [path for path in map(Path, paths) if not _is_file(path)]  # of NeRF-OSR they are words


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _find_downscale_factor(parser: Nerfstudio) -> None:
    """Let nerfstudio look at the size of the first picture that is there, in place of the first of all."""
    data = parser.config.data
    transforms = data if data.suffix == ".json" else data / "transforms.json"
    with suppress(OSError, ValueError, LookupError, TypeError, StopIteration):  # nerfstudio will trip over it, too
        names = (Path(frame["file_path"]) for frame in json.loads(transforms.read_text("utf8"))["frames"])
        parser._get_fname(next(name for name in names if _is_file(transforms.parent / name)), transforms.parent)


def _without(outputs: DataparserOutputs, missing: set[Path]) -> DataparserOutputs:
    kept = [i for i, path in enumerate(outputs.image_filenames) if Path(path) not in missing]

    def of_kept(files: Any) -> Any:
        return [files[i] for i in kept] if files else files

    return replace(
        outputs,
        image_filenames=of_kept(outputs.image_filenames),
        cameras=outputs.cameras[torch.tensor(kept, dtype=torch.long)],
        mask_filenames=of_kept(outputs.mask_filenames),
        metadata={
            name: of_kept(value) if name.endswith("_filenames") else value for name, value in outputs.metadata.items()
        },
    )
