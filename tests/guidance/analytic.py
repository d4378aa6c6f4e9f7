"""Denoisers whose noise prediction is exact, in place of a trained UNet."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.objectives import Schedule


def stable_diffusion_schedule() -> Schedule:
    """Scaled-linear from 0.00085 to 0.012 in 1000 steps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return Schedule(alphas_cumprod=torch.cumprod(1 - betas, dim=0), betas=betas)


class MixtureDenoiser(Denoiser):
    """Predicts noise exactly where the images of each prompt are an even mixture of isotropic Gaussians.

    With x ~ mean_k of N(mu_k, std²), x_t has variance v = ᾱ·std² + 1 − ᾱ around √ᾱ·mu_k, and the best
    prediction is ε* = √(1−ᾱ)/v · (x_t − √ᾱ·Σ r_k mu_k) with the components' responsibilities r_k for x_t.
    Latents are (batch, channels, 1, 1). Every call is recorded.
    """

    def __init__(
        self,
        components: Mapping[str, Sequence[Sequence[float]]],
        std: float,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.device = torch.device("cpu")
        self.dtype = self.result_dtype = dtype
        self.schedule = stable_diffusion_schedule()
        self.alphas_cumprod = self.schedule.alphas_cumprod.to(dtype)
        self.prompts = list(components)
        self.std = std
        self.means = torch.stack([torch.tensor(means, dtype=dtype) for means in components.values()])
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[[float(self.prompts.index(prompt))]] for prompt in prompts])

    def predict_noise(self, x_t: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        prompts = len(embeddings) // len(x_t)
        x_t, t = x_t.repeat(prompts, 1, 1, 1), t.repeat(prompts)
        self.calls.append((x_t, t, embeddings))
        alpha_bar = self.alphas_cumprod[t][:, None]
        variance = alpha_bar * self.std**2 + 1 - alpha_bar
        x = x_t.flatten(1)
        means = self.means[embeddings.flatten().long()]  # batch components channels
        offsets = x[:, None] - alpha_bar.sqrt()[:, None] * means
        responsibility = torch.softmax(-offsets.square().sum(-1) / (2 * variance), dim=1)
        noise = (1 - alpha_bar).sqrt() / variance * (responsibility[..., None] * offsets).sum(1)
        return noise.view_as(x_t)
