"""What a step of an edit costs with each architecture: time, memory, and the share of the machine's matrix speed.

python scripts/speed_models.py --models sdxl flux1 --compile on --out models.json
python scripts/speed_models.py --models flux1 --offload --out offloaded.json

The networks are of the real sizes and have random weights: time and memory don't depend on them, and nothing is
downloaded. Prompts are random embeddings of the real sizes: text encoders, which run once a prompt, are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from pds_nerfstudio.guidance.networks.pipeline import PipelineNetwork
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
    offload: bool = False
    """Whether the networks' weights visit the GPU layer by layer, as with the guidance's option of that name."""
    resolution: int = 0
    """Side of the square picture, in pixels; 0 is the side that the model was trained with."""
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
            row = {"model": model, "compile": self.compile, "offload": self.offload}
            row |= self._measure(model, device, peak)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
            figures = {"machine": machine(device), "matmul_tflops": peak / 1e12, "rows": rows}
            self.out.write_text(json.dumps(figures, indent=1) + "\n")

    def _measure(self, model: Model, device: torch.device, peak: float) -> dict[str, Any]:
        network = random_network(model, device, self.compile == "on", self.offload)
        reset_peak_memory(device)
        guidance = Guidance(GuidanceConfig(), Denoiser(network))
        guidance.set_prompts(*PROMPTS)
        side = self.resolution or network.resolution
        image, source = torch.rand(2, 1, 3, side, side, device=device)

        def step() -> object:
            return guidance.image_gradient(image, source, 0.5, keys=["view"])

        ms = median_milliseconds(step, device, self.repeats, warm_up=3)
        memory = peak_memory_gb(device)
        with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
            step()  # A compiled network's products can't be counted.
        tflop = counter.get_total_flops() / 1e12
        share = 1e15 * tflop / ms / peak
        return {"side": side, "ms": round(ms, 1), "GB": round(memory, 1), "TFLOP": round(tflop, 1),
                "share_of_peak": round(share, 3)}  # fmt: skip


def _vae(kind: str = "AutoencoderKL", **options: Any) -> Any:
    blocks = dict(down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    widths = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    return getattr(diffusers, kind)(**blocks, **widths, **options)


def _sdxl() -> dict[str, Any]:
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
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return dict(unet=unet, vae=vae, scheduler=diffusers.EulerDiscreteScheduler(**betas))


def _sd35m() -> dict[str, Any]:
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
    return dict(transformer=transformer, vae=_vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609))


def _flux1() -> dict[str, Any]:
    transformer = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    return dict(transformer=transformer, vae=_vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159))


def _klein() -> dict[str, Any]:
    transformer = diffusers.Flux2Transformer2DModel(
        num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
    )
    return dict(transformer=transformer, vae=_vae("AutoencoderKLFlux2"))


def _z_image() -> dict[str, Any]:
    vae = _vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
    return dict(transformer=diffusers.ZImageTransformer2DModel(), vae=vae)


@dataclass(frozen=True)
class Architecture:
    """A network of a real size."""

    network: type[PipelineNetwork]
    """What runs it."""
    dtype: torch.dtype
    """What it runs in."""
    parts: Callable[[], dict[str, Any]]
    """Makes the parts of its pipeline, with random weights."""
    embedding: dict[str, tuple[int, ...]]
    """Shapes of what its text encoders say of one prompt."""


ARCHITECTURES = {
    "sdxl": Architecture(
        StableDiffusionXL, torch.float16, _sdxl, {"encoder_hidden_states": (1, 77, 2048), "text_embeds": (1, 1280)}
    ),
    "sd35m": Architecture(
        StableDiffusion3,
        torch.float16,
        _sd35m,
        {"encoder_hidden_states": (1, 333, 4096), "pooled_projections": (1, 2048)},
    ),
    "flux1": Architecture(
        Flux, torch.bfloat16, _flux1, {"encoder_hidden_states": (1, 512, 4096), "pooled_projections": (1, 768)}
    ),
    "klein": Architecture(Flux2, torch.bfloat16, _klein, {"encoder_hidden_states": (1, 512, 7680)}),
    "z_image": Architecture(ZImage, torch.bfloat16, _z_image, {"tokens": (64, 2560)}),
}


def random_network(model: Model, device: torch.device, compiled: bool, offload: bool) -> Network:
    """Return a network with random weights, and random embeddings in place of what text encoders would say."""
    if model == "sd15":
        with torch.device(device):
            pipeline = random_pipeline("sd15")
        parts = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}
        return StableDiffusion(**parts, device=device, dtype=torch.float16, vae_dtype=torch.bfloat16, compiled=compiled)
    architecture = ARCHITECTURES[model]
    with _made_on(device, architecture.dtype):
        parts = {"scheduler": None, **architecture.parts()}
        drawn = {name: torch.randn(shape) for name, shape in architecture.embedding.items()}
    pipeline = SimpleNamespace(config={}, default_sample_size=128, **parts)
    options = LoadOptions(device, architecture.dtype, torch.bfloat16, compiled, offload=offload)
    network = architecture.network(pipeline, options)
    for prompt in (*PROMPTS, None):
        network._embeddings.put((prompt,), drawn)
    return network


@contextmanager
def _made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Have modules made on a device and in a dtype from the start: there is no memory for a copy in float32."""
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    tyro.cli(SpeedOfModels).run()
