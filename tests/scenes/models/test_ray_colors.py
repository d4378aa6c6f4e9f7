"""Colours of rays, as they come and recorded."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn

from pds_nerfstudio.scenes.models.ray_colors import RayColors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class _Painter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3).to(DEVICE)
        self.jitter, self.asked, self.state = 0.0, 0, True

    def render(self, rays: RayBundle) -> Tensor:
        self.asked += 1
        noise = self.jitter * torch.rand_like(rays.origins)
        spaced = torch.linspace(0.0, 1.0, 2).to(rays.origins.device)  # as nerfstudio makes its samples
        colors: Tensor = torch.sin(self.layer(rays.origins + noise)) * spaced[1] * rays.metadata["norm"]
        return colors if self.state else -colors

    def decides(self) -> Hashable:
        return self.state


def _rays(number: int, seed: int) -> RayBundle:
    rng = torch.Generator().manual_seed(seed)
    return RayBundle(
        origins=torch.randn(number, 3, generator=rng),
        directions=torch.randn(number, 3, generator=rng),
        pixel_area=torch.ones(number, 1),
        metadata={"norm": torch.rand(number, 1, generator=rng)},
    ).to(DEVICE)


def test_they_are_those_of_the_rays_weights_and_state_of_the_call() -> None:
    """On a GPU the later ones are recorded; what was returned earlier is not written over."""
    painter = _Painter()
    colors = RayColors(painter, painter.render, painter.decides)
    kept: list[tuple[Tensor, Tensor]] = []
    for seed in range(8):
        painter.state = seed % 4 < 2
        for number in (17, 5):
            rays = _rays(number, seed)
            kept.append((colors(rays), painter.render(rays).detach()))
        with torch.no_grad():
            painter.layer.weight += 0.1
    for ours, expected in kept:
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert not ours.requires_grad


@pytest.mark.parametrize("known", [True, False])
def test_random_numbers_are_drawn_anew_and_as_without_a_recording(known: bool) -> None:
    painter = _Painter()
    painter.jitter = 0.5
    colors = RayColors(painter, painter.render, lambda: "state" if known else None)
    rays = _rays(9, 0)
    torch.manual_seed(5)
    found = [colors(rays) for _ in range(6)]
    torch.manual_seed(5)
    for ours in found:
        torch.testing.assert_close(ours, painter.render(rays).detach(), rtol=1e-4, atol=1e-5)
    assert not torch.equal(found[4], found[5])


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_what_comes_again_is_not_rendered_anew() -> None:
    painter = _Painter()
    colors = RayColors(painter, painter.render, painter.decides)
    for _ in range(3):
        colors(_rays(9, 0))
    asked = painter.asked
    for _ in range(3):
        colors(_rays(9, 0))
    assert painter.asked == asked
