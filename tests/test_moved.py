"""Old import paths lead to where modules are now."""

import sys
from importlib import import_module
from importlib.machinery import PathFinder

import pytest

from pds_nerfstudio.moved import MOVED, RENAMED, follow_moves


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_leads_to_the_new_module(old: str) -> None:
    assert import_module(old) is import_module(MOVED[old])


@pytest.mark.parametrize("old", MOVED)
def test_no_old_path_is_one_of_today(old: str) -> None:
    """A module that is there would be found first, without what has moved out of it."""
    parent = import_module(old.rpartition(".")[0])
    assert PathFinder.find_spec(old, parent.__path__) is None


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in RENAMED.items() for name in names])
def test_an_old_name_leads_to_the_new_class(module: str, name: str) -> None:
    assert isinstance(getattr(import_module(module), name), type)


def test_a_module_that_never_was_is_still_not_there() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pds_nerfstudio\.scenes\.mesh"):
        import_module("pds_nerfstudio.scenes.mesh")


def test_moves_are_followed_once() -> None:
    before = len(sys.meta_path)
    follow_moves()
    assert len(sys.meta_path) == before
