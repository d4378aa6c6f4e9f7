"""Every field of every public dataclass is annotated and explained: the string below it becomes --help and the docs."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import pds_nerfstudio

PACKAGE = Path(next(iter(pds_nerfstudio.__path__)))


def is_dataclass(definition: ast.ClassDef) -> bool:
    names = (
        decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in definition.decorator_list
    )
    return any(ast.unparse(name).rpartition(".")[2] == "dataclass" for name in names)


def dataclasses_of(path: Path) -> Iterator[ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and is_dataclass(node) and not node.name.startswith("_"):
            yield node


def is_text(statement: ast.stmt | None) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


FOUND = [
    pytest.param(definition, id=f"{path.relative_to(PACKAGE)}:{definition.name}")
    for path in sorted(PACKAGE.rglob("*.py"))
    for definition in dataclasses_of(path)
]


def test_they_are_found() -> None:
    assert len(FOUND) > 50


@pytest.mark.parametrize("definition", FOUND)
def test_every_field_is_annotated_and_explained(definition: ast.ClassDef) -> None:
    body: list[ast.stmt | None] = [*definition.body, None]
    bare = [s for s in definition.body if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) != "_target"]
    assert not bare, "without an annotation it is no field"
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and not ast.unparse(statement.annotation).startswith("ClassVar"):
            name = ast.unparse(statement.target)
            assert name.startswith("_") or is_text(following), f"{name} has no explanation below it"
    doc = ast.get_docstring(definition)
    assert doc and "Attributes:" not in doc
