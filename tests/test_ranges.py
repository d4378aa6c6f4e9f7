"""Every number among the options of every command has a range; what lies outside is refused by its option's name."""

import copy
import dataclasses
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.benchmark import Benchmark
from pds_nerfstudio.evaluation.cli import Evaluation
from pds_nerfstudio.images.cli import ImageEdit
from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.personalization.cli import Personalize
from pds_nerfstudio.scenes.optimizers import EditAdamConfig
from pds_nerfstudio.toyworld.cli import SceneOrder
from pds_nerfstudio.vector.edit.cli import SvgEdit

NUMBERS: tuple[Any, ...] = (int, float)
COMMANDS: dict[str, Any] = {
    "pds-splat": pds_splat.config,
    "pds-nerf": pds_nerf.config,
    "pds-image": ImageEdit(Path("a.png"), "a cat", "a dog"),
    "pds-svg": SvgEdit(Path("a.svg"), "a cat", "a dog"),
    "pds-personalize": Personalize(Path("photos"), "cat"),
    "pds-eval": Evaluation(Path("config.yml")),
    "pds-benchmark": Benchmark(),
    "pds-toyworld scene": SceneOrder(Path("man"), "arms=raised"),
}


def is_ours(kind: type) -> bool:
    return kind.__module__.startswith("pds_nerfstudio")


def parts_of(config: Any) -> Iterator[tuple[str, Any]]:
    """What lies in a configuration, by its name on the command line."""
    if isinstance(config, dict):
        yield from config.items()
    elif dataclasses.is_dataclass(config):
        yield from ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config))


def numbers_of(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where this package's own numbers lie, and the rates of its optimisers, which it hands to nerfstudio's Adam."""
    own = {name for kind in type(config).__mro__ if is_ours(kind) for name in inspect.get_annotations(kind)}
    types = get_type_hints(type(config))
    for name, value in parts_of(config):
        if isinstance(value, dict) or (dataclasses.is_dataclass(value) and is_ours(type(value))):
            yield from numbers_of(value, (*path, name))
        elif types.get(name) in NUMBERS and (name in own or isinstance(config, EditAdamConfig)):
            yield (*path, name)


def with_value(config: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    if isinstance(config, dict):
        return {**config, name: with_value(config[name], tuple(rest), value)}
    inner = with_value(getattr(config, name), tuple(rest), value) if rest else value
    changed = copy.copy(config)
    object.__setattr__(changed, name, inner)
    return changed


def ready(command: str) -> Any:
    config = copy.deepcopy(COMMANDS[command])
    if command in ("pds-splat", "pds-nerf"):
        config.pipeline.src_prompt, config.pipeline.tgt_prompt = "a cat", "a dog"
    return config


FOUND = [(command, path) for command, config in COMMANDS.items() for path in numbers_of(config)]


def of_each(found: list[tuple[str, tuple[str, ...]]]) -> Any:
    cases = [pytest.param(command, path, id=f"{command} --{'.'.join(path)}") for command, path in found]
    return pytest.mark.parametrize(("command", "path"), cases)


def test_they_are_found() -> None:
    names = {f"{command} {path[-1]}" for command, path in FOUND}
    assert len(FOUND) > 150
    assert {"pds-splat t_min", "pds-nerf fog_steps", "pds-svg seed", "pds-splat lr", "pds-splat side"} <= names


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_usual_may_be_given(command: str) -> None:
    ready(command).check()


@of_each(FOUND)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1])
def test_a_value_out_of_range_is_refused(command: str, path: tuple[str, ...], value: float) -> None:
    with pytest.raises(UserError) as refused:
        with_value(ready(command), path, value).check()
    assert f"--{'.'.join(path).replace('_', '-')} is {value}: give " in refused.value.on_command_line()


@of_each([found for found in FOUND if found[1][-1] == "seed"])
def test_a_seed_too_large_for_generators_is_refused(command: str, path: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="give a whole number from 0"):
        with_value(ready(command), path, 1 << 70).check()
