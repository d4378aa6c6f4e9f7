"""Rectified flows by transformers that text and picture go through side by side: Stable Diffusion 3, FLUX and kin."""

from pathlib import Path
from typing import Any

from tests.guidance.networks.tiny.parts import (
    chat_tokenizer,
    clip,
    clip_tokenizer,
    flow_vae,
    flux2_vae,
    mistral3,
    qwen3,
    t5,
    t5_tokenizer,
)
from tests.guidance.networks.tiny.registry import kind

_DYNAMIC_SHIFT = {
    "use_dynamic_shifting": True,
    "shift": 3.0,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
_FLUX_SIZE = {
    "patch_size": 1,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
}


def _save_stable_diffusion_3(folder: Path, with_t5: bool = True, **options: Any) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        pos_embed_max_size=32,
        **options,
    )
    pipeline: Any = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flow_vae(1.5305, 0.0609),
        text_encoder=clip(projection=32),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=32),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(64) if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
    )
    pipeline.save_pretrained(folder)


@kind
def sd3(folder: Path) -> None:
    _save_stable_diffusion_3(folder)


@kind
def sd3_no_t5(folder: Path) -> None:
    _save_stable_diffusion_3(folder, with_t5=False)


@kind
def sd35_medium(folder: Path) -> None:
    _save_stable_diffusion_3(folder, dual_attention_layers=(0,), qk_norm="rms_norm")


def flux_parts(guidance: bool = True, in_channels: int = 64) -> dict[str, Any]:
    """The parts of FLUX.1; those of its models distilled for guidance are told the guidance's scale."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=64,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance,
        **_FLUX_SIZE,
    )
    return {
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(**(_DYNAMIC_SHIFT if guidance else {"shift": 1.0})),
        "vae": flow_vae(0.3611, 0.1159),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": t5_tokenizer(),
    }


@kind
def flux_dev(folder: Path) -> None:
    from diffusers import FluxPipeline

    FluxPipeline(**flux_parts()).save_pretrained(folder)


@kind
def flux_schnell(folder: Path) -> None:
    from diffusers import FluxPipeline

    FluxPipeline(**flux_parts(guidance=False)).save_pretrained(folder)


@kind
def flux_kontext(folder: Path) -> None:
    from diffusers import FluxKontextPipeline

    FluxKontextPipeline(**flux_parts()).save_pretrained(folder)


@kind
def flux_fill(folder: Path) -> None:
    from diffusers import FluxFillPipeline

    FluxFillPipeline(**flux_parts(in_channels=384)).save_pretrained(folder)


@kind
def chroma(folder: Path) -> None:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    transformer = ChromaTransformer2DModel(
        in_channels=64,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
        **_FLUX_SIZE,
    )
    pipeline: Any = ChromaPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**_DYNAMIC_SHIFT),
        vae=flow_vae(0.3611, 0.1159),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )
    pipeline.save_pretrained(folder)


def _flux2_parts(guidance: bool) -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        in_channels=128,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
        **{**_FLUX_SIZE, "joint_attention_dim": 96},  # three of the text encoder's layers
    )
    return {
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": flux2_vae(),
        "tokenizer": chat_tokenizer(),
    }


@kind
def flux2_dev(folder: Path) -> None:
    from diffusers import Flux2Pipeline

    Flux2Pipeline(**_flux2_parts(guidance=True), text_encoder=mistral3()).save_pretrained(folder)


@kind
def flux2_klein(folder: Path) -> None:
    from diffusers import Flux2KleinPipeline

    encoder = qwen3(layers=28, causal=True)
    Flux2KleinPipeline(**_flux2_parts(guidance=False), text_encoder=encoder).save_pretrained(folder)
