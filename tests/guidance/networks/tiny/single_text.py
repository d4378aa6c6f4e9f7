"""Transformers under one large text encoder: PixArt, Sana, Lumina 2, Z-Image and Qwen-Image."""

from pathlib import Path
from typing import Any

from tests.guidance.networks.tiny.parts import (
    CHAT_TEMPLATE,
    chat_tokenizer,
    flow_vae,
    gemma2,
    gemma_tokenizer,
    kl_vae,
    qwen3,
    qwen_vl,
    t5,
    t5_tokenizer,
)
from tests.guidance.networks.tiny.registry import kind
from tests.guidance.networks.tiny.sd import scheduler


@kind
def pixart_sigma(folder: Path) -> None:
    from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=32,
    )
    pipeline: Any = PixArtSigmaPipeline(
        transformer=transformer,
        vae=kl_vae(scaling=0.13025),
        scheduler=scheduler("DPMSolverMultistepScheduler"),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )
    pipeline.save_pretrained(folder)


def _deep_compression_vae() -> Any:
    from diffusers import AutoencoderDC

    blocks = ("ResBlock",) * 6
    return AutoencoderDC(
        in_channels=3,
        latent_channels=32,
        attention_head_dim=4,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8, 8, 8, 8, 32),
        decoder_block_out_channels=(8, 8, 8, 8, 8, 32),
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        scaling_factor=0.41407,
    )


def _save_sana(folder: Path, flow: Any) -> None:
    from diffusers import SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        patch_size=1,
        in_channels=32,
        out_channels=32,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=8,
    )
    pipeline: Any = SanaPipeline(
        transformer=transformer,
        vae=_deep_compression_vae(),
        scheduler=flow,
        text_encoder=gemma2(),
        tokenizer=gemma_tokenizer(),
    )
    pipeline.save_pretrained(folder)


@kind
def sana(folder: Path) -> None:
    from diffusers import DPMSolverMultistepScheduler

    flow = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    _save_sana(folder, flow)


@kind
def sana_euler(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    _save_sana(folder, FlowMatchEulerDiscreteScheduler(shift=3.0))


@kind
def lumina2(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(300, 64, 64),
        cap_feat_dim=32,
    )
    pipeline: Any = Lumina2Pipeline(
        transformer=transformer,
        vae=flow_vae(0.3611, 0.1159),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        text_encoder=gemma2(),
        tokenizer=gemma_tokenizer(),
    )
    pipeline.save_pretrained(folder)


@kind
def z_image(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from torch.nn import init

    transformer: Any = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[1536, 64, 64],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):  # which are made of unset memory
        init.ones_(token)
    pipeline: Any = ZImagePipeline(
        transformer=transformer,
        vae=flow_vae(0.3611, 0.1159),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=qwen3(),
        tokenizer=chat_tokenizer(),
    )
    pipeline.save_pretrained(folder)


def _qwen_image_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(8, 4, 4),
    )
    shift = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        shift=1.0,
        base_shift=0.5,
        max_shift=0.9,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )
    return {
        "transformer": transformer,
        "vae": AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1),
        "scheduler": shift,
        "text_encoder": qwen_vl(),
        "tokenizer": chat_tokenizer(),
    }


@kind
def qwen_image(folder: Path) -> None:
    from diffusers import QwenImagePipeline

    QwenImagePipeline(**_qwen_image_parts()).save_pretrained(folder)


@kind
def qwen_image_edit(folder: Path) -> None:
    from diffusers import QwenImageEditPipeline
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    parts = _qwen_image_parts()
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=parts["tokenizer"],
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    QwenImageEditPipeline(**parts, processor=processor).save_pretrained(folder)
