"""What a step of an edit costs with each architecture: time, memory, and the share of the machine's matrix speed.

python scripts/speed_models.py --models sdxl flux1 --compile on --out models.json

The networks are of the real sizes and have random weights: time and memory don't depend on them, and nothing is
downloaded. Prompts are random embeddings of the real sizes: text encoders, which run once a prompt, are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import diffusers
import torch
import tyro
from random_models import random_pipeline
from speed_timing import machine, matmul_peak, median_milliseconds, peak_memory_gb, reset_peak_memory
from torch.utils.flop_counter import FlopCounterMode

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.flux import Flux
from pds_nerfstudio.guidance.networks.flux_2 import Flux2
from pds_nerfstudio.guidance.networks.network import Network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.pipeline import Embedding
from pds_nerfstudio.guidance.networks.stable_diffusion import StableDiffusion
from pds_nerfstudio.guidance.networks.stable_diffusion_3 import StableDiffusion3
from pds_nerfstudio.guidance.networks.unets import StableDiffusionXL
from pds_nerfstudio.guidance.networks.z_image import ZImage

Model = Literal["sd15", "sdxl", "sd35m", "flux1", "klein", "z_image"]
PROMPTS = ("a photo of a man", "a photo of a clown")


@dataclass
class SpeedOfModels:
    """Measure a step of PDS on a picture of each model's own size."""

    models: tuple[Model, ...] = ("sd15", "sdxl", "sd35m", "klein", "flux1")
    """Stable Diffusion 1.5, XL and 3.5 medium, FLUX.1 dev, FLUX.2 klein 4B, Z-Image."""
    compile: Literal["on", "off"] = "off"
    """Whether networks are compiled."""
    repeats: int = 5
    """Steps whose median counts."""
    device: str = "cuda"
    """Where to run."""
    out: Path = Path("speed_models.json")
    """The figures; written after each model."""

    def run(self) -> None:
        """Measure, print and write down."""
        device, rows = torch.device(self.device), []
        peak = matmul_peak(device, torch.bfloat16)
        print(f"{machine(device)}: {peak / 1e12:.0f} TFLOP/s in a large product of bfloat16 matrices", flush=True)
        for model in self.models:
            reset_peak_memory(device)
            row = {"model": model, "compile": self.compile, **self._measure(model, device, peak)}
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
            figures = {"machine": machine(device), "matmul_tflops": peak / 1e12, "rows": rows}
            self.out.write_text(json.dumps(figures, indent=1) + "\n")

    def _measure(self, model: Model, device: torch.device, peak: float) -> dict[str, Any]:
        network = NETWORKS[model](device, self.compile == "on")
        guidance = Guidance(GuidanceConfig(), Denoiser(network))
        guidance.set_prompts(*PROMPTS)
        side = network.resolution
        image, source = torch.rand(2, 1, 3, side, side, device=device)

        def step() -> object:
            return guidance.image_gradient(image, source, 0.5, keys=["view"])

        with FlopCounterMode(display=False) as counter:
            eager = self.compile == "off"
            if eager:
                step()
        ms = median_milliseconds(step, device, self.repeats, warm_up=3)
        tflop = counter.get_total_flops() / 1e12
        row = {"side": side, "ms": round(ms, 1), "GB": round(peak_memory_gb(device), 1)}
        return {**row, "TFLOP": round(tflop, 1), "share_of_peak": round(1e15 * tflop / ms / peak, 3)} if eager else row


