"""Each architecture against its own pipeline: one call of the network is one step of the pipeline's sampler."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.loading import load_network
from pds_nerfstudio.guidance.networks.network import LooksAtSource, Network, Prompt
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.pipeline import pack, unpack

CPU = torch.device("cpu")
SIDE = 64
PROMPT = "a photo of a man in a park"
FLOWS: dict[str, dict[str, Any]] = {
    "sd3": dict(guidance_scale=0.0),
    "sd35_medium": dict(guidance_scale=0.0),
    "sd3_no_t5": dict(guidance_scale=0.0),
    "flux_dev": dict(guidance_scale=3.5),
    "flux_schnell": dict(guidance_scale=3.5),
    "flux_kontext": dict(guidance_scale=2.5, max_area=SIDE**2, _auto_resize=False),
    "chroma": dict(guidance_scale=1.0),
    "flux2_dev": dict(guidance_scale=4.0),
    "flux2_klein": dict(guidance_scale=1.0),
    "z_image": dict(guidance_scale=0.0),
    "qwen_image": dict(true_cfg_scale=1.0),
    "qwen_image_edit": dict(true_cfg_scale=1.0),
    "sana_euler": dict(guidance_scale=1.0, use_resolution_binning=False),
    "lumina2": dict(guidance_scale=1.0),
}
DIFFUSIONS: dict[str, dict[str, Any]] = {
    "sdxl": dict(guidance_scale=1.0),
    "sdxl_ip2p": dict(guidance_scale=1.0, image_guidance_scale=1.0),
    "sdxl_inpaint": dict(guidance_scale=1.0, strength=1.0),
    "sd_ip2p": dict(guidance_scale=1.0, image_guidance_scale=0.0),
    "sd_inpaint": dict(guidance_scale=1.0, strength=1.0),
    "pixart_sigma": dict(guidance_scale=1.0, use_resolution_binning=False),
}
PACKED = ("flux_dev", "flux_schnell", "flux_kontext", "chroma", "qwen_image", "qwen_image_edit")


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_network(str(folder), lambda half: LoadOptions(CPU, dtype, dtype))


def random_picture() -> Tensor:
    pixels = torch.randint(0, 256, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    return pixels.float() / 255


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy())


def run_pipeline(network: Any, kind: str, z: Tensor, scheduler: Any, options: dict[str, Any]) -> Tensor:
    """What the model's own pipeline makes of a latent in one step, as a latent."""
    pipeline = network._pipeline
    pipeline.scheduler = scheduler
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(network, LooksAtSource):
        options = {**options, "image": as_pil(random_picture())}
    if "inpaint" in kind:
        grey = network.encode(torch.full((1, 3, SIDE, SIDE), 0.5))  # else the pipeline draws a sample of it
        options |= {"mask_image": Image.new("L", (SIDE, SIDE), 255), "masked_image_latents": grey}
    if "ip2p" not in kind or kind.startswith("sdxl"):
        options = {"height": SIDE, "width": SIDE, **options}
    given = pack(z) if kind in PACKED else z.clone()
    with quiet_libraries(progress_bars=False):
        answer: Tensor = pipeline(
            prompt=PROMPT, num_inference_steps=1, latents=given, output_type="latent", **options
        ).images
    if kind == "flux2_klein":  # whose pipeline takes the statistics and the patches off
        coder = network._autoencoder
        return (torch.nn.functional.pixel_unshuffle(answer, 2) - coder._shift) * coder._scale
    if kind == "flux2_dev":
        return answer.transpose(1, 2).reshape(z.shape)
    return unpack(answer, z) if kind in PACKED else answer


@pytest.fixture
def own_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen-Image-Edit's pipeline takes pictures of a megapixel: here of the test's size."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: (SIDE, SIDE, None))


def ask(network: Any, z: Tensor, time: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    condition = network.condition(prompts)
    if isinstance(network, LooksAtSource):
        answer: Tensor = network.predict_beside(z, time, condition, network.encode(random_picture()))
        return answer
    answer = network.predict(z, time, condition)
    return answer


def noisy(network: Any) -> Tensor:
    side = SIDE // network.vae_scale_factor
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, network.latent_channels, side, side, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("kind", FLOWS)
def test_a_call_is_a_step_of_a_flows_pipeline(
    kind: str, tiny_model: Callable[[str], Path], own_sizes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    network = load(tiny_model(kind))
    assert isinstance(network, Network)
    if kind == "qwen_image_edit":  # whose text encoder is shown what the autoencoder makes of the source
        monkeypatch.setattr(network, "decode", lambda latents: random_picture())
    z = noisy(network)
    velocity = ask(network, z, torch.tensor([0.7]), [PROMPT])
    options = {**FLOWS[kind], "sigmas": [0.7]}
    stepped = run_pipeline(network, kind, z, FlowMatchEulerDiscreteScheduler(), options)
    torch.testing.assert_close(stepped, z - 0.7 * velocity, rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", DIFFUSIONS)
def test_a_call_is_a_step_of_a_diffusions_pipeline(kind: str, tiny_model: Callable[[str], Path]) -> None:
    from diffusers import DDIMScheduler

    network = load(tiny_model(kind))
    scheduler = DDIMScheduler.from_config(
        network._pipeline.scheduler.config, steps_offset=500, timestep_spacing="leading", clip_sample=False
    )
    z = noisy(network)
    noise = ask(network, z, torch.tensor([500]), [PROMPT])
    power = scheduler.alphas_cumprod[500]
    stepped = run_pipeline(network, kind, z, scheduler, DIFFUSIONS[kind])
    torch.testing.assert_close(stepped, (z - (1 - power).sqrt() * noise) / power.sqrt(), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", [*FLOWS, *DIFFUSIONS])
def test_answers_do_not_depend_on_what_else_is_asked(kind: str, tiny_model: Callable[[str], Path]) -> None:
    network = load(tiny_model(kind))
    z, time = noisy(network), torch.tensor([0.7] if kind in FLOWS else [500])
    together = ask(network, z, time, [PROMPT, "a clown"])
    for answer, prompt in zip(together, [PROMPT, "a clown"], strict=True):
        torch.testing.assert_close(answer[None], ask(network, z, time, [prompt]), rtol=0, atol=2e-5)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [*FLOWS, *DIFFUSIONS])
def test_gradients_are_finite(kind: str, dtype: str, tiny_model: Callable[[str], Path]) -> None:
    network = load(tiny_model(kind), getattr(torch, dtype))
    guidance = Guidance(GuidanceConfig(resolution=SIDE, localize=0.5), Denoiser(network))
    guidance.set_prompts(PROMPT, "a photo of a clown in a park")
    image = random_picture()
    gradient, output = guidance.image_gradient(image.flip(3), image, 0.5, keys=["view"])
    assert bool(output.finite) and bool(gradient.isfinite().all()) and gradient.abs().max() > 0
