"""Time a step of guidance, beside one written as the published implementation does it.

python scripts/speed_guidance.py                      # on a GPU: Stable Diffusion 1.5 and 2.1, random weights
python scripts/speed_guidance.py --models toyworld    # the embedded model, on a CPU too

A step here is what every editor pays for: from the image to the gradient on the image. The figure that counts is the
ratio to the published step of the same run.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import tyro
from random_models import random_pipeline
from rich.console import Console
from rich.table import Table
from speed_timing import machine, matmul_peak, median_milliseconds, peak_memory_gb, reset_peak_memory, synchronize
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pds_nerfstudio.guidance.config import GuidanceConfig, resolve_dtypes
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.assembly import load_pipeline
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL, find_card
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.stable_diffusion import StableDiffusion

Model = Literal["sd15", "sd21", "toyworld"]
Variant = Literal["published", "float32", "bfloat16", "float16", "mixed", "compiled"]

PROMPTS = ("a photo of a man in a blue shirt", "a photo of a man in a red shirt")
_TIMES_FOR_ERROR = (50, 250, 500, 750, 950)


@dataclass
class Measurement:
    """What a step of one variant costs; times in milliseconds."""

    model: str
    variant: str
    step: float
    """Median."""
    encode: float | None
    """Of it: image to latent, with a graph."""
    unet: float | None
    """Of it: one call for both branches and both halves of the guidance."""
    encode_backward: float | None
    """Of it: gradient on the latent to gradient on the image."""
    speedup: float
    """Over the published step."""
    tflop: float
    """Operations in a step."""
    share_of_peak: float
    """Operations a second over those of a large matrix product in the same number format."""
    memory_gb: float
    """Peak, weights included; on a CPU that of the process so far."""
    seconds_to_first: float
    """Until the first step was done, compilation included."""
    error: float | None
    """‖g − g_float32‖ / ‖g_float32‖ over some times t, of the gradient on the latent."""


@dataclass
class GuidanceSpeed:
    """Which steps of guidance are timed."""

    models: tuple[Model, ...] = ("sd15", "sd21")
    """Stable Diffusion 1.5 and 2.1 are built with random weights; toyworld is the embedded model."""
    variants: tuple[Variant, ...] = ("published", "float32", "bfloat16", "mixed", "compiled")
    """published: as the published code does it. float32, bfloat16, float16, mixed: this package's in these precisions,
    uncompiled. compiled: compiled, in the precision that is the default there."""
    size: int = 0
    """Side of the images in pixels; 0 is the model's own."""
    batch: int = 1
    """Views a step."""
    steps: int = 40
    """Steps that are timed."""
    warm_up: int = 5
    """Steps before that."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to run."""
    out: Path = Path("outputs/speed-guidance.json")
    """Where the figures go."""

    def run(self) -> None:
        """Measure, print the table, and write it down."""
        torch.backends.cudnn.benchmark = True  # as ns-train does
        device = torch.device(self.device)
        peaks: dict[torch.dtype, float] = {}
        measurements: list[Measurement] = []
        for model in self.models:
            published: float | None = None
            reference: Tensor | None = None
            for variant in sorted(self.variants, key=lambda v: v not in ("published", "float32")):
                dtype, _ = _dtypes(variant, device)
                if dtype not in peaks:
                    peaks[dtype] = matmul_peak(device, dtype)
                measurement, gradients = self._measure(model, variant, device, peaks[dtype])
                published = measurement.step if variant == "published" else published
                reference = gradients if variant == "float32" else reference
                measurement.speedup = published / measurement.step if published else float("nan")
                if reference is not None and gradients is not None and variant != "float32":
                    measurement.error = float((gradients - reference).norm() / reference.norm())
                measurements.append(measurement)
                gc.collect()
        self._show(measurements, device, peaks)

    def _measure(
        self, model: Model, variant: Variant, device: torch.device, peak: float
    ) -> tuple[Measurement, Tensor | None]:
        """Return one row, and the gradients on the latent that the others are compared with."""
        reset_peak_memory(device)
        step: Callable[[Tensor, Tensor], Tensor]
        if variant == "published":
            guidance, step = None, PublishedStep(model, device)
            side = self.size or step.resolution
        else:
            guidance = _guidance(model, _dtypes(variant, device), device, variant == "compiled", self.size)
            step = editors_step(guidance)
            side = self.size or guidance.denoiser.resolution
        rng = torch.Generator().manual_seed(0)
        source, image = (torch.rand(self.batch, 3, side, side, generator=rng).to(device) for _ in range(2))
        image = torch.lerp(source, image, 0.3).requires_grad_()
        began = time.monotonic()
        step(image, source)
        synchronize(device)
        first = time.monotonic() - began
        milliseconds = median_milliseconds(lambda: step(image, source), device, self.steps, self.warm_up)
        memory = peak_memory_gb(device)
        parts = self._parts(guidance.denoiser, image, device) if guidance else (None, None, None)
        gradients = _gradients(guidance.denoiser, guidance, image, source) if guidance else None
        tflop = self._count(model, variant, device, image, source, step) / 1e12
        return Measurement(
            model=model,
            variant=variant,
            step=milliseconds,
            encode=parts[0],
            unet=parts[1],
            encode_backward=parts[2],
            speedup=1.0,
            tflop=tflop,
            share_of_peak=1e15 * tflop / milliseconds / peak,
            memory_gb=memory,
            seconds_to_first=first,
            error=None,
        ), gradients

    def _parts(self, denoiser: Denoiser, image: Tensor, device: torch.device) -> tuple[float, float, float]:
        """Return milliseconds of encoding, of the UNet, and of encoding's backward pass."""

        def timed(function: Callable[[], object]) -> float:
            return median_milliseconds(function, device, self.steps, self.warm_up)

        latent = denoiser.encode_image(image).detach()
        x, weight = latent.repeat(2, 1, 1, 1), torch.randn_like(latent)
        t = torch.full((len(x),), 500, device=device)
        text = denoiser.encode_prompts([*PROMPTS, "", ""]).repeat_interleave(self.batch, dim=0)
        encode = timed(lambda: denoiser.encode_image(image))
        both = timed(lambda: torch.autograd.grad(denoiser.encode_image(image), image, weight))
        return encode, timed(lambda: denoiser.predict_noise(x, t, text)), both - encode

    def _count(
        self, model: Model, variant: Variant, device: torch.device, image: Tensor, source: Tensor, step: Any
    ) -> float:
        """Return the operations in a step; those of a compiled one are the uncompiled one's."""
        if variant == "compiled":
            step = editors_step(_guidance(model, _dtypes(variant, device), device, False, self.size))
        step(image, source)  # the source's latent is known from here on
        with FlopCounterMode(display=False) as counter:
            step(image, source)
        return float(counter.get_total_flops())

    def _show(self, measurements: list[Measurement], device: torch.device, peaks: dict[torch.dtype, float]) -> None:
        rates = ", ".join(f"{str(dtype)[6:]} {peak / 1e12:.3g}" for dtype, peak in peaks.items())
        title = f"{machine(device)}, torch {torch.__version__}; matrix products, TFLOP/s: {rates}"
        headings = "model variant ms encode UNet backward speed-up TFLOP peak GB first-s error".split()
        table = Table(*headings, title=title)
        for m in measurements:
            numbers = (m.step, m.encode, m.unet, m.encode_backward)
            table.add_row(
                *(m.model, m.variant, *("" if n is None else f"{n:.1f}" for n in numbers)),
                *(f"{m.speedup:.2f}×", f"{m.tflop:.3g}", f"{100 * m.share_of_peak:.0f} %"),
                *(f"{m.memory_gb:.2f}", f"{m.seconds_to_first:.1f}", "" if m.error is None else f"{m.error:.1e}"),
            )
        Console(width=140).print(table)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {
            "machine": machine(device),
            "torch": torch.__version__,
            "batch": self.batch,
            "matmul_flops": {str(dtype): peak for dtype, peak in peaks.items()},
            "measurements": [asdict(m) for m in measurements],
        }
        self.out.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"Wrote {self.out}")


