"""Whether plain values are of the types that their fields are annotated with: what strangers wrote may be anything."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin


def misfits(config: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields of a configuration, and of those in it, that hold what they can't.

    Args:
        config: A dataclass, whose fields may be left out.

    Yields:
        The name, as on a command line, the value, and the type that it should be of.
    """
    hints = typing.get_type_hints(type(config))
    for name, value in vars(config).items():
        if name in hints and not fits(value, hints[name]):
            yield name, value, hints[name]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from ((f"{name}.{inner}", wrong, kind) for inner, wrong, kind in misfits(value))


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of an annotated type; where that is none of plain values or a dataclass, anything is.

    Args:
        value: The value. A whole number is a float, too, and a list a tuple.
        kind: The type.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin in (tuple, list):
        return isinstance(value, tuple | list) and _each_fits(value, parts, origin is tuple and parts[-1] is not ...)
    if kind is float:
        return type(value) in (int, float)
    if kind in (bool, int, str):
        return type(value) is kind
    if kind in (None, types.NoneType):
        return value is None
    if kind in (dict, typing.Dict) or origin is dict:  # noqa: UP006
        return isinstance(value, dict)
    return isinstance(value, kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else True


def _each_fits(values: tuple[Any, ...] | list[Any], parts: tuple[Any, ...], one_by_one: bool) -> bool:
    if one_by_one:
        return len(values) == len(parts) and all(map(fits, values, parts))
    return all(fits(value, parts[0]) for value in values)


def in_words(kind: Any) -> str:
    """Return what of a type may be given, in words for people."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(part) for part in parts))
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (tuple, list):
        return "a list of " + " and ".join(dict.fromkeys(in_words(part) for part in parts if part is not ...))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", types.NoneType: "nothing"}
    return words.get(kind) or str(getattr(kind, "__name__", "something else"))
