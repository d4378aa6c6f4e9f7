"""Checks of configurations: each refuses a field out of its range, and says so as all the others do.

A function takes the configuration and the names of the fields to look at. What it says is "NAME is VALUE: give …".
`prefix` is put before the name, for options such as `only.threshold`; `give` is put after the word in place of the
usual words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from pds_nerfstudio.errors import UserError


def require(config: object, names: Iterable[str], holds: Callable[[float], bool], give: str, prefix: str = "") -> None:
    """Refuse a number for which something does not hold.

    Args:
        config: What has the fields.
        names: The fields.
        holds: What must be true of their values.
        give: The way out: what may be given.
        prefix: What stands before the name of the option.

    Raises:
        UserError: Naming the first such field.
    """
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise UserError(f"`{prefix}{name}` is {value}: give {give}.")


def check_parts(config: object, *names: str) -> None:
    """Check parts of a configuration by their own `check`: what is refused there is named as that part's.

    Args:
        config: What has the parts.
        names: The fields that hold them.

    Raises:
        UserError: By a part.
    """
    for name in names:
        try:
            getattr(config, name).check()
        except UserError as error:
            error.within(name)
            raise


def at_least(config: object, least: int, *names: str, give: str = "", prefix: str = "") -> None:
    """Refuse a number below `least`, and one that is infinite or none.

    Raises:
        UserError: Naming the first such field.
    """
    usual = f"at least {least}" if least else "0 or more"
    require(config, names, lambda value: least <= value < math.inf, give or usual, prefix)


def seeds(config: object, *names: str, below: int = 1 << 63) -> None:
    """Refuse what can't seed random numbers.

    Args:
        config: What has the fields.
        names: The fields.
        below: The least number that is too large.

    Raises:
        UserError: Naming the first such field.
    """
    require(config, names, lambda value: 0 <= value < below, f"a whole number from 0 to {below - 1}")


def finite(config: object, *names: str, above: bool = False, prefix: str = "") -> None:
    """Refuse what is infinite, no number or below 0; with `above`, 0 as well.

    Raises:
        UserError: Naming the first such field.
    """
    if above:
        require(config, names, lambda value: 0 < value < math.inf, "a finite number above 0", prefix)
    else:
        require(config, names, lambda value: 0 <= value < math.inf, "a finite number from 0 up", prefix)


def share(
    config: object,
    *names: str,
    of: str = "",
    above: bool = False,
    below: bool = False,
    give: str = "",
    prefix: str = "",
) -> None:
    """Refuse what is not between 0 and 1; with `above`, 0 itself, and with `below`, 1 itself.

    Args:
        config: What has the fields.
        names: The fields.
        of: What they are a share of.
        above: Whether 0 is too little.
        below: Whether 1 is too much.
        give: The way out, where it is said in other words.
        prefix: What stands before the name of the option.

    Raises:
        UserError: Naming the first such field.
    """
    bounds = {
        (False, False): "between 0 and 1",
        (True, False): "above 0, up to 1",
        (False, True): "from 0 to below 1",
        (True, True): "above 0 and below 1",
    }[above, below]
    usual = " ".join(["a share", *(["of", of] if of else []), bounds])

    def holds(value: float) -> bool:
        return 0 <= value <= 1 and not (above and value == 0) and not (below and value == 1)

    require(config, names, holds, give or usual, prefix)


def known(config: object, name: str, choices: Iterable[str], joined: str = ", ") -> None:
    """Refuse a word that is not among the choices.

    Args:
        config: What has the field.
        name: The field.
        choices: What it may be.
        joined: What stands between the choices where they are listed.

    Raises:
        UserError: Naming the field and the choices.
    """
    value, words = getattr(config, name), list(choices)
    if value not in words:
        raise UserError(f"There is no `{name}` '{value}': choose {joined.join(words)}.")
