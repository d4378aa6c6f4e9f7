"""A run's configuration on disk: config.yml for nerfstudio's commands, and again.sh, which does the run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from nerfstudio.engine.trainer import TrainerConfig

from pds_nerfstudio.again import FURTHER_OPTIONS, NAME, OWN_FOLDER, Start, write_again
from pds_nerfstudio.scenes.checkpoints import ARCHITECTURE
from pds_nerfstudio.scenes.data import data_of, ending_of
from pds_nerfstudio.scenes.files.orbit import FOLDER
from pds_nerfstudio.scenes.run_folder import goes_on_in
from pds_nerfstudio.whole_files import write_text

_OF_THIS_RUN = frozenset({"timestamp", "data", "load_config", "pipeline.datamanager.data"})
"""Options that no other run is to have, and those of the data, which are written as --data."""
_STARTS = ("load_dir", "load_step", "load_checkpoint", "load_ply")
_MODEL = "pipeline.model."
_PARSER = "pipeline.datamanager.dataparser"
"""What is named at the end of a command, and not by options."""


def write_config(config: TrainerConfig, folder: Path) -> None:
    """Write config.yml and again.sh into the folder of a run.

    Args:
        config: Of the run, with the number of its edit steps in max_num_iterations.
        folder: May be on its way to another name.
    """
    write_text(folder / "config.yml", yaml.dump(config))
    usual = _usual(config)
    if usual is None or ((folder / NAME).exists() and goes_on_in(folder, config)):
        return  # ns-train does not know the method, or what began the run is on record
    given, lost = _differences(config, usual)
    beginning = ["ns-train", config.method_name or "", *_data(config)]
    ending = shlex.split(ending_of(config))
    notes = [f"Not told here, because no option says it: {', '.join(lost)}."] if lost else []
    # What stands behind the name of a data parser is its own: further options come before.
    write_again(folder, [beginning, *given, [FURTHER_OPTIONS, *ending]], _start(config), notes)


def _usual(config: TrainerConfig) -> TrainerConfig | None:
    """Return what ns-train begins with for a run's method."""
    from nerfstudio.configs.method_configs import all_methods  # here, because it imports this package's methods

    usual = all_methods.get(config.method_name or "")
    return usual if isinstance(usual, TrainerConfig) else None


def _start(config: TrainerConfig) -> Start:
    """Return the options that name what a run starts from; one that its data are made of goes with these."""
    words = [
        word
        for name in _STARTS
        if (value := getattr(config, name, None)) is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    has_orbit = data_of(config) == config.get_base_dir() / FOLDER
    return Start(words, ["--data", f"{OWN_FOLDER}/{FOLDER}"] if has_orbit else [])


def _data(config: TrainerConfig) -> list[str]:
    data = data_of(config)
    return [] if data in (Path(), config.get_base_dir() / FOLDER) else ["--data", str(data)]


def _differences(config: TrainerConfig, usual: TrainerConfig) -> tuple[list[list[str]], list[str]]:
    """Return the options in which a configuration differs from the usual one, and the names of what no option says."""
    given, lost = [], []
    starts = config.load_dir or config.load_checkpoint or getattr(config, "load_ply", None)
    for name, value in _unlike(config, usual, ""):
        is_of_the_start = starts and name.removeprefix(_MODEL).split(".")[0] in ARCHITECTURE
        if name in (*_OF_THIS_RUN, *_STARTS) or is_of_the_start:
            continue
        words = _words(value)
        if words is None:
            lost.append(name)
            continue
        option = f"--{name.replace('_', '-')}"
        is_like_option = len(words) == 1 and words[0].startswith("-") and isinstance(value, str | Path)
        given.append([f"{option}={words[0]}"] if is_like_option else [option, *words])
    return given, lost


def _unlike(ours: Any, usual: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each option, by its name, and our value of it where that is another than the usual one."""
    if name == _PARSER or isinstance(ours, type) or callable(ours):
        return
    if is_dataclass(ours) and type(ours) is type(usual):
        parts = {field.name: (getattr(ours, field.name), getattr(usual, field.name)) for field in fields(ours)}
    elif isinstance(ours, Mapping) and isinstance(usual, Mapping) and ours.keys() == usual.keys():
        parts = {str(key): (ours[key], usual[key]) for key in ours}
    elif _are_parts(ours) and _are_parts(usual) and len(ours) == len(usual):
        parts = {str(i): pair for i, pair in enumerate(zip(ours, usual, strict=True))}
    else:
        if ours != usual:
            yield name, ours
        return
    for part, (one, other) in parts.items():
        if not part.startswith("_"):
            yield from _unlike(one, other, f"{name}.{part}" if name else part)


def _are_parts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _words(value: Any) -> list[str] | None:
    """Return a value as a command line has it; None if it can't be said there."""
    if isinstance(value, list | tuple):
        parts = [_words(part) for part in value if not isinstance(part, list | tuple)]
        told = [word for part in parts if part for word in part]
        return told if len(told) == len(value) else None
    if isinstance(value, Enum):
        return [value.name]
    return [str(value)] if value is None or isinstance(value, bool | int | float | str | Path) else None
