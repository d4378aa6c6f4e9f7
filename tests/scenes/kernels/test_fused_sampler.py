"""nerfacto's samples by three kernels beside nerfstudio's in PyTorch. Without a GPU, Triton's interpreter runs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_samplers import PDFSampler, ProposalNetworkSampler, UniformSampler
from torch import Tensor

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests below run here")
def test_all_below_in_the_interpreter(passes_in_the_interpreter: Callable[[str], None]) -> None:
    passes_in_the_interpreter(__file__)


@pytest.fixture
def fused_sampler() -> ModuleType:
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("runs in the interpreter, in a process of its own")
    from pds_nerfstudio.scenes.kernels import fused_sampler

    return fused_sampler


def _sampler(**options: Any) -> ProposalNetworkSampler:
    usual = {"num_proposal_samples_per_ray": (20, 9), "num_nerf_samples_per_ray": 5, "single_jitter": True}
    return ProposalNetworkSampler(**{**usual, **options}).to(DEVICE)


def _rays(number: int, near: float = 0.05, far: float = 1000.0) -> RayBundle:
    rng = torch.Generator().manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(number, 3, generator=rng), dim=-1)
    ones = torch.ones(number, 1)
    return RayBundle(
        origins=torch.rand(number, 3, generator=rng),
        directions=directions,
        pixel_area=ones,
        camera_indices=torch.zeros_like(ones, dtype=torch.long),
        nears=ones * near,
        fars=ones * far,
    ).to(DEVICE)


def _densities(positions: Tensor) -> Tensor:
    """Nothing here, a wall there, and something in between."""
    x = positions.norm(dim=-1, keepdim=True)
    wall = torch.where((positions[..., :1] > 0.7) & (x > 1), 1e6, 0.0)
    return torch.where(positions[..., 1:2] > 0, 3 * torch.sin(4 * x).square(), 0.0) + wall


def _assert_alike(
    module: ModuleType, sampler: ProposalNetworkSampler, rays: RayBundle, tolerance: float = 2e-5
) -> None:
    fast = module.sampler_without_gradients(sampler)
    assert isinstance(fast, module._Sampler)
    torch.manual_seed(3)
    expected = sampler(rays, density_fns=[_densities, _densities])[0]
    torch.manual_seed(3)
    found = fast(rays, [_densities, _densities])
    torch.testing.assert_close(found.spacing_starts, expected.spacing_starts, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.spacing_ends, expected.spacing_ends, rtol=0, atol=tolerance)
    assert found.spacing_to_euclidean_fn is not None
    assert expected.spacing_to_euclidean_fn is not None
    places = torch.linspace(0, 1, 5, device=DEVICE).repeat(len(rays), 1)
    torch.testing.assert_close(found.spacing_to_euclidean_fn(places), expected.spacing_to_euclidean_fn(places))
    torch.testing.assert_close(found.frustums.starts, expected.frustums.starts, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(found.deltas, found.frustums.ends - found.frustums.starts)
    assert found.frustums.get_positions().shape == expected.frustums.get_positions().shape


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("single_jitter", [True, False])
@pytest.mark.parametrize("anneal", [1.0, 0.4])
def test_they_are_nerfstudios(fused_sampler: ModuleType, training: bool, single_jitter: bool, anneal: float) -> None:
    sampler = _sampler(single_jitter=single_jitter).train(training)
    sampler.set_anneal(anneal)
    # A weight of 1e-7 is half rounding, and 1e-3 after annealing.
    _assert_alike(fused_sampler, sampler, _rays(13), tolerance=2e-5 if anneal == 1 else 2e-4)


def test_also_spaced_evenly_and_from_one_round(fused_sampler: ModuleType) -> None:
    rounds: dict[str, Any] = {"num_proposal_network_iterations": 1, "num_proposal_samples_per_ray": (32,)}
    even = _sampler(initial_sampler=UniformSampler(single_jitter=True), **rounds)
    _assert_alike(fused_sampler, even, _rays(9, near=0.5, far=6.0))


def test_rays_without_anything_are_sampled_alike(fused_sampler: ModuleType) -> None:
    sampler = _sampler(pdf_sampler=PDFSampler(include_original=False, single_jitter=True, histogram_padding=0.0))
    fast = fused_sampler.sampler_without_gradients(sampler)
    nothing = [lambda positions: torch.zeros_like(positions[..., :1])] * 2
    torch.manual_seed(3)
    expected = sampler(_rays(6), density_fns=nothing)[0]
    torch.manual_seed(3)
    found = fast(_rays(6), nothing)
    torch.testing.assert_close(found.spacing_starts, expected.spacing_starts, rtol=0, atol=2e-5)


def test_samplers_of_another_kind_are_left_as_they_are(fused_sampler: ModuleType) -> None:
    sampler = _sampler(pdf_sampler=PDFSampler(include_original=True))
    fast = fused_sampler.sampler_without_gradients(sampler)
    torch.manual_seed(3)
    expected = sampler(_rays(4), density_fns=[_densities] * 2)[0]
    torch.manual_seed(3)
    assert torch.equal(fast(_rays(4), [_densities] * 2).frustums.ends, expected.frustums.ends)
