"""Objectives by name: those of this package, those that other packages register, and any class by its import path."""

import dataclasses
import math
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any, get_type_hints

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.objectives.dds import Dds
from pds_nerfstudio.guidance.objectives.dreamcatalyst import DreamCatalyst
from pds_nerfstudio.guidance.objectives.form import Objective
from pds_nerfstudio.guidance.objectives.lusd import Lusd
from pds_nerfstudio.guidance.objectives.pds import Pds
from pds_nerfstudio.guidance.objectives.sds import Sds
from pds_nerfstudio.guidance.objectives.ssd import Ssd

OBJECTIVES: dict[str, type[Objective]] = {
    "pds": Pds,
    "sds": Sds,
    "dds": Dds,
    "dreamcatalyst": DreamCatalyst,
    "ssd": Ssd,
    "lusd": Lusd,
}
"""This package's objectives by the names that the command line knows them by."""

ENTRY_POINTS = "pds_nerfstudio.objectives"
"""The group in which other packages register objectives of their own."""


def make_objective(text: str) -> Objective:
    """Make the objective that `text` names, with the options that it sets.

    Args:
        text: A name, for example "pds" or "my_package.mine:Mine", and after commas options of that objective:
            "dreamcatalyst,delta=0.05,gamma=0.2".

    Raises:
        UserError: If there is no such objective or option, or a value is out of its range.
    """
    name, *options = (part.strip() for part in text.split(","))
    kind = _find(name)
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in fields:
            known = f"it has {', '.join(fields)}" if fields else "it has none"
            raise UserError(f"The objective '{name}' has no option '{option}': {known}, each as name=value.")
        values[key] = _converted(f"The option {key} of the objective '{name}'", value, fields[key])
    objective = kind(**values)
    try:
        objective.check()
    except UserError as error:
        raise UserError(f"The objective '{name}': {error}") from None
    return objective


def objective_text(name: str, objective: Objective) -> str:
    """Return the text that `make_objective` makes an objective from: its name, and options other than the defaults."""
    fields = dataclasses.fields(objective)  # type: ignore[arg-type]
    changed = [f for f in fields if getattr(objective, f.name) != f.default]
    return ",".join([name, *(f"{f.name}={getattr(objective, f.name)}" for f in changed)])


def _find(name: str) -> type[Objective]:
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    others = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    path = others.get(name, name)
    if ":" not in path:
        known = ", ".join([*OBJECTIVES, *others])
        raise UserError(f"There is no objective '{name}': choose {known}, or one of your own as module:Name.")
    try:
        kind = resolve_name(path)
    except Exception as error:  # Whatever an import of somebody's module raises.
        raise UserError(f"The objective '{name}' can't be imported ({first_line(error)}): give module:Name.") from error
    if not (isinstance(kind, type) and issubclass(kind, Objective) and dataclasses.is_dataclass(kind)):
        raise UserError(f"The objective '{name}' is no dataclass derived from Objective: see 'A new objective'.")
    return kind


def _converted(what: str, value: str, kind: Any) -> Any:
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise UserError(f"{what} is '{value}': give True or False.")
        return value.lower() == "true"
    if kind not in (int, float):
        return value
    try:
        number = kind(value)
    except ValueError:
        raise UserError(f"{what} is '{value}': give a number.") from None
    if not math.isfinite(number):
        raise UserError(f"{what} is {value}: give a finite number.")
    return number
