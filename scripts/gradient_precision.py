"""How far the gradient of an edit is from float32's, in each precision and with each embedded model.

python scripts/gradient_precision.py --out precision.json

The same picture, times and noises; what is compared is the gradient on the image, and the step's text term alone, which
is the small difference of large predictions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODELS
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes, caption
from pds_nerfstudio.toyworld.renderer import orbit, render

PRECISIONS = {
    "float16": (torch.float16, torch.float16),
    "mixed": (torch.float16, torch.bfloat16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
}


@dataclass
class Precision:
    """Measure errors of the gradient."""

    models: tuple[str, ...] = tuple(EMBEDDED_MODELS)
    """Models to measure."""
    draws: int = 8
    """Times and noises, each a step."""
    seed: int = 0
    """Of times and noises."""
    device: str = "cpu"
    """Where to run."""
    out: Path = Path("precision.json")
    """The figures."""

    def run(self) -> None:
        """Measure, print and write down."""
        rows = []
        for model in self.models:
            exact = self._gradients(model, torch.float32, torch.float32)
            for name, dtypes in PRECISIONS.items():
                errors = {
                    what: round(float((got - exact[what]).norm() / exact[what].norm()), 5)
                    for what, got in self._gradients(model, *dtypes).items()
                }
                rows.append({"model": model, "precision": name, **errors})
                print(rows[-1], flush=True)
        self.out.write_text(json.dumps(rows, indent=1) + "\n")

    def _gradients(self, model: str, dtype: torch.dtype, vae_dtype: torch.dtype) -> dict[str, Tensor]:
        return gradients(
            Denoiser.from_pretrained(model, self.device, dtype, vae_dtype=vae_dtype), self.draws, self.seed
        )


def gradients(denoiser: Denoiser, draws: int, seed: int) -> dict[str, Tensor]:
    """Return the gradients on the image, and the text terms on the latent, of all draws."""
    guidance = Guidance(GuidanceConfig(), denoiser)
    before, after = (Attributes(subject="man", color=color) for color in ("blue", "red"))
    guidance.set_prompts(caption(before), caption(after))
    source, image = (_picture(thing, denoiser.resolution, denoiser.device) for thing in (before, after))
    image = (source + image) / 2  # half-way through the edit
    target, original = (denoiser.encode_image(x).detach() for x in (image, source))
    generator = torch.Generator(denoiser.device).manual_seed(seed)
    rows: dict[str, list[Tensor]] = {"image": [], "text": []}
    for _ in range(draws):
        t = guidance._times.draw(1, 0.5, generator)
        noise = torch.randn(target.shape, generator=generator, device=denoiser.device)
        terms = guidance.gradient_terms(target, original, t, noise)
        leaf = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((denoiser.encode_image(leaf) * terms.total).sum(), leaf)
        rows["image"].append(gradient)
        rows["text"].append(terms.text)
    return {what: torch.cat(some) for what, some in rows.items()}


def _picture(thing: Attributes, side: int, device: torch.device) -> Tensor:
    angles: Any = torch.zeros(1, device=device)
    camera = orbit(angles, angles + 10, angles + 1, width=side, height=side)
    return render(build([thing], device), camera, 2).rgb


if __name__ == "__main__":
    tyro.cli(Precision).run()
