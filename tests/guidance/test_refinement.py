"""Redrawing by SDEdit, against closed forms."""

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.refinement import RefinementConfig, sdedit

from .analytic import MixtureDenoiser

MEAN, STD = 2.0, 0.5
DENOISER = MixtureDenoiser({"": [[0.0]], "a dog": [[MEAN]]}, std=STD)


def redrawn(x: torch.Tensor, noise: torch.Tensor | None = None, **config: float) -> torch.Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype) if noise is None else noise
    embeddings = DENOISER.encode_prompts(["a dog", ""])
    return sdedit(DENOISER, x, noise, embeddings, RefinementConfig(**{"guidance_scale": 1.0} | config))  # type: ignore[arg-type]


def some(n: int = 4000) -> torch.Tensor:
    return torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1


def test_one_step_gives_the_mean_of_what_may_lie_under_the_noise() -> None:
    x, noise = some(64), some(64) + 1
    signal = DENOISER.alphas_cumprod[300]
    noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
    # Gaussian prior times Gaussian likelihood.
    gain = signal.sqrt() * STD**2 / (signal * STD**2 + 1 - signal)
    expected = MEAN + gain * (noisy - signal.sqrt() * MEAN)
    torch.testing.assert_close(redrawn(x, noise, strength=300 / 999, denoising_steps=1), expected)


def test_many_steps_follow_the_probability_flow() -> None:
    x, noise = some(64), some(64) + 1
    signal = DENOISER.alphas_cumprod[999]
    noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
    # The flow of a Gaussian keeps each point's standard score (Song et al., Score-Based Generative Modeling, 2021).
    score = (noisy - signal.sqrt() * MEAN) / (signal * STD**2 + 1 - signal).sqrt()
    torch.testing.assert_close(
        redrawn(x, noise, strength=1.0, denoising_steps=999), MEAN + STD * score, atol=0.02, rtol=0
    )


def test_little_noise_changes_little_and_more_noise_changes_more() -> None:
    x = some(500)
    changes = [(redrawn(x, strength=s, denoising_steps=20) - x).abs().mean().item() for s in (0.02, 0.2, 0.5, 0.9)]
    assert changes == sorted(changes) and changes[0] < 0.1 * changes[-1]


def test_the_guidance_scale_pushes_past_the_prompt() -> None:
    plain, pushed = (redrawn(some(500), strength=0.5, denoising_steps=20, guidance_scale=w).mean() for w in (1, 4))
    assert pushed > plain + 0.1


def test_the_model_is_asked_once_a_step_and_never_at_an_earlier_noise_again() -> None:
    DENOISER.calls.clear()
    redrawn(some(3), strength=0.4, denoising_steps=6)
    times = [t.unique().tolist() for _, t, _ in DENOISER.calls]
    assert len(times) == 6 and times[0] == [400] and all(len(t) == 1 for t in times)
    assert times == sorted(times, reverse=True)
    assert all(len(x) == 6 for x, _, _ in DENOISER.calls)  # with the prompt, and without


@pytest.mark.parametrize(
    ("name", "value"),
    [("strength", 0.0), ("strength", 1.1), ("guidance_scale", -1.0), ("denoising_steps", 0), ("rounds", 0)],
)
def test_values_of_no_use_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"refinement.{name} is"):
        RefinementConfig(**{name: value}).check()  # type: ignore[arg-type]
