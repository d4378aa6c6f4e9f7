"""Gradients of rays, as they come and recorded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn

from pds_nerfstudio.scenes.models.ray_gradients import Pull, RayGradients

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PLAIN = {"device_type": DEVICE, "dtype": torch.float16 if DEVICE == "cuda" else torch.bfloat16, "enabled": False}


class _Painter(nn.Module):
    """Has colours and losses, one of which knows no gradients, and a weight that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.unused = nn.Linear(3, 3).to(DEVICE), nn.Parameter(torch.zeros(2, device=DEVICE))
        self.same_layer = nn.Sequential(self.layer)  # by another name, as in nerfacto's proposal networks
        self.jitter = 0.0

    def render(self, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
        noise = self.jitter * torch.rand_like(rays.origins)
        assert rays.metadata["camera"] == 3
        colors = torch.sin(self.layer(rays.origins + noise)) * rays.metadata["norm"]
        spaced = torch.linspace(0.0, 1.0, 2).to(rays.origins.device)  # as nerfstudio makes its samples
        return colors, colors.square().sum(-1) * spaced[1], rays.directions.sum(-1)


def _rays(number: int, seed: int) -> RayBundle:
    rng = torch.Generator().manual_seed(seed)
    metadata: dict[str, Any] = {"camera": 3, "norm": torch.rand(number, 1, generator=rng)}
    return RayBundle(
        origins=torch.randn(number, 3, generator=rng),
        directions=torch.randn(number, 3, generator=rng),
        pixel_area=torch.ones(number, 1),
        camera_indices=torch.zeros(number, 1, dtype=torch.long),
        metadata=metadata,
    ).to(DEVICE)


def _pull(number: int, seed: int) -> Pull:
    rng = torch.Generator().manual_seed(seed + 100)
    sizes = ((number, 3), (number,), (number,), (number,))
    return Pull(*(torch.randn(size, generator=rng).to(DEVICE) for size in sizes))


def _expected(painter: _Painter, rays: RayBundle, pull: Pull) -> list[Tensor | None]:
    colors, first, second = painter.render(rays)
    loss = (pull.colors * colors).sum() + (pull.first * first).sum()
    sums = torch.stack([(pull.shares * first).sum(), (pull.shares * second).sum()])
    return [sums, *torch.autograd.grad(loss, list(painter.parameters()), allow_unused=True)]


def _assert_alike(ours: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for found, theirs in zip(ours, expected, strict=True):
        assert (found is None) == (theirs is None)
        if found is not None:
            torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-5)


def test_they_are_those_of_what_is_asked_also_when_batches_come_again() -> None:
    """On a GPU the later ones are recorded: other rays, other weights, and numbers of rays by turns."""
    painter = _Painter()
    gradients, wanted = RayGradients(painter, painter.render), list(painter.parameters())
    for seed in range(6):
        for number in (17, 5):
            rays, pull = _rays(number, seed), _pull(number, seed)
            gradients.prepare(rays, wanted, PLAIN)
            sums, found = gradients(rays, pull, wanted, PLAIN)
            _assert_alike([sums, *found], _expected(painter, rays, pull))
        with torch.no_grad():
            painter.layer.weight += 0.1


def test_they_can_be_had_while_another_graph_of_the_weights_is_alive() -> None:
    """Which a recording must not wait for."""
    painter = _Painter()
    alive = painter.render(_rays(4, 1))[0].sum()
    before = list(painter.parameters())
    _assert_all_alike(_in_turn(RayGradients(painter, painter.render), painter), painter)
    assert all(now is then for now, then in zip(painter.parameters(), before, strict=True))
    alive.backward()
    assert painter.layer.weight.grad is not None


def _assert_all_alike(found: list[list[Tensor | None]], painter: _Painter) -> None:
    for ours in found:
        _assert_alike(ours, _expected(painter, _rays(9, 0), _pull(9, 0)))


def _in_turn(gradients: RayGradients, painter: _Painter) -> list[list[Tensor | None]]:
    """Return what six batches of the same rays give."""
    wanted, rays, pull = list(painter.parameters()), _rays(9, 0), _pull(9, 0)
    found = []
    for _ in range(6):
        gradients.prepare(rays, wanted, PLAIN)
        sums, ours = gradients(rays, pull, wanted, PLAIN)
        found.append([sums, *ours])
    return found


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_recorded_batches_draw_random_numbers_anew_and_leave_those_of_others_alone() -> None:
    painter = _Painter()
    painter.jitter = 0.5
    torch.manual_seed(5)
    found = _in_turn(RayGradients(painter, painter.render), painter)
    torch.manual_seed(5)
    expected = [_expected(painter, _rays(9, 0), _pull(9, 0)) for _ in found]
    for ours, theirs in zip(found, expected, strict=True):
        _assert_alike(ours, theirs)
    assert not torch.equal(found[4][0], found[5][0])  # type: ignore[arg-type]


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_what_cannot_be_recorded_is_rendered_as_it_comes() -> None:
    painter = _Painter()

    def waits(rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
        float(rays.origins.sum())
        return painter.render(rays)

    with pytest.warns(UserWarning, match="kernel by kernel"):
        found = _in_turn(RayGradients(painter, waits), painter)
    _assert_all_alike(found, painter)
