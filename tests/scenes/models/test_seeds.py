from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.scenes.models.look import Look, look_at_surface, powers_of_depth
from pds_nerfstudio.scenes.models.new_gaussians import planted
from pds_nerfstudio.scenes.models.seeds import Seeds, agreement, find_seeds

SIDE, FOCAL, RADIUS = 40, 50.0, 0.5
BALL = torch.tensor([0.8, 0.1, 0.1])


def camera(azimuth: float) -> Cameras:
    """A camera two units from the origin, to which it looks."""
    angle = torch.tensor(azimuth)
    back = torch.stack([angle.sin(), torch.zeros(()), angle.cos()])
    right = torch.stack([angle.cos(), torch.zeros(()), -angle.sin()])
    up = torch.tensor([0.0, 1.0, 0.0])
    pose = torch.cat([torch.stack([right, up, back], 1), 2 * back[:, None]], 1)
    return Cameras(pose[None], FOCAL, FOCAL, SIDE / 2, SIDE / 2, SIDE, SIDE)


def ball_from(azimuth: float, spread: float = 0.0) -> Look:
    """What a camera sees of a ball around the origin before nothing, its depth found along each pixel's ray."""
    one = camera(azimuth)
    at = (torch.arange(SIDE) + 0.5 - SIDE / 2) / FOCAL
    rays = torch.stack([at.expand(SIDE, SIDE), -at[:, None].expand(SIDE, SIDE), -torch.ones(SIDE, SIDE)], -1)
    # |d·ray − 2·forward|² = radius², in the camera's own axes
    a, b = rays.square().sum(-1), torch.full((SIDE, SIDE), 2.0)
    inside = b.square() - a * (4 - RADIUS**2)
    hit = inside > 0
    depth = torch.where(hit, (b - inside.clamp_min(0).sqrt()) / a, 0)
    moments = torch.stack([hit.float(), depth, (depth.square() + spread**2) * hit], -1)
    return look_at_surface(BALL.expand(SIDE, SIDE, 3), moments, one)


LOOKS = [ball_from(azimuth) for azimuth in (-0.6, -0.3, 0.0, 0.3, 0.6)]
EVERYWHERE = [torch.ones(SIDE, SIDE, dtype=torch.bool) for _ in LOOKS]


def test_seeds_lie_on_the_surface_that_the_views_show() -> None:
    torch.manual_seed(0)
    seeds = find_seeds(LOOKS, EVERYWHERE, 300)
    assert len(seeds.means) == 300
    torch.testing.assert_close(seeds.means.norm(dim=-1), torch.full((300,), RADIUS), atol=1e-4, rtol=0)
    torch.testing.assert_close(seeds.colors, BALL.expand(300, 3))


def test_what_has_not_changed_seeds_nothing() -> None:
    left = [look.points()[..., 0] < 0 for look in LOOKS]
    seeds = find_seeds(LOOKS, left, 10_000)
    assert len(seeds.means) > 50 and (seeds.means[:, 0] < 0).all()
    nowhere = torch.zeros_like(left[0])
    assert len(find_seeds(LOOKS, [nowhere] * 5, 100).means) == 0


def test_what_one_view_alone_sees_changed_seeds_nothing() -> None:
    nowhere = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    assert len(find_seeds(LOOKS, [nowhere, nowhere, ~nowhere, nowhere, nowhere], 100).means) == 0


def test_the_sky_around_what_has_changed_seeds_nothing() -> None:
    """Also where one view says that it has changed: a model redraws some pixels over the edge of what it changes."""
    torch.manual_seed(0)
    looks, changed = [], []
    for ball in [ball_from(0.1 * k) for k in range(-4, 5)]:  # of which several see the sky just above another's ball
        hit = ball.opacity[..., None] > 0
        looks.append(
            replace(
                ball,
                color=torch.where(hit, ball.color, torch.tensor([0.4, 0.6, 0.9])),
                depth=torch.where(hit[..., 0], ball.depth, 20.0),
                opacity=torch.ones_like(ball.opacity),
            )
        )
        changed.append(hit[..., 0])
    changed[4] = torch.nn.functional.max_pool2d(changed[4][None].float(), 5, 1, 2)[0] > 0
    seeds = find_seeds(looks, changed, 10_000)
    assert len(seeds.means) > 1000 and (seeds.means.norm(dim=-1) < 1.1 * RADIUS).all()


@pytest.mark.parametrize(
    ("point", "color", "agreed"),
    [
        ([0.0, 0.0, RADIUS], BALL, True),
        ([0.0, 0.0, RADIUS + 0.5], BALL, False),  # it floats: the others look past it
        ([0.0, 0.0, 0.0], BALL, False),  # nobody sees it
        ([0.0, 0.0, RADIUS], 1 - BALL, False),  # the others see something else there
    ],
)
def test_views_agree_on_what_they_see(point: list[float], color: Tensor, agreed: bool) -> None:
    seeds = Seeds(torch.tensor([point]), color[None])
    assert agreement(LOOKS, EVERYWHERE, seeds, torch.tensor([2])).tolist() == [agreed]


def test_one_view_alone_says_nothing() -> None:
    seeds = Seeds(torch.tensor([[0.0, 0.0, RADIUS]]), BALL[None])
    assert not agreement(LOOKS[2:3], EVERYWHERE[:1], seeds, torch.tensor([0])).any()


def test_a_cloud_has_no_depth() -> None:
    assert not ball_from(0.0, spread=0.2).opacity.any()
    assert ball_from(0.0, spread=0.01).opacity.sum() == LOOKS[2].opacity.sum() > 100


def test_powers_of_depth() -> None:
    powers = powers_of_depth(torch.tensor([[0.0, 0.3, 0.5], [1.0, 0.0, -1.0]]), camera(0.0))
    torch.testing.assert_close(powers, torch.tensor([[1.0, 1.5, 2.25], [1.0, 3.0, 9.0]]))


def test_planted_gaussians_are_as_large_as_they_are_apart() -> None:
    grid = torch.stack(torch.meshgrid(*3 * [torch.arange(4.0)], indexing="ij"), -1).reshape(-1, 3) / 8
    new = planted(Seeds(grid, torch.full((64, 3), 0.25)))
    torch.testing.assert_close(new["scales"].exp(), torch.full((64, 3), 1 / 8))
    torch.testing.assert_close(new["features_dc"] * 0.28209479177387814 + 0.5, torch.full((64, 3), 0.25))
    assert torch.equal(new["means"], grid) and "features_rest" not in new