def _dtypes(variant: Variant, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Return the number formats of the UNet and of the VAE."""
    return resolve_dtypes({"published": "float32", "compiled": "auto"}.get(variant, variant), device)


def _pipeline(model: Model, device: torch.device) -> Any:
    if model == "toyworld":
        return load_pipeline(find_card(EMBEDDED_MODEL), LoadOptions(device, torch.float32, torch.float32))
    with torch.device(device):
        return random_pipeline(model)


def _guidance(
    model: Model, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device, compiled: bool, resolution: int
) -> Guidance:
    pipeline = _pipeline(model, device)
    parts = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}
    network = StableDiffusion(**parts, device=device, dtype=dtypes[0], compiled=compiled, vae_dtype=dtypes[1])
    guidance = Guidance(GuidanceConfig(resolution=resolution), Denoiser(network))
    guidance.set_prompts(*PROMPTS)
    return guidance


def editors_step(guidance: Guidance) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function from images and their sources to the gradient on the images."""

    def step(image: Tensor, source: Tensor) -> Tensor:
        loss = guidance(image, source, 0.5, keys=list(range(len(image)))).loss
        return torch.autograd.grad(loss, image)[0]

    return step


@torch.no_grad()
def _gradients(denoiser: Denoiser, guidance: Guidance, image: Tensor, source: Tensor) -> Tensor:
    """Return the gradients on the latent at some times, for noise that all variants share."""
    target, before = denoiser.encode_image(image), denoiser.encode_image(source)
    rng = torch.Generator().manual_seed(1)
    gradients = []
    for time_step in _TIMES_FOR_ERROR:
        noise = torch.randn(target.shape, generator=rng).to(target)
        t = torch.full((len(target),), time_step, device=denoiser.device)
        terms = guidance.gradient_terms(target, before, t, noise)
        gradients.append(terms.text + terms.identity)
    return torch.stack(gradients)


class PublishedStep:
    """A step as the published implementation takes it, for comparison.

    Single precision, the VAE's posterior sampled for source and target at every step, a call of the UNet for each
    branch, and its graph built and dropped.

    Args:
        model: Which.
        device: Where to run it.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        pipeline = _pipeline(model, device)
        parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
        self._unet, self._vae, text_encoder = (part.to(device).float().eval().requires_grad_(False) for part in parts)
        self.resolution = self._unet.config.sample_size * 2 ** (len(self._vae.config.block_out_channels) - 1)
        tokens = pipeline.tokenizer(
            [PROMPTS[0], "", PROMPTS[1], ""], padding="max_length", truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            self._text = text_encoder(tokens.input_ids.to(device))[0]
        self._alphas = pipeline.scheduler.alphas_cumprod.to(device)
        self._guidance_scale = 7.5

    def __call__(self, image: Tensor, source: Tensor) -> Tensor:
        """Return the gradient on the image."""
        before, after = (self._encode(picture) for picture in (source, image))
        t = torch.randint(20, 980, (1,), device=image.device)
        noise = torch.randn_like(before)
        predictions = [
            self._predict(latent, noise, t, text)
            for latent, text in ((before, self._text[:2]), (after, self._text[2:]))
        ]
        gradient = 0.1 * (predictions[1] - predictions[0]) + 0.1 * (after - before)
        loss = 0.5 * F.mse_loss(after, (after - gradient).detach(), reduction="sum")
        return torch.autograd.grad(loss, image)[0]

    def _encode(self, picture: Tensor) -> Tensor:
        return self._vae.encode(picture * 2 - 1).latent_dist.sample() * self._vae.config.scaling_factor

    def _predict(self, latent: Tensor, noise: Tensor, t: Tensor, text: Tensor) -> Tensor:
        alpha_bar = self._alphas[t][:, None, None, None]
        noisy = alpha_bar.sqrt() * latent + (1 - alpha_bar).sqrt() * noise
        text = text.repeat_interleave(len(latent), dim=0)
        conditional, unconditional = self._unet(noisy.repeat(2, 1, 1, 1), t, text).sample.chunk(2)
        return unconditional + self._guidance_scale * (conditional - unconditional)


if __name__ == "__main__":
    tyro.cli(GuidanceSpeed).run()
