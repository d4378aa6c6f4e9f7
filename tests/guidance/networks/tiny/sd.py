"""Stable Diffusion 1 and 2, and pipelines around their UNet."""

from pathlib import Path
from typing import Any

from tests.guidance.networks.tiny.parts import clip, clip_tokenizer, kl_vae
from tests.guidance.networks.tiny.registry import kind

SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""The noise schedule of all Stable Diffusion models without a flow."""


def unet(in_channels: int = 4, **options: Any) -> Any:
    """A UNet for latents of 8 × 8 that halves them once."""
    from diffusers import UNet2DConditionModel

    standard: dict[str, Any] = {
        "sample_size": 8,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(in_channels=in_channels, **{**standard, **options})


def scheduler(name: str, **options: Any) -> Any:
    """A scheduler of diffusers by its class's name, with Stable Diffusion's betas."""
    import diffusers

    return getattr(diffusers, name)(**{**SD_BETAS, **options})


def parts(**others: Any) -> dict[str, Any]:
    """The parts of Stable Diffusion 1.5, some of them replaced."""
    return {
        "unet": others.pop("unet", None) or unet(),
        "vae": others.pop("vae", None) or kl_vae(),
        "text_encoder": others.pop("text_encoder", None) or clip(),
        "tokenizer": others.pop("tokenizer", None) or clip_tokenizer(),
        "scheduler": others.pop("scheduler", None)
        or scheduler("PNDMScheduler", skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        **others,
    }


def pipeline(name: str = "StableDiffusionPipeline", **others: Any) -> Any:
    """A pipeline of Stable Diffusion 1.5's parts by its class's name, some of the parts replaced."""
    import diffusers

    return getattr(diffusers, name)(**parts(**others))


@kind
def sd15(folder: Path) -> None:
    pipeline().save_pretrained(folder)


@kind
def sd15_safety(folder: Path) -> None:
    pipeline(**safety_checker()).save_pretrained(folder)


def safety_checker() -> dict[str, Any]:
    """What Stable Diffusion 1 looks at its pictures with."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**small, "projection_dim": 32, "vocab_size": 99},
        vision_config={**small, "projection_dim": 32, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    return {
        "safety_checker": StableDiffusionSafetyChecker(config),
        "feature_extractor": CLIPImageProcessor(crop_size=32, size={"shortest_edge": 32}),
        "requires_safety_checker": True,
    }


@kind
def sd21_v(folder: Path) -> None:
    unet_of_2 = unet(use_linear_projection=True, attention_head_dim=(2, 4), upcast_attention=True)
    ddim = scheduler(
        "DDIMScheduler", prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipeline(unet=unet_of_2, text_encoder=clip(hidden_act="gelu"), scheduler=ddim).save_pretrained(folder)


@kind
def sd21_zsnr(folder: Path) -> None:
    ddim = scheduler(
        "DDIMScheduler",
        prediction_type="v_prediction",
        clip_sample=False,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    pipeline(scheduler=ddim).save_pretrained(folder)


@kind
def sd15_zsnr_euler(folder: Path) -> None:
    euler = scheduler(
        "EulerDiscreteScheduler",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    pipeline(scheduler=euler).save_pretrained(folder)


@kind
def sd_turbo(folder: Path) -> None:
    pipeline(scheduler=scheduler("EulerDiscreteScheduler", timestep_spacing="trailing")).save_pretrained(folder)


@kind
def sd15_lcm(folder: Path) -> None:
    consistent = unet(time_cond_proj_dim=16)
    pipeline("LatentConsistencyModelPipeline", unet=consistent, scheduler=scheduler("LCMScheduler")).save_pretrained(
        folder
    )


@kind
def sd15_unipc_karras(folder: Path) -> None:
    unipc = scheduler("UniPCMultistepScheduler", use_karras_sigmas=True)
    pipeline(scheduler=unipc).save_pretrained(folder)


@kind
def sd15_sample_pred(folder: Path) -> None:
    pipeline(scheduler=scheduler("DDIMScheduler", prediction_type="sample")).save_pretrained(folder)


@kind
def sd15_edm(folder: Path) -> None:
    from diffusers import EDMEulerScheduler

    pipeline(scheduler=EDMEulerScheduler(prediction_type="epsilon")).save_pretrained(folder)


@kind
def sd15_ipndm(folder: Path) -> None:
    from diffusers import IPNDMScheduler

    pipeline(scheduler=IPNDMScheduler()).save_pretrained(folder)


@kind
def sd15_flow_unipc(folder: Path) -> None:
    from diffusers import UniPCMultistepScheduler

    unipc = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    pipeline(scheduler=unipc).save_pretrained(folder)


@kind
def sd15_flow_dpm_noise(folder: Path) -> None:
    dpm = scheduler("DPMSolverMultistepScheduler", use_flow_sigmas=True, prediction_type="epsilon")
    pipeline(scheduler=dpm).save_pretrained(folder)


@kind
def sd15_flow_euler(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipeline(scheduler=FlowMatchEulerDiscreteScheduler()).save_pretrained(folder)


@kind
def sd15_taesd(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    small: Any = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    pipeline(vae=small).save_pretrained(folder)


@kind
def sd15_asym_vae(folder: Path) -> None:
    from diffusers import AsymmetricAutoencoderKL

    asymmetric: Any = AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        down_block_out_channels=(8, 8),
        layers_per_down_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2,
        up_block_out_channels=(8, 8),
        layers_per_up_block=1,
        norm_num_groups=2,
        sample_size=64,
    )
    pipeline(vae=asymmetric).save_pretrained(folder)


@kind
def sd15_vae_any_precision(folder: Path) -> None:
    pipeline(vae=kl_vae(force_upcast=False)).save_pretrained(folder)


@kind
def sd15_four_levels(folder: Path) -> None:
    deep = unet(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    pipeline(unet=deep).save_pretrained(folder)


@kind
def sd15_long_text(folder: Path) -> None:
    pipeline(text_encoder=clip(positions=248), tokenizer=clip_tokenizer(248)).save_pretrained(folder)


@kind
def sd15_no_sample_size(folder: Path) -> None:
    pipeline(unet=unet(sample_size=None)).save_pretrained(folder)


@kind
def sd15_textual_inversion(folder: Path) -> None:
    import torch

    learned = pipeline()
    learned.load_textual_inversion(torch.randn(3, 32), token="<cat>")  # of three vectors
    learned.save_pretrained(folder)


@kind
def sd_inpaint(folder: Path) -> None:
    pipeline("StableDiffusionInpaintPipeline", unet=unet(9), scheduler=scheduler("DDIMScheduler")).save_pretrained(
        folder
    )


@kind
def sd_ip2p(folder: Path) -> None:
    ancestral = scheduler("EulerAncestralDiscreteScheduler")
    pipeline("StableDiffusionInstructPix2PixPipeline", unet=unet(8), scheduler=ancestral).save_pretrained(folder)


@kind
def sd_img2img(folder: Path) -> None:
    pipeline("StableDiffusionImg2ImgPipeline").save_pretrained(folder)


@kind
def sd_depth_like(folder: Path) -> None:
    pipeline(unet=unet(5)).save_pretrained(folder)


@kind
def sd_upscaler(folder: Path) -> None:
    from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline

    upscaler: Any = StableDiffusionUpscalePipeline(
        unet=unet(7, num_class_embeds=1000),
        vae=kl_vae(levels=3),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(prediction_type="v_prediction"),
        max_noise_level=350,
    )
    upscaler.save_pretrained(folder)


def controlnet() -> Any:
    """A ControlNet for `unet`."""
    from diffusers import ControlNetModel

    return ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(8, 16),
    )


@kind
def sd_controlnet(folder: Path) -> None:
    pipeline("StableDiffusionControlNetPipeline", controlnet=controlnet()).save_pretrained(folder)


@kind
def controlnet_alone(folder: Path) -> None:
    controlnet().save_pretrained(folder)
