"""A command's help: --help fits on a screen, --help-all lists every option.

The first shows what the command does, the options to begin with, and whole commands to copy. The second has the same on
top; below, tyro lists every option by group. It takes no order across groups, but any text above them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")


@dataclass(frozen=True)
class FirstOption:
    """An option that most people want."""

    name: str
    """As on the command line, for example --guidance.model."""
    says: str
    """What it does, in a few words."""
    required: bool = False
    """Whether it must be given."""


@dataclass(frozen=True)
class CommandHelp:
    """The top of a command's --help."""

    command: str
    """How the command begins, for example pds-image."""
    summary: str
    """What it does, in one short line."""
    options: tuple[FirstOption, ...]
    """Those to begin with."""
    examples: tuple[str, ...]
    """Whole commands; their lines may be continued by a backslash."""
    all_below: bool = False
    """Whether all options are listed below, rather than by --help-all."""

    def text(
        self, config: Any, recipes: Mapping[str, str] | None = None, further: Mapping[str, str] | None = None
    ) -> str:
        """Return the whole text, for tyro.

        Args:
            config: Holds the defaults of the options.
            recipes: What each named set of defaults is for. The first is taken where none is named.
            further: What the command takes besides, and what that does.
        """
        width = max(len(name) for name in (*(option.name for option in self.options), *(further or {})))
        options = [f"{option.name:{width}}  {option.says}{_hint(option, config)}" for option in self.options]
        besides = [f"{name:{width}}  {says}" for name, says in (further or {}).items()]
        examples = [line for example in self.examples for line in example.splitlines()]
        # tyro joins a line that begins with a letter to the one before; lines that are indented stay by themselves.
        every = "all options are listed below" if self.all_below else "--help-all lists all"
        return "\n".join(
            [
                self.summary,
                "",
                *_recipe_lines(self.command, recipes or {}),
                f"Options to begin with [defaults]; {every}, by group:",
                *(f"  {line}" for line in options),
                "",
                *(f"  {line}" for line in besides),
                *([""] if besides else []),
                "Examples:",
                *(f"  {line}" for line in examples),
            ]
        )


def _recipe_lines(command: str, recipes: Mapping[str, str]) -> list[str]:
    """Return the lines that list named sets of defaults; none where there are no such sets."""
    if not recipes:
        return []
    width = max(map(len, recipes))
    title = f"Recipes: other defaults, by a first word as in {command} {list(recipes)[-1]}:"
    return [title, *(f"  {name:{width}}  {says}" for name, says in recipes.items()), ""]


def _hint(option: FirstOption, config: Any) -> str:
    """Return in brackets whether an option is required, else its default."""
    if option.required:
        return " (required)"
    value = functools.reduce(getattr, option.name.removeprefix("--").replace("-", "_").split("."), config)
    if value in (None, "") or isinstance(value, tuple):  # a list is too long for one line
        return ""
    return f" [{value:g}]" if isinstance(value, float) else f" [{value}]"


def parse(
    kind: type[Config], prog: str, text: str, arguments: Sequence[str] | None = None, default: Config | None = None
) -> Config:
    """Return what a command line gives, or show the help that it asks for and end.

    Args:
        kind: Class of the configuration.
        prog: How the command begins.
        text: Its help, by `CommandHelp.text`.
        arguments: What stands behind that; those of this process by default.
        default: Defaults of the options, if not those of the class.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(f"usage: {prog} [-h] [--help-all] [OPTIONS]\n\n{text}")
        sys.exit(0)
    asked = ["--help" if argument == "--help-all" else argument for argument in arguments]
    given = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=prog, description=text, args=asked, **given)  # type: ignore[call-overload, no-any-return]
