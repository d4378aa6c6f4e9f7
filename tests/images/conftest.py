"""Guidance whose edit is known, in place of a diffusion model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig


class KnownDenoiser:
    """Latents are a picture's 4×4 block means minus a half, so that decoding them blurs."""

    device, result_dtype = torch.device("cpu"), torch.float32
    resolution, size_multiple = 32, 8

    def encode_image(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 4) - 0.5

    def decode_latents(self, latents: Tensor) -> Tensor:
        return (F.interpolate(latents, scale_factor=4) + 0.5).clamp(0, 1)


class KnownGuidance(Guidance):
    """Pulls everything, latents or pixels, towards `goal`; redrawing adds to the red of what may change."""

    def __init__(self, goal: float = 0.0) -> None:
        self.goal, self.finite = goal, True
        self.denoiser: Any = KnownDenoiser()
        self.config = GuidanceConfig()
        self.calls: list[tuple[Any, ...]] = []

    def latent_loss(self, target: Tensor, source: Tensor, progress: float, keys: Any = None) -> Any:
        self.calls.append((target.detach().clone(), source, progress, list(keys)))
        loss = (target - self.goal).square().sum()
        metrics = {"distance": loss.detach()}
        return SimpleNamespace(loss=loss, finite=torch.tensor(self.finite), metrics=metrics)

    __call__ = latent_loss  # type: ignore[assignment]

    def redraw_latents(
        self, target: Tensor, source: Tensor, config: RedrawConfig, allowed: Tensor | None = None
    ) -> Tensor:
        push = target.new_tensor([config.strength, 0, 0])[:, None, None]
        return target + (push if allowed is None else push * allowed)


@pytest.fixture
def guidance() -> KnownGuidance:
    return KnownGuidance()


@pytest.fixture
def pictures() -> Tensor:
    """Two pictures of a size that no model wants, with fine detail."""
    return torch.rand(2, 3, 45, 70, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.5
