"""What --help shows first, that it is true, and that nothing is missing below it."""

import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro
from nerfstudio.plugins.types import MethodSpecification

from pds_nerfstudio import methods, recipes
from pds_nerfstudio.evaluation import benchmark
from pds_nerfstudio.evaluation import cli as evaluation
from pds_nerfstudio.images import cli as images
from pds_nerfstudio.personalization import cli as personalization
from pds_nerfstudio.scenes.files import export
from pds_nerfstudio.toyworld import cli as toyworld
from pds_nerfstudio.vector.edit import cli as vector

FIRST = {
    "pds-image": "image src-prompt tgt-prompt guidance.model guidance.guidance-scale guidance.identity-weight "
    "guidance.objective mask edit.steps edit.flow-edit.method edit.refine-scale guidance.seed output-dir",
    "pds-svg": "svg src-prompt tgt-prompt draft guidance.model guidance.guidance-scale guidance.identity-weight "
    "guidance.objective edit.draft.steps edit.fit-steps edit.new-paths edit.background only history output-dir",
    "pds-personalize": "data subject token model steps learning-rate rank prior-pictures seed output-dir",
    "pds-eval": "load-config masks clip edit views out",
    "pds-export": "out load-config load-ply coordinates",
    "pds-benchmark": "variants representation cases pairs kinds seed jobs out",
    "pds-toyworld scene": "out edit thing.subject thing.color views width height seed",
    "pds-toyworld drawing": "out edit thing.subject thing.color",
}
FIRST["pds-splat"] = FIRST["pds-nerf"] = FIRST["pds-splat-toyworld"] = FIRST["pds-nerf-toyworld"] = (
    "data load-dir pipeline.src-prompt pipeline.tgt-prompt pipeline.guidance.model pipeline.guidance.objective "
    "pipeline.guidance.guidance-scale pipeline.guidance.identity-weight pipeline.guidance.localize "
    "pipeline.photometric-loss-mult max-num-iterations pipeline.refine-steps vis output-dir experiment-name"
)
METHODS = ("pds-splat", "pds-nerf", "pds-splat-toyworld", "pds-nerf-toyworld")
COMMANDS: dict[str, Callable[[], None]] = {
    "pds-image": images.main,
    "pds-svg": vector.main,
    "pds-personalize": personalization.main,
    "pds-eval": evaluation.main,
    "pds-export": export.main,
    "pds-benchmark": benchmark.main,
    "pds-toyworld scene": toyworld.main,
    "pds-toyworld drawing": toyworld.main,
}
CONFIGS: dict[str, Any] = {
    "pds-image": images.ImageEdit(Path(), "", ""),
    "pds-svg": vector.SvgEdit(Path(), "", ""),
    "pds-personalize": personalization.Personalize(Path(), ""),
    "pds-eval": evaluation.Evaluation(Path()),
    "pds-export": export.Export(Path()),
    "pds-benchmark": benchmark.Benchmark(),
    "pds-toyworld scene": toyworld.SceneOrder(Path(), ""),
    "pds-toyworld drawing": toyworld.DrawingOrder(Path(), ""),
}
REQUIRED = {
    "pds-image": "image src-prompt tgt-prompt",
    "pds-svg": "svg",
    "pds-personalize": "data subject",
    "pds-eval": "load-config",
    "pds-export": "out",
    "pds-benchmark": "",
    "pds-toyworld scene": "out edit",
    "pds-toyworld drawing": "out edit",
}
REQUIRED |= dict.fromkeys(METHODS, "pipeline.src-prompt pipeline.tgt-prompt")
DEFAULTS = {
    "pds-image": {"guidance.identity-weight": "4", "guidance.model": "toyworld"},
    "pds-svg": {"guidance.identity-weight": "1", "guidance.model": "toyworld"},
    "pds-personalize": {"model": "toyworld", "prior-pictures": "50"},
    "pds-eval": {"views": "12"},
    "pds-export": {"coordinates": "auto"},
    "pds-benchmark": {"representation": "image", "cases": "64"},
    "pds-toyworld scene": {"thing.subject": "man", "views": "32"},
    "pds-toyworld drawing": {"thing.color": "blue"},
    "pds-splat": {"max-num-iterations": "3000", "pipeline.guidance.guidance-scale": "0"},
    "pds-nerf": {"max-num-iterations": "3000", "pipeline.guidance.guidance-scale": "0"},
    "pds-splat-toyworld": {"max-num-iterations": "400", "pipeline.guidance.guidance-scale": "6"},
    "pds-nerf-toyworld": {"max-num-iterations": "300", "pipeline.guidance.guidance-scale": "6"},
}

