"""The two methods with other options: an edit in a minute, for scenes of the embedded world, and as PDS was published.

Scenes of that world are small, and quick enough for a CPU. What was published is for comparison. All are registered
through pyproject.toml's entry points. Every option can still be given on the command line.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.plugins.types import MethodSpecification

from pds_nerfstudio.methods import described, pds_nerf, pds_splat
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.trainer import EditTrainerConfig


def _of_few_steps(config: EditTrainerConfig) -> None:
    """Let a splat be edited in a few hundred steps, large enough for that, and refined from its source."""
    rates = {"means": 1e-3, "scales": 3e-2, "quats": 2e-2, "opacities": 0.1, "features_dc": 1.5e-2}
    for name, rate in rates.items():
        config.optimizers[name]["optimizer"].lr = rate
    pipeline = config.pipeline
    # Redraw all views, and fit the scene as it was to them, from what they show of new surfaces.
    pipeline.refine_from = "source"
    pipeline.refine_steps = 400
    pipeline.refine_rounds = 1
    pipeline.redraw_final_mult = 0.15
    pipeline.refine_lr_mult = 1.0


def _quick_splat() -> EditTrainerConfig:
    """Return the configuration of an edit without distillation: views edited together, then refined."""
    config = copy.deepcopy(pds_splat.config)
    assert isinstance(config, EditTrainerConfig)
    config.method_name = "pds-splat-quick"
    config.max_num_iterations = 200
    config.steps_per_save = 100
    config.pipeline.strategy = "together"
    _of_few_steps(config)
    return config


def _toyworld(method: MethodSpecification) -> EditTrainerConfig:
    """Return a copy of a method's configuration, with what scenes of the embedded world have in common."""
    config = copy.deepcopy(method.config)
    assert isinstance(config, EditTrainerConfig)
    config.method_name = f"{config.method_name}-toyworld"
    config.steps_per_save = 100
    config.logging.steps_per_log = 25
    config.pipeline.guidance = replace(
        config.pipeline.guidance,
        compile="off",  # a few hundred steps of so small a network are not worth a minute of compiling it
        # Leave alone what the prompts agree on.
        guidance_scale=6.0,
        localize=1.0,
        # Layout first, detail last.
        t_schedule="annealed",
        t_max=1.0,
        t_min=0.2,
        t_jitter=0.2,
        t_power=2.0,
        identity_weight=1.0,
        identity_inside=0.5,
    )
    return config


def _toyworld_splat() -> EditTrainerConfig:
    """Return the configuration of a small scene, with few and large steps."""
    config = _toyworld(pds_splat)
    config.max_num_iterations = 400
    _of_few_steps(config)
    pipeline = config.pipeline
    pipeline.reconstruct_steps = 400
    # Draw a draft of all views together, with every turn, and distil from there.
    pipeline.strategy = "both"
    pipeline.together = replace(pipeline.together, share=0.5, redrawings=100)
    assert isinstance(pipeline.model, EditSplatModelConfig)
    pipeline.model.edit_densify_grad_thresh = 0.01
    pipeline.model.edit_opacity_loss_mult = 0.1
    pipeline.model.background_color = "white"
    return config


def _toyworld_nerf() -> EditTrainerConfig:
    """Return the configuration of a small field without pose correction or per-image appearance, with few rays."""
    config = _toyworld(pds_nerf)
    config.max_num_iterations = 300
    pipeline = config.pipeline
    pipeline.reconstruct_steps = 900
    pipeline.views_per_step = 2
    pipeline.lr_warmup_steps = 20
    pipeline.refine_lr_mult = 0.5
    # Then redraw all views, fit rays of all of them from the scene as it was, and redraw them with less and less noise.
    pipeline.refine_steps = 900
    pipeline.refine_rounds = 2
    pipeline.redraw_final_mult = 0.15
    assert isinstance(pipeline.datamanager, VanillaDataManagerConfig)
    pipeline.datamanager.train_num_rays_per_batch = 1024
    assert isinstance(pipeline.model, EditNerfModelConfig)
    pipeline.model = replace(
        pipeline.model,
        implementation="torch",
        num_levels=8,
        log2_hashmap_size=15,
        max_res=256,
        hidden_dim=32,
        hidden_dim_color=32,
        num_proposal_samples_per_ray=(48, 24),
        num_nerf_samples_per_ray=16,
        distortion_loss_mult=0.0,  # with it dark pictures gave each camera a scene of its own (docs/experiments.md)
        near_plane=0.4,  # nothing is that near to a camera but floaters
        use_appearance_embedding=False,
        camera_optimizer=replace(pipeline.model.camera_optimizer, mode="off"),
        eval_num_rays_per_chunk=4096,
        edit_rays_per_chunk=4096,
        edit_rays_per_step=4096,
        fog_opacity=0.3,
    )
    pipeline.turntable_frames = 30
    return config


def _published(method: MethodSpecification) -> EditTrainerConfig:
    """Return a copy of a method's configuration with nothing but what was published (Koo et al., CVPR 2024).

    The objective's own options are the defaults: times drawn evenly from .02 to .98, weights of 500 steps.
    """
    config = copy.deepcopy(method.config)
    assert isinstance(config, EditTrainerConfig)
    config.method_name = f"{config.method_name}-published"
    pipeline = config.pipeline
    pipeline.guidance = replace(pipeline.guidance, guidance_scale=100.0, localize=0.0)
    pipeline.hold_below = pipeline.photometric_loss_mult = 0.0
    pipeline.lr_warmup_steps, pipeline.lr_final_mult = 0, 1.0
    if isinstance(pipeline.model, EditSplatModelConfig):
        pipeline.model.strewn_gaussians, pipeline.model.edit_opacity_loss_mult = 0, 0.0
    if isinstance(pipeline.model, EditNerfModelConfig):
        pipeline.model.fog_opacity, pipeline.model.edit_rays_per_step = 0.0, 0
    return config


pds_splat_quick = described(
    "pds-splat without distillation: views edited together, in a minute or two on a GPU.", _quick_splat()
)
pds_splat_published = described(
    "pds-splat as PDS was published: all moves, at constant rates. For comparison.", _published(pds_splat)
)
pds_nerf_published = described(
    "pds-nerf as PDS was published: all moves, at constant rates. For comparison.", _published(pds_nerf)
)
pds_splat_toyworld = described(
    "pds-splat with options for small scenes of the embedded world, on a CPU.", _toyworld_splat()
)
pds_nerf_toyworld = described(
    "pds-nerf with options for small scenes of the embedded world, on a CPU.", _toyworld_nerf()
)
