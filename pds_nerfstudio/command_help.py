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
    """Whether the command cannot do without."""


@dataclass(frozen=True)
class CommandHelp:
    """What stands at the top of a command's --help."""

    command: str
    """How the command begins, for example pds-image."""
    summary: str
    """What it does, in one short line."""
    options: tuple[FirstOption, ...]
    """Those to begin with."""
    examples: tuple[str, ...]
    """Whole commands; their lines may be continued by a backslash."""

    def text(self, config: Any, recipes: Mapping[str, str] | None = None) -> str:
        """The whole of it, for tyro.

        Args:
            config: Has the value of each option that is not required when nothing is given.
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
                "Options to begin with [if not given]; all of them stand below, by group:",
                *(f"  {line}" for line in options),
                "",
                "Examples:",
                *(f"  {line}" for line in examples),
            ]
        )


def _recipe_lines(command: str, recipes: Mapping[str, str]) -> list[str]:
    """Return what is said of named sets of defaults; nothing where there are none."""
    if not recipes:
        return []
    width = max(map(len, recipes))
    title = f"Recipes: other defaults, by a first word as in {command} {list(recipes)[-1]}:"
    return [title, *(f"  {name:{width}}  {says}" for name, says in recipes.items()), ""]


def _hint(option: FirstOption, config: Any) -> str:
    """What is to be known of an option's value, in brackets."""
    if option.required:
        return " (required)"
    value = functools.reduce(getattr, option.name.removeprefix("--").replace("-", "_").split("."), config)
    if value in (None, "") or isinstance(value, tuple):  # a list is too long for one line
        return ""
    return f" [{value:g}]" if isinstance(value, float) else f" [{value}]"