Modules = tuple[ModuleType, ...]
MODULES: Modules = (methods, recipes)


def methods_of(command: list[str], monkeypatch: pytest.MonkeyPatch) -> Modules:
    """The modules of methods as nerfstudio finds them when it is started by this command."""
    monkeypatch.setattr("sys.argv", command)
    found = []
    for known in MODULES:
        spec = importlib.util.spec_from_file_location("methods_of_a_command", known.__file__)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(module)
    return tuple(found)


def specification(modules: Modules, name: str) -> MethodSpecification:
    return getattr(modules[name.endswith("-toyworld")], name.replace("-", "_"))


def parse(specifications: dict[str, MethodSpecification], arguments: list[str]) -> Any:
    """What ns-train makes of its arguments."""
    union: Any = tyro.extras.subcommand_type_from_defaults(
        defaults={name: method.config for name, method in specifications.items()},
        descriptions={name: method.description for name, method in specifications.items()},
    )
    marked: Any = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[union]]  # type: ignore[misc]
    return tyro.cli(marked, args=arguments)


def shown(run: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.fixture(params=[*COMMANDS, *METHODS])
def command(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def text(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What --help-all, or --help of nerfstudio's command, prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    if command in COMMANDS:
        monkeypatch.setattr("sys.argv", [*f"bin/{command}".split(), "--help-all"])
        return shown(COMMANDS[command], capsys)
    module = methods_of(["ns-train", command, "--help"], monkeypatch)
    both = {name: specification(module, name) for name in METHODS}
    return shown(lambda: parse(both, [command, "--help"]), capsys)


def parts(text: str) -> tuple[str, str]:
    """What stands above tyro's first box, and the boxes."""
    start = re.search(r"^\W*options\W*$", text, re.MULTILINE)
    assert start is not None
    return text[: start.start()], text[start.start() :]


def listed(boxes: str) -> set[str]:
    """The options that the boxes explain."""
    return set(re.findall(r"^[│ ]*(--[a-z][\w.-]*)", boxes, re.MULTILINE))


def options_of(config: Any, prefix: str = "--", deep: bool = True) -> Iterator[str]:
    """The options of a configuration and, if `deep`, of those in it, as tyro names them."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name.replace("_", "-")
        if field.name == "_target":  # a class, which no command line can give
            continue
        if not dataclasses.is_dataclass(value):
            yield name
        elif deep:
            yield from options_of(value, name + ".")


def test_the_options_that_matter_stand_first_and_are_explained_below(command: str, text: str) -> None:
    top, boxes = parts(text)
    first = re.findall(r"^  (--\S+)  +\S", top, re.MULTILINE)
    assert first == [f"--{name}" for name in FIRST[command].split()]
    assert set(first) <= listed(boxes)


def test_every_option_is_listed(command: str, text: str) -> None:
    _, boxes = parts(text)
    if command in COMMANDS:
        options = {*options_of(CONFIGS[command])}
    else:  # those of this package, and all that stand at the top
        config: Any = specification(MODULES, command).config
        options = {*options_of(config, deep=False), *options_of(config.pipeline, "--pipeline.", deep=False)}
        options |= {*options_of(config.pipeline.guidance, "--pipeline.guidance.")}
        options |= {*options_of(config.pipeline.refinement, "--pipeline.refinement.")}
        options.remove("--optimizers")  # a dictionary, whose entries have groups of their own
    assert len(options) > 3
    assert options - listed(boxes) == set()


def test_the_top_fits_a_small_terminal(text: str) -> None:
    top, _ = parts(text)
    usage, *lines = top.splitlines()
    assert [line for line in lines if len(line) > 78] == []  # two columns are tyro's
    assert len(lines) < 35 and "  " not in usage


def test_the_usage_of_our_own_commands_is_short(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for command, main in COMMANDS.items():
        monkeypatch.setattr("sys.argv", [*f"some/folder/{command}".split(), "--help"])
        usage, *lines = shown(main, capsys).splitlines()
        assert usage == f"usage: {command} [-h] [--help-all] [OPTIONS]"
        assert len(lines) < 40 and max(map(len, lines)) <= 80, command


def test_help_is_the_top_of_the_help_of_all_options(
    command: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command in METHODS:
        pytest.skip("nerfstudio's command has one help")
    monkeypatch.setattr("sys.argv", [*f"bin/{command}".split(), "--help"])
    short, (top, _) = shown(COMMANDS[command], capsys), parts(text)
    without_usage = [[line.rstrip() for line in part.splitlines()[1:] if line.strip()] for part in (short, top)]
    assert without_usage[0] == without_usage[1]
    assert "--help-all" in short


def test_what_is_required_is_marked(command: str, text: str) -> None:
    top, _ = parts(text)
    assert re.findall(r"^  --(\S+).*\(required\)$", top, re.MULTILINE) == REQUIRED[command].split()


def test_the_values_shown_are_the_defaults(command: str, text: str) -> None:
    top, _ = parts(text)
    values = dict(re.findall(r"^  --(\S+).* \[(\S+)\]$", top, re.MULTILINE))
    assert values == values | DEFAULTS[command]
    assert not values.keys() & {"load-dir", "clip", "variants", *REQUIRED[command].split()}


def examples(text: str) -> list[list[str]]:
    """The commands at the end of the top, as a shell reads them."""
    top, _ = parts(text)
    lines = top.split("Examples:\n")[1].replace("\\\n", "")
    return [shlex.split(line) for line in lines.splitlines() if line.strip()]


def test_the_examples_are_accepted(command: str, text: str) -> None:
    commands = examples(text)
    assert len(commands) >= 2
    for words in commands:
        if command in METHODS:
            assert words[:2] == ["ns-train", command]
            config = parse({name: specification(MODULES, name) for name in METHODS}, words[1:])
            assert config.pipeline.tgt_prompt
        elif words[1] not in ("--repeat", "--resume"):
            name = command.split()
            assert words[: len(name)] == name
            given = tyro.cli(type(CONFIGS[command]), args=words[len(name) :])
            if command in ("pds-image", "pds-svg", "pds-personalize"):
                given.check()
            elif command == "pds-benchmark":
                assert benchmark.plan(given)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_short_line_in_the_list_of_methods(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["ns-train", "--help"], ["ns-train", "splatfacto"], ["ns-viewer", "--load-config", "a.yml"]):
        description = specification(methods_of(command, monkeypatch), name).description
        assert len(description) < 90 and "\n" not in description


def test_the_recipes_of_pictures_stand_near_the_top(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pds-image", "style", "--help-all"])
    text = shown(images.main, capsys)
    top, _ = parts(text)
    assert re.findall(r"^  (\w+)  +\S", top[: top.index("Options to begin")], re.MULTILINE) == [*images.RECIPES]
    assert "[lusd]" in top and text.splitlines()[0].startswith("usage: pds-image style ")


def test_a_misspelt_option_is_answered_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    required = ["--image", "a.png", "--src-prompt", "a cat", "--tgt-prompt", "a dog"]
    monkeypatch.setattr("sys.argv", ["pds-image", *required, "--guidance.guidence-scale", "3"])
    with pytest.raises(SystemExit):
        images.main()
    message = capsys.readouterr().err
    assert "--guidance.guidence-scale" in message and "--guidance.guidance-scale" in message
    assert "pds-image --help" in message
