"""The two methods as nerfstudio finds them."""

import ast
import dataclasses
import inspect
from importlib.metadata import entry_points

import pytest
from nerfstudio.configs.method_configs import all_descriptions, all_methods, method_configs

from pds_nerfstudio import methods
from pds_nerfstudio.guidance.guidance import GuidanceConfig
from pds_nerfstudio.guidance.objectives import DreamCatalystParameters
from pds_nerfstudio.scenes.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.trainer import EditTrainerConfig

METHODS = {"pds-splat": methods.pds_splat, "pds-nerf": methods.pds_nerf}


def test_both_are_registered_through_entry_points() -> None:
    found = {point.name: point.load() for point in entry_points(group="nerfstudio.method_configs")}
    for name, method in METHODS.items():
        assert found[name] is method
        assert method.config.method_name == name
        assert name in all_methods and all_descriptions[name] == method.description


def test_no_built_in_is_overridden() -> None:
    assert not METHODS.keys() & method_configs.keys()
    for name, config in method_configs.items():
        assert all_methods[name] is config


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_group_has_an_optimiser_without_a_schedule(name: str) -> None:
    """The pipeline lets the rates fall; a schedule of nerfstudio's would undo that at each step."""
    assert all(group["scheduler"] is None for group in METHODS[name].config.optimizers.values())


@pytest.mark.parametrize(
    "config",
    [
        EditTrainerConfig,
        EditPipelineConfig,
        EditSplatModelConfig,
        EditNerfModelConfig,
        GuidanceConfig,
        DreamCatalystParameters,
    ],
)
def test_every_option_is_explained(config: type) -> None:
    """tyro takes the string below a field for its help text."""
    (definition,) = ast.parse(inspect.cleandoc(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    explained: dict[str, str] = {}
    for statement, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            explained[statement.target.id] = _string(following)
    assert dataclasses.is_dataclass(config) and config.__doc__
    assert [name for name, text in explained.items() if name != "_target" and len(text) < 15] == []
    assert len(explained) >= 2


def _string(node: ast.stmt | None) -> str:
    """The string that a statement consists of, or an empty one."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""
