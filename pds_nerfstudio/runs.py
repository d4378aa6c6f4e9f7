"""What every editor's command does around its own loop: folders, configurations, progress, Ctrl-C."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pds_nerfstudio.command_help import CommandHelp
from pds_nerfstudio.errors import UserError

Config = TypeVar("Config")


@dataclass
class StepReport:
    """What a step of an edit loop did."""

    step: int
    """1 for the first."""
    steps: int
    """Of the whole edit."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers to log."""
    skipped: bool = False
    """Whether the guidance's gradient was not finite and nothing was changed."""


def take_steps(step: Callable[[], StepReport], steps: int, report: Callable[[StepReport], None]) -> bool:
    """Take steps of an edit behind a progress bar with the time left.

    Args:
        step: Takes one.
        steps: How many.
        report: Called after each.

    Returns:
        Whether all were taken; False after Ctrl-C, which leaves things as the last step left them.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("Editing", total=steps)
        try:
            for _ in range(steps):
                done = step()
                report(done)
                progress.update(bar, completed=done.step)
        except KeyboardInterrupt:
            return False
    return True


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
    path.write_text(json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")


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
    """A value of type `kind` from what JSON made of it."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _build(hints[name], part) for name, part in value.items()})  # type: ignore[operator]
    if isinstance(kind, types.UnionType):  # something or None
        some = [option for option in typing.get_args(kind) if option is not types.NoneType]
        return None if value is None else _build(some[0], value)
    return Path(value) if kind is Path else value


@dataclass
class _Again:
    """Repeat an edit from the config.json that it left."""

    config: Annotated[Path, tyro.conf.Positional]
    """The config.json of an edit."""


@dataclass(frozen=True)
class Recipe:
    """A named set of defaults of a command."""

    says: str
    """What it is for, in a few words."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the command's configuration, with what they are in place of its defaults."""


def read_command(about: CommandHelp, defaults: Config, recipes: Mapping[str, Recipe] | None = None) -> Config:
    """Return the configuration that the command line gives, by its options or by `--repeat CONFIG.JSON`.

    Args:
        about: What stands at the top of --help.
        defaults: What options are when not given. Those that have no default of their type must be given.
        recipes: Other defaults, which the first word can name.

    Raises:
        UserError: If there is no such file, it is none, or there is no such recipe.
    """
    if sys.argv[1:2] == ["--repeat"]:
        return load_config(type(defaults), tyro.cli(_Again, prog=f"{about.command} --repeat", args=sys.argv[2:]).config)
    prog, arguments = about.command, sys.argv[1:]
    if recipes and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name not in recipes:
            raise UserError(f"{prog}: there is no recipe '{name}': name one of {', '.join(recipes)}, or none.")
        prog, defaults = f"{prog} {name}", dataclasses.replace(defaults, **recipes[name].changes)  # type: ignore[type-var]
    text = about.text(defaults, {name: recipe.says for name, recipe in (recipes or {}).items()})
    needed = {
        part.name: tyro.MISSING
        for part in dataclasses.fields(defaults)  # type: ignore[arg-type]
        if part.default is part.default_factory is dataclasses.MISSING
    }
    default = dataclasses.replace(defaults, **needed)  # type: ignore[type-var]
    return tyro.cli(type(defaults), prog=prog, description=text, args=arguments, default=default)
