"""Drawing rays by how much an image's gradient asks of them."""

import itertools

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.models.ray_sampling import EVEN_SHARE, ray_probabilities, systematic_sample


def gradient(seed: int = 0, rays: int = 40) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rays, 3, generator=rng) * torch.rand(rays, 1, generator=rng) ** 4


def test_probabilities_follow_the_gradient_above_an_even_floor() -> None:
    g = gradient()
    p = ray_probabilities(g)
    assert float(p.sum()) == pytest.approx(1) and p.dtype == torch.float64
    expected = (1 - EVEN_SHARE) * g.norm(dim=1) / g.norm(dim=1).sum() + EVEN_SHARE / len(g)
    torch.testing.assert_close(p.float(), expected)


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_without_a_usable_gradient_all_rays_are_alike(value: float) -> None:
    torch.testing.assert_close(ray_probabilities(torch.full((8, 3), value)).float(), torch.full((8,), 1 / 8))


def test_a_number_that_is_not_finite_leaves_probabilities() -> None:
    g = gradient()
    g[3, 1] = torch.inf
    p = ray_probabilities(g)
    assert p.isfinite().all() and (p > 0).all() and float(p.sum()) == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 7, 40, 200])
def test_each_ray_comes_as_often_as_it_should(n: int) -> None:
    """Exactly: the draw is a step function of its random number, whose steps are at known places."""
    p = ray_probabilities(gradient())
    breaks = (n * p.cumsum(0)).frac().sort().values
    edges = torch.cat([breaks.new_zeros(1), breaks, breaks.new_ones(1)])
    mean = torch.zeros_like(p)
    for begin, end in itertools.pairwise(edges):
        if end - begin < 1e-12:
            continue
        counts = systematic_sample(p, n, (begin + end) / 2).bincount(minlength=len(p))
        assert counts.sum() == n
        assert ((counts - n * p).abs() < 1 + 1e-9).all()
        mean += (end - begin) * counts
    torch.testing.assert_close(mean, n * p)


def test_the_ends_are_reached_and_not_passed() -> None:
    p = torch.full((4,), 0.25, dtype=torch.float64)
    assert systematic_sample(p, 4, torch.tensor(0.0)).tolist() == [0, 1, 2, 3]
    assert systematic_sample(p, 4, torch.tensor(1 - 1e-15, dtype=torch.float64)).max() == 3
