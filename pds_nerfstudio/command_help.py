"""The top of a command's --help: what it does, the options to begin with, whole commands to copy.

Below, tyro lists every option by group. It takes no order across groups, but any text above them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

    def text(self, config: Any, recipes: Mapping[str, str] | None = None) -> str:
        """Return the whole text, for tyro.

        Args:
            config: Holds the defaults of the options.
            recipes: What each named set of defaults is for. The first is taken where none is named.
        """
        width = max(len(option.name) for option in self.options)
        options = [f"{option.name:{width}}  {option.says}{_hint(option, config)}" for option in self.options]
        examples = [line for example in self.examples for line in example.splitlines()]
        # tyro joins a line that begins with a letter to the one before; lines that are indented stay by themselves.
        return "\n".join(
            [
                self.summary,
                "",
                *_recipe_lines(self.command, recipes or {}),
                "Options to begin with [defaults]; all options are listed below, by group:",
                *(f"  {line}" for line in options),
                "",
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
