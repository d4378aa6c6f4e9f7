"""Whether a run's data are there, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.trainer import TrainerConfig

from pds_nerfstudio.errors import UserError


def data_of(config: TrainerConfig) -> Path | None:
    """Return where a run's data lie, as nerfstudio looks for them; None if they are of another kind than its own."""
    datamanager = config.pipeline.datamanager
    dataparser = getattr(datamanager, "dataparser", None)
    if not isinstance(dataparser, NerfstudioDataParserConfig):
        return None
    return Path(datamanager.data or config.data or dataparser.data)


def lacks_data(config: TrainerConfig) -> bool:
    """Return whether no data are named, nor lie in the working folder."""
    data = data_of(config)
    return data == Path() and not (data / "transforms.json").is_file()


def check_data(config: TrainerConfig) -> None:
    """Refuse a path that holds no scene; data of other kinds than nerfstudio's own are left to their parsers.

    Raises:
        UserError: Naming it.
    """
    data = data_of(config)
    if data is not None and not data.is_file() and not (data / "transforms.json").is_file():
        raise UserError(f"--data {data} holds no transforms.json: make one with ns-process-data, or mend the path.")
