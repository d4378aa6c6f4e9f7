"""The shape of the house: who imports whom, and how much stands in one place.

Read from the source, so imports inside functions and those for type checkers count like all others.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "pds_nerfstudio"
ROOMS = ("guidance", "scenes", "splat_rasterizer", "vector", "images", "personalization", "toyworld", "evaluation")
MODULE_LINES, FUNCTION_LINES = 400, 60

LONG = {
    "pds_nerfstudio/scenes/kernels/fused_field.py:_field": "one kernel of Triton: its parts share registers",
}
"""What may be longer than others, and why."""


def name_of(path: Path) -> str:
    """The name by which a module of the package is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
MODULES = {name_of(path): path for path in TREES}


def imported_by(path: Path, tree: ast.Module) -> Iterator[str]:
    """Every module that a file imports: of the package the one that is meant, of others the whole name."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in MODULES else origin


IMPORTS = {name_of(path): set(imported_by(path, tree)) for path, tree in TREES.items()}


def within(name: str, *packages: str) -> bool:
    """Whether a module is one of some packages, or in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def arrows(start: str, *ends: str) -> set[tuple[str, str]]:
    """Imports from the modules of one package to those of others."""
    return {
        (importer, imported)
        for importer, all_imported in IMPORTS.items()
        for imported in all_imported
        if within(importer, start) and within(imported, *ends)
    }


def rooms(*names: str) -> list[str]:
    return [f"{PACKAGE}.{name}" for name in names]


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: {other for other in imported if other in MODULES} for name, imported in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_guidance_knows_neither_nerfstudio_nor_an_editor() -> None:
    others = [room for room in ROOMS if room not in ("guidance", "toyworld")]
    above = (*others, "editing", "methods", "recipes")
    assert not arrows(f"{PACKAGE}.guidance", "nerfstudio", "gsplat", "viser", *rooms(*above))


def test_the_embedded_world_is_a_leaf() -> None:
    """But its command may use what has no room."""
    assert not arrows(
        f"{PACKAGE}.toyworld", *rooms(*(room for room in ROOMS if room != "toyworld"), "methods", "editing")
    )
    assert not arrows(f"{PACKAGE}.toyworld", "nerfstudio", "diffusers")


def test_the_splat_rasterizer_is_a_leaf_without_nerfstudio() -> None:
    room = f"{PACKAGE}.splat_rasterizer"
    assert arrows(room, PACKAGE) == arrows(room, room)
    assert not arrows(room, "nerfstudio", "gsplat")


def test_editors_do_not_know_each_other() -> None:
    """But a drawing begins with a picture."""
    assert not arrows(f"{PACKAGE}.scenes", *rooms("vector", "images"))
    assert not arrows(f"{PACKAGE}.images", *rooms("vector", "scenes", "splat_rasterizer"))
    assert not arrows(f"{PACKAGE}.vector", *rooms("scenes", "splat_rasterizer"))
    from_drawings = {importer for importer, _ in arrows(f"{PACKAGE}.vector", f"{PACKAGE}.images")}
    assert all(within(importer, f"{PACKAGE}.vector.edit") for importer in from_drawings)


def test_only_scenes_and_what_judges_them_know_nerfstudio() -> None:
    knowing = {importer for importer, _ in arrows(PACKAGE, "nerfstudio")}
    assert all(within(name, *rooms("scenes", "methods", "recipes", "evaluation")) for name in knowing), knowing


def test_no_editor_imports_what_judges_it() -> None:
    for room in ("guidance", "scenes", "vector", "images"):
        assert not arrows(f"{PACKAGE}.{room}", f"{PACKAGE}.evaluation")


def test_what_watches_a_run_does_not_know_what_runs() -> None:
    running = rooms("scenes.trainer", "scenes.checkpointing", "scenes.pipeline", "scenes.refining", "scenes.losses")
    for watching in ("scenes.live", "scenes.output", "scenes.progress", "scenes.run"):
        assert not arrows(f"{PACKAGE}.{watching}", *running)


def lengths() -> dict[str, int]:
    """Lines of each module, and of each function less its docstring, by file and name."""
    found: dict[str, int] = {}
    for path in [*TREES, *sorted((ROOT / "scripts").glob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        place = path.relative_to(ROOT).as_posix()
        found[place] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                key = f"{place}:{node.name}"
                found[key] = max(found.get(key, 0), _lines(node) - _docstring_lines(node))
    return found


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _lines(function.body[0]) if ast.get_docstring(function) is not None else 0


def test_nothing_is_long_without_a_reason() -> None:
    most = {place: FUNCTION_LINES if ":" in place else MODULE_LINES for place in lengths()}
    long = {place for place, lines in lengths().items() if lines > most[place]}
    assert long - LONG.keys() == set(), "make these shorter"
    assert LONG.keys() - long == set(), "these have become shorter: take them out of the table"