def _vae(kind: str = "AutoencoderKL", **options: Any) -> Any:
    blocks = dict(down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    widths = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    return getattr(diffusers, kind)(**blocks, **widths, **options)


def _build(
    network: Callable[..., Any],
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool,
    embedding: Embedding,
    **parts: Any,
) -> Network:
    """Return a network of parts, with random embeddings in place of what text encoders would say."""
    pipeline = SimpleNamespace(config={}, default_sample_size=128, **parts)
    made: Network = network(pipeline, LoadOptions(device, dtype, torch.bfloat16, compiled))
    for prompt in (*PROMPTS, None):
        drawn = {name: torch.randn_like(x) for name, x in embedding.items()}
        made._embeddings.put((prompt,), drawn)  # type: ignore[attr-defined]
    return made


class _Default:
    """Makes modules on a device and in a dtype from the start: there is no memory for a copy in float32."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = torch.device(device), dtype

    def __enter__(self) -> Callable[..., torch.Tensor]:
        torch.set_default_dtype(self._dtype)
        self._device.__enter__()
        return lambda *shape: torch.zeros(1, *shape)

    def __exit__(self, *error: object) -> None:
        self._device.__exit__(*error)
        torch.set_default_dtype(torch.float32)


def _sd15(device: torch.device, compiled: bool) -> Network:
    with torch.device(device):
        pipeline = random_pipeline("sd15")
    parts = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}
    return StableDiffusion(**parts, device=device, dtype=torch.float16, vae_dtype=torch.bfloat16, compiled=compiled)


def _sdxl(device: torch.device, compiled: bool) -> Network:
    with _Default(device, torch.float16) as zeros:
        unet = diffusers.UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2, 10),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        vae = _vae(latent_channels=4, scaling_factor=0.13025)
        embedding = {"encoder_hidden_states": zeros(77, 2048), "text_embeds": zeros(1280)}
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler = diffusers.EulerDiscreteScheduler(**betas)
    return _build(
        StableDiffusionXL, device, torch.float16, compiled, embedding, unet=unet, vae=vae, scheduler=scheduler
    )


def _sd35m(device: torch.device, compiled: bool) -> Network:
    with _Default(device, torch.float16) as zeros:
        transformer = diffusers.SD3Transformer2DModel(
            sample_size=128,
            in_channels=16,
            out_channels=16,
            num_layers=24,
            num_attention_heads=24,
            caption_projection_dim=1536,
            pos_embed_max_size=384,
            dual_attention_layers=tuple(range(13)),
            qk_norm="rms_norm",
        )
        vae = _vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609)
        embedding = {"encoder_hidden_states": zeros(333, 4096), "pooled_projections": zeros(2048)}
    parts = dict(transformer=transformer, vae=vae, scheduler=None)
    return _build(StableDiffusion3, device, torch.float16, compiled, embedding, **parts)


def _flux1(device: torch.device, compiled: bool) -> Network:
    with _Default(device, torch.bfloat16) as zeros:
        transformer = diffusers.FluxTransformer2DModel(guidance_embeds=True)
        vae = _vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
        embedding = {"encoder_hidden_states": zeros(512, 4096), "pooled_projections": zeros(768)}
    return _build(Flux, device, torch.bfloat16, compiled, embedding, transformer=transformer, vae=vae, scheduler=None)


def _klein(device: torch.device, compiled: bool) -> Network:
    with _Default(device, torch.bfloat16) as zeros:
        transformer = diffusers.Flux2Transformer2DModel(
            num_layers=5,
            num_single_layers=20,
            num_attention_heads=24,
            joint_attention_dim=7680,
            guidance_embeds=False,
        )
        vae = _vae("AutoencoderKLFlux2")
        embedding = {"encoder_hidden_states": zeros(512, 7680)}
    return _build(Flux2, device, torch.bfloat16, compiled, embedding, transformer=transformer, vae=vae, scheduler=None)


def _z_image(device: torch.device, compiled: bool) -> Network:
    with _Default(device, torch.bfloat16):
        transformer = diffusers.ZImageTransformer2DModel()
        vae = _vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
        embedding = {"tokens": torch.zeros(64, 2560)}
    return _build(ZImage, device, torch.bfloat16, compiled, embedding, transformer=transformer, vae=vae, scheduler=None)


NETWORKS: dict[Model, Callable[[torch.device, bool], Network]] = {
    "sd15": _sd15,
    "sdxl": _sdxl,
    "sd35m": _sd35m,
    "flux1": _flux1,
    "klein": _klein,
    "z_image": _z_image,
}


if __name__ == "__main__":
    tyro.cli(SpeedOfModels).run()
