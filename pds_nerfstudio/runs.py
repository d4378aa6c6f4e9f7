"""What every editor's command does around its loop: read the command line, leave a folder of results."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.again import FURTHER_OPTIONS, OWN_FOLDER, write_again
from pds_nerfstudio.command_help import CommandHelp, parse
from pds_nerfstudio.editing import EditLoop, StepReport
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig, resolve_device
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.measures import decibels
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.whole_files import as_json, write_text

Config = TypeVar("Config")


def new_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or `parent/name-2`, `-3` … if that exists: no run ever writes over another.

    Raises:
        UserError: If no folder can be made there.
    """
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.exists():  # a parent is a file
                raise UserError(f"{parent} is not a folder: give another --output-dir.") from None
            number += 1
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}; give another --output-dir.") from error


def save_config(config: Any, path: Path) -> None:
    """Write a configuration (a dataclass of plain values, paths and other such dataclasses) as JSON."""
    write_text(path, json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")


def load_config(kind: type[Config], path: Path) -> Config:
    """Read a configuration that `save_config` wrote.

    Raises:
        UserError: If it is no such file, or of another version.
    """
    try:
        return _build(kind, json.loads(path.read_text()))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the config.json of such an edit by this version ({error}).") from error


def _build(kind: Any, value: Any) -> Any:
    """Return a value of type `kind` from what JSON made of it."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if hasattr(kind, "upgraded"):  # knows what earlier versions saved
            value = kind.upgraded(value)
        return kind(**{name: _build(hints[name], part) for name, part in value.items()})  # type: ignore[operator]
    if isinstance(kind, types.UnionType):  # something or None
        some = [option for option in typing.get_args(kind) if option is not types.NoneType]
        return None if value is None else _build(some[0], value)
    if typing.get_origin(kind) is tuple:
        parts, some = typing.get_args(kind), list(value) if isinstance(value, list | tuple) else [value]
        kinds = [parts[0]] * len(some) if parts[-1] is Ellipsis else parts
        return tuple(_build(part, one) for part, one in zip(kinds, some, strict=True))
    if typing.get_origin(kind) is typing.Literal and value not in typing.get_args(kind):
        raise ValueError(f"{value!r} is none of {', '.join(map(str, typing.get_args(kind)))}")
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path:
        return Path(value)
    if kind in (bool, int, float, str) and type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


@dataclass(frozen=True)
class Saved:
    """The result of a finished edit."""

    file: Path
    """The result."""
    before: Float[Tensor, "*batch 3 height width"]
    """How it looked, in 0..1."""
    after: Float[Tensor, "*batch 3 height width"]
    """How it looks."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further figures about it."""


class Results(ABC):
    """The folder that an edit leaves: config.json, again.sh, metrics.json, and what a subclass saves besides.

    Args:
        config: Of the edit.
        folder: A new one.
        save_every: Steps from one save on the way to the next.
    """

    command: str
    """What makes such an edit, and repeats it."""

    def __init__(self, config: Any, folder: Path, save_every: int) -> None:
        self.folder = folder
        save_config(config, folder / "config.json")
        write_again(folder, [[self.command, "--repeat", f"{OWN_FOLDER}/config.json", FURTHER_OPTIONS]])
        self._save_every = save_every
        self._steps: list[dict[str, float]] = []

    @abstractmethod
    def save_progress(self) -> None:
        """Save how far the edit has come."""

    @abstractmethod
    def save(self) -> Saved:
        """Save the result."""

    def leave(self, loop: EditLoop) -> Path:
        """Run an edit and save what it makes; Ctrl-C ends it early, and leaves it as far as it came.

        Returns:
            The result's file.
        """
        start = time.perf_counter()
        complete = loop.run(self._record)
        seconds = time.perf_counter() - start
        saved = self.save()
        summary = {
            "complete": complete,
            "seconds": seconds,
            "psnr_to_source": float(decibels((saved.after - saved.before).square().mean(), most=120.0)),
            **saved.metrics,
            "steps": self._steps,
        }
        write_text(self.folder / "metrics.json", as_json(summary, indent=1) + "\n")
        return saved.file

    def _record(self, report: StepReport) -> None:
        self._steps.append({"step": report.step, "skipped": report.skipped, **report.metrics})
        if report.step % self._save_every == 0:
            self.save_progress()


@dataclass(frozen=True)
class Recipe:
    """A named set of defaults of a command."""

    says: str
    """What it is for, in a few words."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """New defaults for some fields of the command's configuration, by their names."""


_FURTHER = {"--repeat CONFIG.JSON": "do a run again; options beside it change it"}
"""What commands of `read_command` take besides their options."""


def read_command(about: CommandHelp, defaults: Config, recipes: Mapping[str, Recipe] | None = None) -> Config:
    """Return the configuration that the command line gives.

    With `--repeat CONFIG.JSON` the defaults of its options are what an earlier run was given.

    Args:
        about: The top of --help.
        defaults: Defaults of the options. Options whose field has no default must be given.
        recipes: Other defaults, which the first word can name.

    Raises:
        UserError: If there is no such file, it is not a config.json, or there is no such recipe.
    """
    prog, arguments = about.command, sys.argv[1:]
    if "--repeat" in arguments:
        return _repeated(about, type(defaults), arguments)
    if recipes and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name not in recipes:
            raise UserError(f"{prog}: there is no recipe '{name}': name one of {', '.join(recipes)}, or none.")
        prog, defaults = f"{prog} {name}", dataclasses.replace(defaults, **recipes[name].changes)  # type: ignore[type-var]
    text = about.text(defaults, {name: recipe.says for name, recipe in (recipes or {}).items()}, _FURTHER)
    needed = {
        part.name: tyro.MISSING
        for part in dataclasses.fields(defaults)  # type: ignore[arg-type]
        if part.default is part.default_factory is dataclasses.MISSING
    }
    default = dataclasses.replace(defaults, **needed)  # type: ignore[type-var]
    return parse(type(defaults), prog, text, arguments, default)


def _repeated(about: CommandHelp, kind: type[Config], arguments: list[str]) -> Config:
    """Return the configuration of an earlier run, with what the other options change."""
    before, rest = arguments[: arguments.index("--repeat")], arguments[arguments.index("--repeat") + 1 :]
    if before and not before[0].startswith("-"):
        raise UserError(f"{about.command}: --repeat has all options of a run; leave out the recipe '{before[0]}'.")
    if not rest or rest[0].startswith("-"):
        raise UserError(f"{about.command}: name a run's file after --repeat, such as --repeat FOLDER/config.json.")
    earlier = load_config(kind, Path(rest[0]))
    return parse(kind, f"{about.command} --repeat {rest[0]}", about.text(earlier), [*before, *rest[1:]], earlier)


@runtime_checkable
class FileEdit(Protocol):
    """What the configuration of a command that edits a file has."""

    device: str
    """Where to work; 'auto' takes the first GPU, else the CPU."""
    guidance: GuidanceConfig
    """The diffusion model, the objective and the seed."""

    @property
    def prompts(self) -> tuple[str, str]:
        """Return what the file shows, and what it should show."""

    def check(self) -> None:
        """Refuse values that mean nothing, by a `UserError`."""


def place_of(config: FileEdit) -> torch.device:
    """Return the device to work on.

    Raises:
        UserError: If this machine does not have it.
    """
    return resolve_device(config.device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


Edit = TypeVar("Edit", bound=FileEdit)
Source = TypeVar("Source")


@dataclass(frozen=True)
class EditCommand(Generic[Edit, Source]):
    """A command that edits a file by text: the part that is the same for all kinds of files."""

    about: CommandHelp
    """The top of --help."""
    defaults: Edit
    """Defaults of the options; see `read_command`."""
    read: Callable[[Edit], Source]
    """Read what is to be edited."""
    edit: Callable[[Edit, Source, Guidance], Path]
    """Edits the file, leaves the results in a new folder, and returns the file of the result."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Other defaults, which the first word can name."""
    hint: str = ""
    """Text that is printed at the end after the name of the file."""

    def run(self, config: Edit) -> Path:
        """Load the model that a configuration names and edit the file with it.

        Returns:
            The file of the result.

        Raises:
            UserError: If something is wrong with the configuration, the file or the model.
        """
        config.check()
        source = self.read(config)
        guidance = Guidance.from_config(config.guidance, place_of(config))
        guidance.set_prompts(*config.prompts)
        return self.edit(config, source, guidance)

    def main(self) -> None:
        """Do what the command line says, then print one line: what was written, or what is wrong."""
        try:
            file = self.run(read_command(self.about, self.defaults, self.recipes))
        except UserError as error:
            sys.exit(error.on_command_line())
        print(one_line(f"Wrote {file}{self.hint}"))
