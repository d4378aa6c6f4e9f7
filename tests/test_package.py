"""What pyproject.toml says of the package is so."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import pds_nerfstudio

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {"pydiffvg", "t2v_metrics"}
"""Used where it is present, and on no index."""


def imported(folder: str) -> dict[str, Path]:
    """The modules of other projects that files in a folder import, at their top or not, each with one such file."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            found.update({name.partition(".")[0]: path.relative_to(ROOT) for name in names})
    own = {"pds_nerfstudio", "tests", *(path.stem for path in (ROOT / "scripts").glob("*.py"))}
    return {name: path for name, path in found.items() if name not in own | OPTIONAL | set(sys.stdlib_module_names)}


def names_of(requirements: list[str]) -> set[str]:
    return {canonical(re.split(r"[\s<>=!~;\[]", requirement)[0]) for requirement in requirements}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(("folder", "extras"), [("pds_nerfstudio", []), ("scripts", ["dev"]), ("tests", ["dev"])])
def test_every_direct_import_is_declared(folder: str, extras: list[str]) -> None:
    declared = names_of(PROJECT["dependencies"])
    declared |= {name for extra in extras for name in names_of(PROJECT["optional-dependencies"][extra])}
    distributions = packages_distributions()
    missing = {
        f"{name} ({path})"
        for name, path in imported(folder).items()
        if not {canonical(one) for one in distributions.get(name, [name])} & declared
    }
    assert not missing


def test_every_dependency_is_imported_or_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    distributions = packages_distributions()
    used = {canonical(one) for name in imported("pds_nerfstudio") for one in distributions.get(name, [name])}
    for name in names_of(PROJECT["dependencies"]) - used:
        (line,) = (line for line in lines if line.strip().startswith(f'"{name}'))
        assert "#" in line, f"{name} is not imported, and its line in pyproject.toml does not say why it is there"


def test_the_version_is_the_same_everywhere() -> None:
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert citation is not None and citation[1].strip('"') == pds_nerfstudio.__version__
    changes, version = (ROOT / "CHANGELOG.md").read_text(), pds_nerfstudio.__version__
    assert f"To be {version}." in changes or f"## [{version}]" in changes


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(pds_nerfstudio.__file__).parent / "py.typed").exists()
