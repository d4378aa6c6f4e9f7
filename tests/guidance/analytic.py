"""A network whose noise prediction is exact, in place of a trained one."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule

Components = Mapping[str, Sequence[Sequence[float]]]


def stable_diffusion_schedule() -> Schedule:
    """Scaled-linear from 0.00085 to 0.012 in 1000 steps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return Schedule(alphas_cumprod=torch.cumprod(1 - betas, dim=0), betas=betas)


def zero_terminal_schedule(num_steps: int) -> Schedule:
    """Stable Diffusion's, with √ᾱ moved and scaled so that none is left at the end (Lin et al. 2024, algorithm 1)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, num_steps, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, dim=0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    alphas_cumprod = signal.square()
    return Schedule(alphas_cumprod, 1 - alphas_cumprod / torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]]))


class MixtureNetwork:
    """Predicts noise exactly where the images of each prompt are an even mixture of isotropic Gaussians.

    With x ~ mean_k of N(mu_k, std²), x_t has variance v = ᾱ·std² + 1 − ᾱ around √ᾱ·mu_k, and the best
    prediction is ε* = √(1−ᾱ)/v · (x_t − √ᾱ·Σ r_k mu_k) with the components' responsibilities r_k for x_t.
    Latents are (batch, channels, 1, 1), and images the same. Every call is recorded, with x_t.

    Args:
        components: The means for each prompt; under "" for none.
        std: Of every component.
        dtype: Of results.
        parametrization: What it says: that noise, or the velocity or the flow that means the same.
        schedule: Of its times.
    """

    latent_channels, vae_scale_factor, size_multiple, resolution = 2, 1, 1, 16
    guidance_scale = 7.5

    def __init__(
        self,
        components: Components,
        std: float,
        dtype: torch.dtype = torch.float64,
        parametrization: Parametrization = "noise",
        schedule: Schedule | None = None,
    ) -> None:
        self.device, self.result_dtype = torch.device("cpu"), dtype
        self.schedule = schedule or stable_diffusion_schedule()
        self.parametrization: Parametrization = parametrization
        self.prompts = list(components)
        self.std = std
        self.means = torch.stack([torch.tensor(means, dtype=dtype) for means in components.values()])
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def condition(self, prompts: Sequence[Prompt]) -> Tensor:
        return torch.tensor([self.prompts.index(prompt or "") for prompt in prompts])

    def predict(self, latent: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        prompts = len(condition) // len(latent)
        latent, time = latent.repeat(prompts, 1, 1, 1), time.repeat(prompts)
        if self.parametrization == "flow":
            signal, spread = ((x / (time.square() + (1 - time).square()).sqrt())[:, None] for x in (1 - time, time))
            x_t = latent * (signal + spread)[:, :, None, None]
        else:
            alpha_bar = self.schedule.alphas_cumprod[time].to(latent)[:, None]
            signal, spread, x_t = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), latent
        self.calls.append((x_t, time, condition))
        noise = self._noise(x_t.flatten(1), signal, spread, condition).view_as(x_t)
        signal, spread = signal[:, :, None, None], spread[:, :, None, None]
        if self.parametrization == "noise":
            return noise
        clean = (x_t - spread * noise) / signal
        return signal * noise - spread * clean if self.parametrization == "velocity" else noise - clean

    def _noise(self, x: Tensor, signal: Tensor, spread: Tensor, condition: Tensor) -> Tensor:
        variance = signal.square() * self.std**2 + spread.square()
        offsets = x[:, None] - signal[:, :, None] * self.means[condition]  # batch components channels
        responsibility = torch.softmax(-offsets.square().sum(-1) / (2 * variance), dim=1)
        return spread / variance * (responsibility[..., None] * offsets).sum(1)


def mixture_denoiser(
    components: Components, std: float, dtype: torch.dtype = torch.float64, **options: object
) -> tuple[Denoiser, MixtureNetwork]:
    """A denoiser of such a network, and the network."""
    network = MixtureNetwork(components, std, dtype, **options)  # type: ignore[arg-type]
    return Denoiser(network), network
