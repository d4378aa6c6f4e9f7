"""Build Stable Diffusion's architectures with random weights, to measure what they cost without a download.

python scripts/random_models.py --architecture sd15 --out outputs/sd15-random

The time and memory of a step don't depend on the weights. Pictures made with them show nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL, find_model

Architecture = Literal["sd15", "sd21"]

_UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
}
_TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "sd15": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "sd21": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
}
_PREDICTIONS = {"sd15": "epsilon", "sd21": "v_prediction"}


def random_pipeline(architecture: Architecture) -> Any:
    """Return a diffusers pipeline for 512 × 512 pictures, the same at each call, on torch's present default device.

    Everything is the architecture's own but the weights, and the tokenizer, which is the embedded model's.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=64, **_UNETS[architecture])
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **_TEXT_ENCODERS[architecture]))
    tokenizer = CLIPTokenizer.from_pretrained(find_model(EMBEDDED_MODEL) / "tokenizer", model_max_length=77)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type=_PREDICTIONS[architecture],
    )
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@dataclass
class RandomModel:
    """A model of random weights (some 2 GB), to write as a folder for --pipeline.guidance.model."""

    out: Path
    """The folder."""
    architecture: Architecture = "sd15"
    """Stable Diffusion 1.5 or 2.1."""

    def write(self) -> Path:
        """Write it, if it isn't there yet, and return the folder."""
        if not (self.out / "model_index.json").exists():
            random_pipeline(self.architecture).to(torch.float16).save_pretrained(self.out)
        return self.out


if __name__ == "__main__":
    print(tyro.cli(RandomModel).write())
