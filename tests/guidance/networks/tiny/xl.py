"""Stable Diffusion XL: two text encoders, and conditions beside the text."""

from pathlib import Path
from typing import Any

from tests.guidance.networks.tiny.parts import clip, clip_tokenizer, kl_vae
from tests.guidance.networks.tiny.registry import kind
from tests.guidance.networks.tiny.sd import scheduler, unet


def xl_unet(in_channels: int = 4, **options: Any) -> Any:
    """A UNet that is also told the pooled text and six numbers about the picture."""
    return unet(
        in_channels,
        cross_attention_dim=64,
        use_linear_projection=True,
        attention_head_dim=(2, 4),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + 32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def xl_pipeline(name: str = "StableDiffusionXLPipeline", **others: Any) -> Any:
    """A pipeline of Stable Diffusion XL's parts by its class's name, some of the parts replaced."""
    import diffusers

    return getattr(diffusers, name)(
        unet=others.pop("unet", None) or xl_unet(),
        vae=others.pop("vae", None) or kl_vae(scaling=0.13025, force_upcast=True),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=32),
        tokenizer_2=clip_tokenizer(),
        scheduler=others.pop("scheduler", None)
        or scheduler("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1),
        **others,
    )


@kind
def sdxl(folder: Path) -> None:
    xl_pipeline().save_pretrained(folder)


@kind
def sdxl_fp16_variant(folder: Path) -> None:
    import torch

    xl_pipeline().to(torch.float16).save_pretrained(folder, variant="fp16")


@kind
def sdxl_turbo(folder: Path) -> None:
    ancestral = scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
    xl_pipeline(scheduler=ancestral).save_pretrained(folder)


@kind
def sdxl_lightning(folder: Path) -> None:
    xl_pipeline(scheduler=scheduler("EulerDiscreteScheduler", timestep_spacing="trailing")).save_pretrained(folder)


@kind
def sdxl_lcm(folder: Path) -> None:
    xl_pipeline(unet=xl_unet(time_cond_proj_dim=16), scheduler=scheduler("LCMScheduler")).save_pretrained(folder)


@kind
def sdxl_playground(folder: Path) -> None:
    from diffusers import EDMDPMSolverMultistepScheduler

    vae = kl_vae(
        scaling=0.5,
        latents_mean=[-1.6574, 1.886, -1.383, 2.5155],
        latents_std=[8.4927, 5.9022, 6.5498, 5.2299],
    )
    xl_pipeline(vae=vae, scheduler=EDMDPMSolverMultistepScheduler(sigma_data=0.5)).save_pretrained(folder)


@kind
def sdxl_inpaint(folder: Path) -> None:
    xl_pipeline("StableDiffusionXLInpaintPipeline", unet=xl_unet(9)).save_pretrained(folder)


@kind
def sdxl_ip2p(folder: Path) -> None:
    xl_pipeline("StableDiffusionXLInstructPix2PixPipeline", unet=xl_unet(8)).save_pretrained(folder)


@kind
def sdxl_refiner(folder: Path) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    refiner: Any = StableDiffusionXLImg2ImgPipeline(
        unet=unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=5 * 8 + 32,
        ),
        vae=kl_vae(scaling=0.13025),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=clip(projection=32),
        tokenizer_2=clip_tokenizer(),
        scheduler=scheduler("EulerDiscreteScheduler"),
        requires_aesthetics_score=True,
    )
    refiner.save_pretrained(folder)
