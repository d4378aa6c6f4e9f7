"""The two nerfstudio methods, with every default in one place. Registered through pyproject.toml's entry points."""

from __future__ import annotations

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from pds_nerfstudio.guidance.guidance import GuidanceConfig
from pds_nerfstudio.scenes.compat import allow_checkpoint_types
from pds_nerfstudio.scenes.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.trainer import EditTrainerConfig

allow_checkpoint_types()  # here, because every command of nerfstudio that may load a checkpoint imports this module

_HAS_GPU = torch.cuda.is_available()
_NEVER = 10**9


def _group(lr: float) -> dict:
    # No schedule of nerfstudio's: the pipeline lets the rates fall over the edit, whichever step it begins at.
    return {"optimizer": AdamOptimizerConfig(lr=lr, eps=1e-15), "scheduler": None}


def _machine() -> MachineConfig:
    return MachineConfig(device_type="cuda" if _HAS_GPU else "cpu")


pds_splat = MethodSpecification(
    description="Edit a Gaussian splat scene by text, with Posterior Distillation Sampling.",
    config=EditTrainerConfig(
        method_name="pds-splat",
        machine=_machine(),
        max_num_iterations=3000,
        steps_per_eval_batch=_NEVER,
        steps_per_eval_image=_NEVER,
        steps_per_eval_all_images=_NEVER,
        steps_per_save=500,
        mixed_precision=False,
        pipeline=EditPipelineConfig(
            datamanager=FullImageDatamanagerConfig(
                dataparser=NerfstudioDataParserConfig(load_3D_points=True),
                # "gpu" is nerfstudio's word for the model's device; "cpu" pins memory, which needs a GPU.
                cache_images="gpu",
                cache_images_type="uint8",
            ),
            model=EditSplatModelConfig(num_downscales=0),
            guidance=GuidanceConfig(),
        ),
        optimizers={
            "means": _group(1.6e-4),
            "features_dc": _group(2.5e-3),
            "features_rest": _group(2.5e-3 / 20),
            "opacities": _group(0.05),
            "scales": _group(5e-3),
            "quats": _group(1e-3),
            "camera_opt": _group(1e-4),
            "bilateral_grid": _group(2e-3),
        },
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    ),
)

pds_nerf = MethodSpecification(
    description="Edit a NeRF (nerfacto) by text, with Posterior Distillation Sampling.",
    config=EditTrainerConfig(
        method_name="pds-nerf",
        machine=_machine(),
        max_num_iterations=3000,
        steps_per_eval_batch=_NEVER,
        steps_per_eval_image=_NEVER,
        steps_per_eval_all_images=_NEVER,
        steps_per_save=500,
        mixed_precision=_HAS_GPU,
        pipeline=EditPipelineConfig(
            # The plain data manager: nerfacto's parallel one starts processes that a plugin can't count on.
            datamanager=VanillaDataManagerConfig(
                dataparser=NerfstudioDataParserConfig(),
                train_num_rays_per_batch=4096,
                eval_num_rays_per_batch=4096,
            ),
            model=EditNerfModelConfig(
                implementation="tcnn" if _HAS_GPU else "torch",
                eval_num_rays_per_chunk=1 << 15,
                camera_optimizer=CameraOptimizerConfig(mode="SO3xR3"),
            ),
            guidance=GuidanceConfig(),
        ),
        optimizers={
            "proposal_networks": _group(1e-2),
            "fields": _group(1e-2),
            "camera_opt": _group(1e-3),
        },
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    ),
)
