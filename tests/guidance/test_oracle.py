"""The whole of Guidance against denoisers whose fixed points are known (PDS's paper, figure 2).

The source prompt and the target prompt each stand for a known distribution. SDS forgets the source: every
sample ends at the same mean. DDS moves each sample by the difference of the means. PDS stops in between, near
the boundary of the two, and keeps what sets a sample apart.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from tests.guidance.analytic import mixture_denoiser

SAMPLES = 256


def edit(
    objective: str,
    source_means: Sequence[Sequence[float]],
    target_means: Sequence[Sequence[float]],
    std: float,
    source: Tensor,
    learning_rate: float = 0.2,
    steps: int = 300,
) -> Tensor:
    """Follow an objective from ``source`` (samples × 2); returns the mean over the run's second half."""
    denoiser, _ = mixture_denoiser(
        {"": [*source_means, *target_means], "source": [*source_means] * 2, "target": [*target_means] * 2},
        std,
    )
    guidance = Guidance(GuidanceConfig(objective=objective, guidance_scale=1.0), denoiser)
    guidance.set_prompts("source", "target")
    start = source[:, :, None, None]
    x, total = start.clone(), torch.zeros_like(start)
    for step in range(steps):
        x.requires_grad_()
        loss = guidance.latent_loss(x, start, step / steps).loss
        (gradient,) = torch.autograd.grad(loss, x)
        x = (x - learning_rate * gradient).detach()
        if step >= steps // 2:
            total += x
    return (total / (steps - steps // 2))[:, :, 0, 0]


def samples_of(means: Sequence[Sequence[float]], std: float) -> Tensor:
    """Evenly many samples of each component, with exactly its mean."""
    noise = torch.randn(SAMPLES // len(means), 2, generator=torch.Generator().manual_seed(0)).double()
    noise -= noise.mean(0)
    return torch.cat([torch.tensor(mean).double() + std * noise for mean in means])


@pytest.mark.parametrize(("std", "fraction"), [(0.1, 0.507), (0.25, 0.432), (0.5, 0.333), (1.0, 0.222)])
def test_pds_stops_part_way_between_two_gaussians(std: float, fraction: float) -> None:
    source = samples_of([[-1.0, 0.5]], std)
    moved = edit("pds", [[-1.0, 0.5]], [[1.0, -0.5]], std, source, learning_rate=0.5) - source
    torch.testing.assert_close(moved.mean(0), fraction * torch.tensor([2.0, -1.0]).double(), rtol=0.015, atol=0.005)


def test_dds_moves_every_sample_by_the_difference_of_means() -> None:
    source = samples_of([[-1.0, 0.5]], 0.25)
    moved = edit("dds", [[-1.0, 0.5]], [[1.0, -0.5]], 0.25, source) - source
    torch.testing.assert_close(moved, torch.tensor([2.0, -1.0]).double().expand_as(moved), rtol=0, atol=1e-4)


def test_ssd_ends_where_its_terms_balance() -> None:
    """With every prompt one Gaussian, each difference of predictions is k√ᾱ times a difference of means or latents."""
    source_mean, target_mean, any_mean = (torch.tensor(m).double() for m in ([-1.0, 0.5], [1.0, -0.5], [0.2, 0.3]))
    means = {"": [any_mean.tolist()], "source": [source_mean.tolist()], "target": [target_mean.tolist()]}
    denoiser, _ = mixture_denoiser(means, std=0.5)
    guidance = Guidance(GuidanceConfig(objective="ssd", guidance_scale=3.0, t_max=0.9), denoiser)
    guidance.set_prompts("source", "target")
    start = samples_of([source_mean.tolist()], 0.5)[:, :, None, None]
    x, total = start.clone(), torch.zeros_like(start)
    for step in range(400):
        x = x - 0.2 * guidance.latent_loss(x, start, step / 400).grad
        total += x if step >= 200 else 0
    moved = (total / 200 - start)[:, :, 0, 0]
    t = torch.arange(20, 901)
    alpha_bar = denoiser.levels.alphas_cumprod[t]
    pull = ((1 - alpha_bar).sqrt() / (alpha_bar * 0.25 + 1 - alpha_bar) * alpha_bar.sqrt()).mean()
    hold = (0.075 * (t / 1000).exp() * alpha_bar.sqrt()).mean()
    wanted = (source_mean - any_mean) + 1.5 * (target_mean - source_mean) + 5.5 * (target_mean - any_mean)
    torch.testing.assert_close(moved.mean(0), pull * wanted / (pull + hold), rtol=0.02, atol=0.02)


def test_sds_forgets_the_source() -> None:
    source = samples_of([[-1.0, 0.5]], 0.25)
    result = edit("sds", [[-1.0, 0.5]], [[1.0, -0.5]], 0.25, source)
    torch.testing.assert_close(result.mean(0), torch.tensor([1.0, -0.5]).double(), rtol=0, atol=0.01)
    assert (result.std(0) < 0.1 * source.std(0)).all()


def test_with_two_modes_a_prompt_pds_alone_stays_near_the_boundary_and_keeps_the_mode() -> None:
    """Two source modes on the left, two target modes on the right; the boundary is the axis between."""
    source_means, target_means, std = [[-1.0, -2.0], [-1.0, 2.0]], [[1.0, -2.0], [1.0, 2.0]], 0.2
    source = samples_of(source_means, std)
    results = {name: edit(name, source_means, target_means, std, source) for name in ("pds", "dds", "sds")}
    inside = {name: float((result[:, 0] > 1 - 3 * std).double().mean()) for name, result in results.items()}
    assert inside["dds"] > 0.97 and inside["sds"] > 0.97 and inside["pds"] == 0
    assert abs(float(results["pds"][:, 0].mean())) < 0.25
    assert (results["pds"][:, 1].sign() == source[:, 1].sign()).all()
    torch.testing.assert_close(results["pds"][:, 1], source[:, 1], rtol=0, atol=0.15)
