"""The methods as nerfstudio finds them."""

import ast
import dataclasses
import inspect
import operator
from importlib.metadata import entry_points
from typing import Any

import pytest
from nerfstudio.configs.method_configs import all_descriptions, all_methods, method_configs

from pds_nerfstudio import methods, recipes
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.run_config import EditRunConfig

METHODS = {
    "pds-splat": methods.pds_splat,
    "pds-nerf": methods.pds_nerf,
    "pds-splat-toyworld": recipes.pds_splat_toyworld,
    "pds-nerf-toyworld": recipes.pds_nerf_toyworld,
    "pds-splat-quick": recipes.pds_splat_quick,
    "pds-splat-published": recipes.pds_splat_published,
    "pds-nerf-published": recipes.pds_nerf_published,
}
OF_THE_TOYWORLD = {
    "steps_per_save": 100,
    "vis": "viewer",
    "logging.steps_per_log": 25,
    "viewer.quit_on_train_completion": False,
    "pipeline.photometric_loss_mult": 3.0,
}
OF_ITS_GUIDANCE = {
    "guidance_scale": 6.0,
    "localize": 1.0,
    "compile": "off",
    "t_schedule": "annealed",
    "t_max": 1.0,
    "t_min": 0.2,
    "t_jitter": 0.2,
    "t_power": 2.0,
    "identity_weight": 1.0,
    "identity_inside": 0.5,
}
RECIPES: dict[str, dict[str, Any]] = {
    "pds-splat": {
        "max_num_iterations": 400,
        "pipeline.reconstruct_steps": 400,
        "pipeline.strategy": "both",
        "pipeline.together.share": 0.5,
        "pipeline.together.redrawings": 100,
        "pipeline.refine_steps": 400,
        "pipeline.refine_from": "source",
        "pipeline.refine_rounds": 1,
        "pipeline.redraw_final_mult": 0.15,
        "pipeline.refine_lr_mult": 1.0,
        "pipeline.model.edit_densify_grad_thresh": 0.01,
        "pipeline.model.edit_opacity_loss_mult": 0.1,
        "pipeline.model.background_color": "white",
    },
    "pds-nerf": {
        "max_num_iterations": 300,
        "pipeline.strategy": "distil",
        "pipeline.reconstruct_steps": 900,
        "pipeline.refine_steps": 900,
        "pipeline.refine_rounds": 2,
        "pipeline.redraw_final_mult": 0.15,
        "pipeline.views_per_step": 2,
        "pipeline.datamanager.train_num_rays_per_batch": 1024,
        "pipeline.model.distortion_loss_mult": 0.0,
        "pipeline.model.near_plane": 0.4,
        "pipeline.model.camera_optimizer.mode": "off",
        "pipeline.model.fog_opacity": 0.3,
        "pipeline.model.edit_rays_per_step": 4096,
    },
}


def test_all_are_registered_through_entry_points() -> None:
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


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_for_the_embedded_world_have_the_values_that_were_measured(name: str) -> None:
    config = METHODS[f"{name}-toyworld"].config
    for option, value in (OF_THE_TOYWORLD | RECIPES[name]).items():
        assert operator.attrgetter(option)(config) == value, option
    assert isinstance(config.pipeline, EditPipelineConfig)
    assert {key: getattr(config.pipeline.guidance, key) for key in OF_ITS_GUIDANCE} == OF_ITS_GUIDANCE


def test_quick_edits_all_views_together_and_distils_nothing() -> None:
    """As was timed on a GPU: `scripts/time_edit.py`."""
    config, usual = METHODS["pds-splat-quick"].config, METHODS["pds-splat"].config
    wanted = {"max_num_iterations": 200, "pipeline.strategy": "together"}
    wanted |= {"pipeline.refine_from": "source", "pipeline.refine_steps": 400, "pipeline.refine_rounds": 1}
    assert {option: operator.attrgetter(option)(config) for option in wanted} == wanted
    assert isinstance(config.pipeline, EditPipelineConfig) and isinstance(usual.pipeline, EditPipelineConfig)
    assert (config.pipeline.guidance, config.pipeline.model) == (usual.pipeline.guidance, usual.pipeline.model)


def test_a_recipe_leaves_its_method_alone() -> None:
    for name in RECIPES:
        config, recipe = METHODS[name].config, METHODS[f"{name}-toyworld"].config
        assert config.max_num_iterations == 3000 and config.vis == "viewer"
        assert isinstance(config.pipeline, EditPipelineConfig) and isinstance(recipe.pipeline, EditPipelineConfig)
        assert config.pipeline.guidance == GuidanceConfig(localize=1.0) != recipe.pipeline.guidance
    rates = {name: METHODS[name].config.optimizers["means"]["optimizer"].lr for name in METHODS if "splat" in name}
    small, large = dict.fromkeys(["pds-splat", "pds-splat-published"], 1.6e-4), {"pds-splat-toyworld": 1e-3}
    assert rates == small | large | {"pds-splat-quick": 1e-3}


@pytest.mark.parametrize(
    ("name", "of_the_model"),
    [
        ("pds-splat", {"strewn_gaussians": 0, "edit_opacity_loss_mult": 0.0}),
        ("pds-nerf", {"fog_opacity": 0.0, "edit_rays_per_step": 0}),
    ],
)
def test_as_published_nothing_is_added_and_nothing_held(name: str, of_the_model: dict[str, Any]) -> None:
    config = METHODS[f"{name}-published"].config
    assert isinstance(config.pipeline, EditPipelineConfig)
    assert config.pipeline.guidance == GuidanceConfig(guidance_scale=100.0)
    wanted = {"hold_below": 0, "lr_final_mult": 1, "lr_warmup_steps": 0, "refine_steps": 0, "photometric_loss_mult": 0}
    assert {option: getattr(config.pipeline, option) for option in wanted} == wanted
    assert {option: getattr(config.pipeline.model, option) for option in of_the_model} == of_the_model


@pytest.mark.parametrize(
    "config",
    [
        EditRunConfig,
        EditPipelineConfig,
        EditSplatModelConfig,
        EditNerfModelConfig,
        GuidanceConfig,
    ],
)
def test_every_option_is_explained(config: type) -> None:
    """Tyro takes the string below a field for its help text."""
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
