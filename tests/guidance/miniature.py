"""A Stable Diffusion pipeline in miniature: the real architecture, few and random weights."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks import assembly
from pds_nerfstudio.guidance.networks.card import card_of_folder
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.stable_diffusion import StableDiffusion

MAX_TOKENS = 16

needs_a_compiler = pytest.mark.skipif(
    not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))),
    reason="PyTorch compiles for a CPU by a C++ compiler, and there is none (Debian and Ubuntu: apt-get install g++)",
)
"""Marks tests of networks that are compiled."""


def save_tokenizer(folder: Path) -> int:
    """Write a CLIP tokenizer of all bytes and the words 'cat' and 'dog'; returns its vocabulary's size."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(code) for code in [*printable, *range(256, 256 + len(others))]]
    merges = ["c a", "ca t</w>", "d o", "do g</w>"]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(m.replace(" ", "") for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    return len(tokens)


def save_pipeline(folder: Path, scheduler_options: dict[str, Any], unet_options: dict[str, Any]) -> Path:
    """Save a pipeline with 32-pixel images: latents of 4 × 16 × 16 and a UNet that halves them once."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    vocabulary_size = save_tokenizer(folder / "spelling")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "spelling", model_max_length=MAX_TOKENS)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
    )
    unet = UNet2DConditionModel(
        **{
            "sample_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
            "norm_num_groups": 4,
            **unet_options,
        }
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        **scheduler_options,
    )
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "spelling")
    return folder


def save_aura_flow(folder: Path) -> Path:
    """Save an AuraFlow pipeline for 32-pixel images: latents of 4 × 16 × 16."""
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler
    from transformers import UMT5Config, UMT5EncoderModel

    from tests.guidance.networks.tiny.parts import t5_tokenizer

    torch.manual_seed(0)
    text = UMT5Config(vocab_size=128, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    pipeline: Any = AuraFlowPipeline(
        transformer=AuraFlowTransformer2DModel(
            sample_size=16,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=16,
            caption_projection_dim=32,
            pos_embed_max_size=256,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
        vae=AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=32,
        ),
        text_encoder=UMT5EncoderModel(text),
        tokenizer=t5_tokenizer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def network_of(denoiser: Denoiser) -> StableDiffusion:
    """The network of a denoiser, whose inside a test looks at."""
    assert isinstance(denoiser.network, StableDiffusion)
    return denoiser.network


def load_pipeline(folder: Path) -> Any:
    """The pipeline in a folder, in float32."""
    options = LoadOptions(torch.device("cpu"), torch.float32, torch.float32)
    return assembly.load_pipeline(card_of_folder(folder), options)
