"""Inputs damaged at random are read or refused in one line; the script tries many more."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pds_nerfstudio.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("mutate_inputs")
    sys.modules.pop("mutate_inputs", None)


@pytest.mark.parametrize(("kind", "count"), [("transforms", 400), ("pictures", 400)])
def test_damaged_inputs(script: ModuleType, kind: str, count: int, tmp_path: Path) -> None:
    outcome = script.try_all(script.KINDS[kind](count, 11, tmp_path / "scene" if kind == "transforms" else tmp_path))
    assert outcome.wrong == []
    assert outcome.read + outcome.refused == count and min(outcome.read, outcome.refused) > count // 20


def test_what_ends_otherwise_is_told(script: ModuleType) -> None:
    def fails(error: Exception) -> None:
        raise error

    inputs = [("a", lambda: fails(KeyError("x"))), ("b", lambda: fails(UserError("no"))), ("c", lambda: None)]
    outcome = script.try_all(iter(inputs))
    assert (outcome.read, outcome.refused) == (1, 1)
    (line,) = outcome.wrong
    assert line.startswith("a: KeyError")
