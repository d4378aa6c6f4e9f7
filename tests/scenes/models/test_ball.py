"""The ball that all cameras look at."""

import math

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.scenes.models.ball import looked_at_ball, random_in_ball


def looking(positions: Tensor, targets: Tensor, focal: float = 40.0, width: int = 60, height: int = 30) -> Cameras:
    backward = torch.nn.functional.normalize(positions - targets, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]).expand_as(backward), backward), dim=-1
    )
    rotation = torch.stack([right, torch.linalg.cross(backward, right), backward], -1)
    poses = torch.cat([rotation, positions[:, :, None]], -1)
    return Cameras(poses, focal, focal, width / 2, height / 2, width, height)


class TestLookedAtBall:
    def test_of_a_ring_of_cameras(self) -> None:
        center = torch.tensor([0.3, -0.2, 0.5])
        angle = torch.arange(12) * (2 * math.pi / 12)
        ring = torch.stack([3 * angle.cos(), 3 * angle.sin(), 1.0 + 0.5 * (3 * angle).sin()], -1)
        cameras = looking(center + ring, center.expand(12, 3))
        # Gaussians elsewhere hardly move it; where their median is the centre they don't at all.
        found, radius = looked_at_ball(cameras, center + torch.tensor([[0.0, 0.0, 0.0], [5, 5, 5], [-5, -5, -5]]))
        assert torch.allclose(found, center, atol=1e-5)
        assert radius.item() == pytest.approx(ring.norm(dim=-1).mean().item() * (30 / 40) / 2, rel=1e-4)
        far, _ = looked_at_ball(cameras, center + torch.ones(1, 3))
        assert (far - center).norm() < 0.01

    def test_of_parallel_cameras(self) -> None:
        """Their axes say where it is sideways; how far away it is, the scene says."""
        positions = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]])
        cameras = looking(positions, positions - torch.tensor([1.0, 0, 0]))
        means = torch.tensor([[-4.0, 9, 9], [-5, 9, 9], [-6, 9, 9]])
        center, radius = looked_at_ball(cameras, means)
        assert center[0].item() == pytest.approx(-5, abs=0.05)
        assert center[1:].tolist() == pytest.approx([0.5, 0.5], abs=0.05)
        assert 5 * 0.375 * 0.95 < radius < 5.1 * 0.375 * 1.05


def test_random_points_fill_a_ball_evenly() -> None:
    torch.manual_seed(0)
    center, radius = torch.tensor([1.0, -2.0, 3.0]), torch.tensor(0.5)
    offsets = (random_in_ball(20000, center, radius) - center) / radius
    distance = offsets.norm(dim=-1)
    assert distance.max() <= 1 + 1e-5
    for share in (0.3, 0.5, 0.8):
        assert (distance < share).float().mean().item() == pytest.approx(share**3, abs=0.015)
    assert offsets.mean(0).norm() < 0.02
    assert offsets.T.cov().numpy() == pytest.approx(torch.eye(3).numpy() / 5, abs=0.01)  # a ball's
