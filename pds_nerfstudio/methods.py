"""The two nerfstudio methods, with every default in one place. Registered through pyproject.toml's entry points."""

from __future__ import annotations

import sys

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.configs.base_config import LocalWriterConfig, LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.plugins.types import MethodSpecification

from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.quiet import quiet_dependencies
from pds_nerfstudio.scenes.compat import allow_checkpoint_types
from pds_nerfstudio.scenes.live.opening import prepare_viewers
from pds_nerfstudio.scenes.live.viewer_access import THIS_MACHINE, guard_viewers
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.optimizers import EditAdamConfig
from pds_nerfstudio.scenes.photos import MaskedPixels, RaysOfPhotos, WholePhotos
from pds_nerfstudio.scenes.pipeline import EditPipeline, EditPipelineConfig
from pds_nerfstudio.scenes.trainer import EditTrainerConfig

quiet_dependencies()
guard_viewers()
prepare_viewers(EditPipeline)
allow_checkpoint_types()  # here, because every command of nerfstudio that may load a checkpoint imports this module

_HAS_GPU = torch.cuda.is_available()
_NEVER = 10**9

_FIRST_OPTIONS = (
    FirstOption("--data", "the scene: folder of a transforms.json"),
    FirstOption("--load-dir", "nerfstudio_models of a run to edit"),
    FirstOption("--pipeline.src-prompt", "what the scene shows", required=True),
    FirstOption("--pipeline.tgt-prompt", "what it should show", required=True),
    FirstOption("--pipeline.guidance.model", "model: hub id or folder"),
    FirstOption("--pipeline.guidance.objective", "what is distilled"),
    FirstOption("--pipeline.guidance.guidance-scale", "prompts' strength (0: the model's)"),
    FirstOption("--pipeline.guidance.identity-weight", "how strongly the source is kept"),
    FirstOption("--pipeline.guidance.localize", "1: edit only where prompts differ"),
    FirstOption("--pipeline.photometric-loss-mult", "holds the rest to the photos"),
    FirstOption("--max-num-iterations", "steps of the edit"),
    FirstOption("--pipeline.refine-steps", "steps that sharpen it at the end"),
    FirstOption("--vis", "viewer, wandb, …"),
    FirstOption("--output-dir", "runs are kept in here"),
    FirstOption("--experiment-name", "folder in there; else the data's name"),
)
_EXAMPLES = (
    """\
ns-train {name} --data my-scene \\
    --pipeline.src-prompt "a photo of a man in a park" \\
    --pipeline.tgt-prompt "a photo of a clown in a park" \\
    --pipeline.guidance.model stable-diffusion-v1-5/stable-diffusion-v1-5 \\
    --pipeline.guidance.guidance-scale 100""",
    """\
ns-train {name} --data my-scene \\
    --load-dir outputs/my-scene/{name}/first/reconstruction \\
    --pipeline.src-prompt "a photo of a man in a park" \\
    --pipeline.tgt-prompt "a photo of a man in a park, by night\"""",
)


def _group(lr: float) -> dict:
    # No schedule of nerfstudio's: the pipeline lets the rates fall over the edit, whichever step it begins at.
    return {"optimizer": EditAdamConfig(lr=lr, eps=1e-15), "scheduler": None}


def described(description: str, config: EditTrainerConfig) -> MethodSpecification:
    """Return what nerfstudio registers of a method.

    nerfstudio has one text for a method's own --help and for its line in the list of all methods, and asks for it once:
    the long one is for a command that names the method.

    Args:
        description: What the method does, in one short line.
        config: Its defaults, and its name.
    """
    name = config.method_name
    if name in sys.argv[1:]:
        examples = tuple(example.format(name=name) for example in _EXAMPLES)
        description = CommandHelp(f"ns-train {name}", description, _FIRST_OPTIONS, examples, all_below=True).text(
            config
        )
    return MethodSpecification(description=description, config=config)


def _method(
    name: str, description: str, pipeline: EditPipelineConfig, rates: dict[str, float], mixed_precision: bool
) -> MethodSpecification:
    return described(
        description,
        EditTrainerConfig(
            method_name=name,
            machine=MachineConfig(device_type="cuda" if _HAS_GPU else "cpu"),
            max_num_iterations=3000,
            # nerfstudio's evaluation compares with the source images, which says nothing about an edit.
            steps_per_eval_batch=_NEVER,
            steps_per_eval_image=_NEVER,
            steps_per_eval_all_images=_NEVER,
            steps_per_save=500,
            mixed_precision=mixed_precision,
            pipeline=pipeline,
            optimizers={group: _group(rate) for group, rate in rates.items()},
            # The trainer prints a line of its own, with the steps of the edit and the time that is left.
            logging=LoggingConfig(local_writer=LocalWriterConfig(enable=False), profiler="none"),
            viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host=THIS_MACHINE),
            vis="viewer",
        ),
    )


pds_splat = _method(
    "pds-splat",
    "Edit a Gaussian splat scene by text, with Posterior Distillation Sampling.",
    EditPipelineConfig(
        datamanager=FullImageDatamanagerConfig(
            _target=WholePhotos,
            dataparser=NerfstudioDataParserConfig(load_3D_points=True),
            cache_images="gpu",
            cache_images_type="uint8",
        ),
        model=EditSplatModelConfig(num_downscales=0),
        guidance=GuidanceConfig(localize=1.0),
        photometric_loss_mult=3.0,
    ),
    {
        "means": 1.6e-4,
        "features_dc": 2.5e-3,
        "features_rest": 2.5e-3 / 20,
        "opacities": 0.05,
        "scales": 5e-3,
        "quats": 1e-3,
        "camera_opt": 1e-4,
        "bilateral_grid": 2e-3,
    },
    mixed_precision=False,
)

pds_nerf = _method(
    "pds-nerf",
    "Edit a NeRF (nerfacto) by text, with Posterior Distillation Sampling.",
    EditPipelineConfig(
        # The plain data manager: nerfacto's parallel one starts processes that a plugin can't count on.
        datamanager=VanillaDataManagerConfig(
            _target=RaysOfPhotos,
            pixel_sampler=PixelSamplerConfig(_target=MaskedPixels),
            dataparser=NerfstudioDataParserConfig(),
            train_num_rays_per_batch=4096,
            eval_num_rays_per_batch=4096,
        ),
        model=EditNerfModelConfig(
            implementation="tcnn" if _HAS_GPU else "torch",
            eval_num_rays_per_chunk=1 << 15,
            camera_optimizer=CameraOptimizerConfig(mode="SO3xR3"),
        ),
        guidance=GuidanceConfig(localize=1.0),
        photometric_loss_mult=3.0,
        refine_from="source",
        lr_warmup_steps=100,  # a hash grid is shattered by the first steps of fresh optimisers
    ),
    {"proposal_networks": 1e-2, "fields": 1e-2, "camera_opt": 1e-3},
    mixed_precision=_HAS_GPU,
)
