"""The noise of IDS, against the exact answer for one Gaussian."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.fixed_point import fixed_point_noise
from pds_nerfstudio.guidance.guidance import Guidance
from tests.guidance.analytic import mixture_denoiser, stable_diffusion_schedule
from tests.guidance.miniature import network_of


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_descent_is_that_of_the_closed_form_for_one_gaussian() -> None:
    """ε̂ = k(x_t − √ᾱμ) makes x̂_0 linear in x_t, so the gradient of the norm is a unit vector times a known slope."""
    denoiser, _ = mixture_denoiser({"": [[0.3, 0.1]]}, std=0.5)
    source, noise = (random(2, 2, 1, 1, seed=seed).double() for seed in range(2))
    t = torch.tensor([300, 700])
    alpha_bar = denoiser.levels.alphas_cumprod[t]
    embeddings = denoiser.encode_prompts([""] * 2)
    result = fixed_point_noise(
        source,
        noise,
        t,
        denoiser.levels,
        lambda x_t: denoiser.predict_noise_differentiably(x_t, t, embeddings),
        steps=2,
        rate=0.3,
    )
    mean = torch.tensor([0.3, 0.1]).double()
    for i in range(2):
        a = alpha_bar[i]
        k = (1 - a).sqrt() / (a * 0.25 + 1 - a)
        x_t = a.sqrt() * source[i].flatten() + (1 - a).sqrt() * noise[i].flatten()
        for _ in range(2):
            missed = source[i].flatten() - (x_t - (1 - a).sqrt() * k * (x_t - a.sqrt() * mean)) / a.sqrt()
            x_t = x_t + 0.3 * (1 - (1 - a).sqrt() * k) / a.sqrt() * missed / missed.norm()
        expected = (x_t - a.sqrt() * source[i].flatten()) / (1 - a).sqrt()
        torch.testing.assert_close(result[i].flatten(), expected)


def test_small_steps_end_where_the_model_sees_the_source() -> None:
    denoiser, _ = mixture_denoiser({"": [[0.3, 0.1]]}, std=0.5)
    source, noise = (random(1, 2, 1, 1, seed=seed).double() for seed in range(2))
    t = torch.tensor([400])
    embeddings = denoiser.encode_prompts([None])

    def predict(x_t: Tensor) -> Tensor:
        return denoiser.predict_noise_differentiably(x_t, t, embeddings)

    found = fixed_point_noise(source, noise, t, denoiser.levels, predict, steps=1000, rate=0.05)
    torch.testing.assert_close(predict(denoiser.add_noise(source, found, t)), found, rtol=0, atol=0.03)


def test_no_steps_leave_the_noise_alone() -> None:
    noise, levels = random(1, 4, 2, 2), stable_diffusion_schedule().levels(torch.device("cpu"), torch.float32)
    torch.testing.assert_close(
        fixed_point_noise(random(1, 4, 2, 2, seed=1), noise, torch.tensor([300]), levels, lambda x: x, 0, 1.0), noise
    )


@pytest.mark.parametrize("objective", ["dds", "pds"])
def test_guidance_takes_the_noise_for_both_branches(denoiser: Denoiser, objective: Any) -> None:
    z, source = (0.3 * random(1, 4, 16, 16, seed=seed) for seed in range(2))
    outputs = []
    for steps in (0, 2):
        guidance = Guidance(GuidanceConfig(objective=objective, fixed_point_steps=steps, t_min=0.5), denoiser)
        guidance.set_prompts("a cat", "a dog")
        outputs.append(guidance.latent_loss(z, source, 0.0))
        assert not any(p.grad is not None for p in network_of(denoiser)._model.parameters())
    assert torch.equal(outputs[0].t, outputs[1].t)
    guidance = Guidance(GuidanceConfig(objective=objective, t_min=0.5), denoiser)
    guidance.set_prompts("a cat", "a dog")
    t = guidance.draw_timesteps(1, 0.0)
    noise = torch.randn(z.shape, generator=guidance._draws.generator)
    embeddings = denoiser.encode_prompts(["a cat", ""])

    def predict(x_t: Tensor) -> Tensor:
        c, u = (denoiser.predict_noise_differentiably(x_t, t, e[None]) for e in embeddings)
        return 7.5 * c - 6.5 * u

    moved = fixed_point_noise(source, noise, t, denoiser.levels, predict, 2, 1.0)
    expected = guidance.gradient_terms(z, source, t, moved)
    torch.testing.assert_close(outputs[1].grad, expected.text + expected.identity, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(outputs[0].grad, outputs[1].grad, atol=1e-3)


def test_a_differentiable_prediction_is_the_same(denoiser: Denoiser) -> None:
    x_t = random(1, 4, 16, 16).requires_grad_()
    t, embeddings = torch.tensor([300]), denoiser.encode_prompts(["a cat"])
    prediction = denoiser.predict_noise_differentiably(x_t, t, embeddings)
    torch.testing.assert_close(prediction, denoiser.predict_noise(x_t, t, embeddings))
    (gradient,) = torch.autograd.grad(prediction.sum(), x_t)
    assert gradient.abs().max() > 0


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="fixed_point_steps is -1"):
        GuidanceConfig(fixed_point_steps=-1).check()
