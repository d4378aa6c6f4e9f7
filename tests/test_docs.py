"""What the README and the docs say can be done: files that exist, commands that there are, options that they take."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pds_nerfstudio.images.cli import ImageEdit
from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.personalization.cli import Personalize
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.run_config import EditRunConfig
from pds_nerfstudio.vector.edit.cli import SvgEdit

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
MADE_PAGES = {DOCS / name for name in ("options.md", "contributing.md", "changelog.md")}
"""Those that a hook makes when the docs are built."""
CONFIGS: dict[str, Any] = {
    "pds-splat": pds_splat.config,
    "pds-nerf": pds_nerf.config,
    "pds-image": ImageEdit(Path("photo.png"), "a man", "a robot"),
    "pds-svg": SvgEdit(Path("drawing.svg")),
    "pds-personalize": Personalize(Path("photos"), "man"),
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _code_of(page: Path) -> str:
    """Return a page's blocks of code, lines that are continued as one, and its code within lines."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```.*?^ *```", text, re.M | re.S)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S))
    return "\n".join([*blocks, *(" ".join(span.split()) for span in spans)]).replace("\\\n", " ")


def _value_of(config: Any, option: str) -> Any:
    """Return the value that an option of a command sets.

    Raises:
        AttributeError: If there is no such option.
    """
    for name in option.removeprefix("--").replace("-", "_").split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def _has(config: Any, option: str) -> bool:
    try:
        _value_of(config, option)
    except (AttributeError, KeyError):
        return False
    return True


def test_the_readme_is_short_and_has_both_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert len(lines) <= 140
    assert "bash scripts/demo.sh" in lines
    assert "bash scripts/test.sh" in lines


@each_page
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        path = (page.parent / name).resolve() if name else page
        assert path.exists() or path in MADE_PAGES, target
        if anchor and path not in MADE_PAGES:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
            assert anchor in {_anchor(heading) for heading in headings}, target


def _anchor(heading: str) -> str:
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


@each_page
def test_commands_exist(page: Path) -> None:
    code = _code_of(page)
    commands = {entry.name for entry in entry_points(group="console_scripts")}
    methods = {entry.name for entry in entry_points(group="nerfstudio.method_configs")} | {"splatfacto", "nerfacto"}

    for script in re.findall(r"\b(?:scripts|examples|docs)/[\w/.-]*\.(?:py|sh|ipynb)\b", code):
        assert (ROOT / script).exists(), script
    for command in re.findall(r"(?<![\w/.-])(?:ns|pds)-[a-z]+(?:-[a-z]+)*(?![\w/.-])", code):
        assert command in commands | methods, command
    for method in re.findall(r"ns-train ([a-z][\w-]*)", code):
        assert method in methods, method


@each_page
def test_options_exist(page: Path) -> None:
    for option in re.findall(r"(?<![\w-])--[a-z]+(?:\.[a-z][a-z0-9-]*)+", page.read_text(encoding="utf-8")):
        assert any(_has(config, option) for config in CONFIGS.values()), option


@each_page
def test_commands_have_no_placeholders(page: Path) -> None:
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S):
        assert not re.search(r"<[a-z][^>]*>|\{[A-Za-z]+\}|\.\.\.|…", block), block


@each_page
def test_python_can_be_read_and_finds_what_it_imports(page: Path) -> None:
    for block in re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


def _package_texts() -> Iterator[str]:
    """Yield the texts in the package's code, with … for what is put into them."""
    for path in (ROOT / "pds_nerfstudio").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def test_messages_in_troubleshooting_are_those_of_the_package() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.*)`$", text[text.index("## Starting a run") :], re.M)
    texts = list(_package_texts())

    assert len(messages) > 10
    for message in messages:
        pattern = ".*".join(re.escape(part) for part in message.split("…"))
        assert any(re.search(pattern, text.replace("`", "")) for text in texts), message


@pytest.fixture(scope="module")
def options_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_options", DOCS / "hooks" / "options.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", CONFIGS)
def test_the_page_of_options_has_the_defaults_of_the_configurations(options_page: ModuleType, command: str) -> None:
    for option in options_page.Sources.read().commands()[command]:
        value = _value_of(CONFIGS[command], option.name)
        if option.default != "required":
            assert option.default == _shown(value), option.name
        assert option.meaning, option.name


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none" if value is None else "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_page_of_options_has_all_that_are_the_packages_own(options_page: ModuleType) -> None:
    commands = options_page.Sources.read().commands()
    listed = {command: {option.name for option in options} for command, options in commands.items()}
    page = options_page.page(options_page.Sources.read())

    for command in ("pds-image", "pds-svg", "pds-personalize"):
        assert listed[command] == set(_leaves(CONFIGS[command], "--"))
    for command, model in (("pds-splat", EditSplatModelConfig), ("pds-nerf", EditNerfModelConfig)):
        config = CONFIGS[command]
        own = [
            *_leaves(config, "--", EditRunConfig),
            *_leaves(config.pipeline, "--pipeline.", EditPipelineConfig),
            *_leaves(config.pipeline.model, "--pipeline.model.", model),
        ]
        assert listed[command] == set(own)
    for name in ("--pipeline.refine-from", "--pipeline.model.fog-opacity", "guidance-scale", "--edit.points-lr"):
        assert f"| `{name}` |" in page


def _leaves(config: Any, prefix: str, declared_in: type | None = None) -> Iterator[str]:
    """Yield the options of a configuration and of those in it.

    Args:
        config: The configuration.
        prefix: How its options begin.
        declared_in: The class whose own fields count; those that it inherits do not, nor does its pipeline.
    """
    for part in dataclasses.fields(config):
        value = getattr(config, part.name)
        if part.name.startswith("_") or (declared_in and part.name not in vars(declared_in)["__annotations__"]):
            continue
        if declared_in and part.name == "pipeline":
            continue
        name = f"{prefix}{part.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{name}.")
        else:
            yield name
