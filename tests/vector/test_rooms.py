"""Which room of the package may import which."""

import ast
from pathlib import Path

import pytest

import pds_nerfstudio.vector

ROOT = Path(pds_nerfstudio.vector.__file__).parent
NAME = pds_nerfstudio.vector.__name__


def _imports() -> dict[str, set[str]]:
    """Return for each module of the rooms, such as `raster.affine`, those that it imports."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = node.module.removeprefix(NAME + ".")
                found[name] |= {module, *(f"{module}.{alias.name}" for alias in node.names)} & paths.keys()
    return found


def _imports_of(room: str) -> set[str]:
    return {module for name, modules in _imports().items() if name.startswith(room) for module in modules}


@pytest.mark.parametrize(
    ("room", "may"),
    [("raster", {"raster"}), ("svg", {"svg", "raster"}), ("edit", {"edit", "svg", "raster"})],
)
def test_a_room_imports_only_those_below_it(room: str, may: set[str]) -> None:
    rooms = {module.split(".")[0] for module in _imports_of(room)}
    assert room in rooms and rooms <= may


def test_svg_files_know_scenes_and_their_geometry_and_nothing_of_pixels() -> None:
    known = {module for module in _imports_of("svg") if module.startswith("raster")}
    assert known == {
        "raster.affine", "raster.bezier", "raster.filter_graph", "raster.scene", "raster.scene_builder"
    }  # fmt: skip


def test_only_the_backend_knows_that_there_are_kernels() -> None:
    knowing = {name for name, modules in _imports().items() if any(m.startswith("raster.triton") for m in modules)}
    assert {name for name in knowing if not name.startswith("raster.triton")} == {"raster.backend"}
