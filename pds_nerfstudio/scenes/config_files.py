"""nerfstudio's config.yml, read only where it holds nothing but configurations.

YAML as nerfstudio writes it names Python's classes, and can as well name any function to be called while it is read. So
every name in it is looked at before.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.plain_types import in_words, misfits

_PYTHON = "tag:yaml.org,2002:python/"
_PLAIN = frozenset({"tuple", "none", "bool", "str", "unicode", "int", "long", "float", "bytes", "list", "dict"})
_FUNCTIONS = frozenset(
    {
        "nerfstudio.data.utils.nerfstudio_collate.nerfstudio_collate",
        "nerfstudio.data.datamanagers.base_datamanager.variable_res_collate",
    }
)
"""That nerfstudio's own configurations name, and that nothing is done by but what they are for."""
_PACKAGES = ("nerfstudio", "pds_nerfstudio", "torch.optim", "pathlib", "gsplat")


def read_run_config(path: Path) -> Any:
    """Return what a run's config.yml holds.

    Raises:
        UserError: If it can't be read, names anything but classes of nerfstudio and this package, or has values of
            other types than these classes'.
    """
    try:
        text = path.read_text(encoding="utf-8")
        for node in _nodes(yaml.compose(text, Loader=yaml.SafeLoader)):
            if not _is_member(node):
                _check(node.tag, path)
        config = yaml.load(text, Loader=yaml.Loader)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} can't be read as the config.yml of a run ({first_line(error)}).") from None
    if dataclasses.is_dataclass(config):
        for name, value, kind in misfits(config):
            raise UserError(not_of_type(path, name, value, kind))
    return config


def not_of_type(path: Path, name: str, value: Any, kind: Any) -> str:
    """Return what is to be said about a value of a config.yml that is of a wrong type."""
    return f"{path} has {name} as {value!r:.40}, where there should be {in_words(kind)}: mend it."


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yield all nodes of a document, each once."""
    seen: set[int] = set()
    left = [] if root is None else [root]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            left += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _is_member(node: yaml.Node) -> bool:
    """Return whether a node is a member of an enumeration as Python 3.11.0 to 3.11.3 write it: by getattr."""
    if node.tag != f"{_PYTHON}object/apply:builtins.getattr" or not isinstance(node, yaml.SequenceNode):
        return False
    match node.value:
        case [yaml.ScalarNode(tag=tag), yaml.ScalarNode(value=member)] if tag.startswith(f"{_PYTHON}name:"):
            found = _found(tag.removeprefix(f"{_PYTHON}name:"))
            return isinstance(found, type) and issubclass(found, enum.Enum) and member in found.__members__
    return False


def _check(tag: str, path: Path) -> None:
    if not tag.startswith(_PYTHON):
        return
    kind, _, name = tag.removeprefix(_PYTHON).partition(":")
    if not (_is_harmless(kind, name) if name else kind in _PLAIN):
        raise UserError(
            f"{path} names {name or kind}, which is no configuration of nerfstudio, and might run whatever it likes: "
            "it is not read. ns-viewer --load-config reads it, if you know where it is from."
        )


def _is_harmless(kind: str, name: str) -> bool:
    """Return whether a name is of a class that does nothing by being made."""
    if kind == "name" and name in _FUNCTIONS:
        return True
    found = _found(name)
    if not isinstance(found, type):
        return False
    if kind == "object/apply":
        return issubclass(found, Path | enum.Enum)
    return kind == "name" or (kind == "object" and dataclasses.is_dataclass(found))


def _found(name: str) -> Any:
    """Return what a name of the packages that configurations are of stands for; None for those of others."""
    if not name.startswith(tuple(f"{package}." for package in _PACKAGES)):
        return None
    module, _, own = name.rpartition(".")
    try:
        return getattr(import_module(module), own, None)
    except Exception:  # importing a module can raise anything
        return None
