"""SDEdit: with an exact denoiser it ends where the prompt's pictures are, and the mask holds the rest."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.likelihood import likeliest
from pds_nerfstudio.guidance.redraw import RedrawConfig, edited_region, sdedit
from pds_nerfstudio.guidance.schedule import Schedule
from tests.guidance.analytic import mixture_denoiser, stable_diffusion_schedule

LEVELS = stable_diffusion_schedule().levels(torch.device("cpu"), torch.float64)
ALPHAS = LEVELS.alphas_cumprod


def exact(mean: float, std: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The noise in noisy samples of N(mean, std²)."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha = ALPHAS[t][:, None, None, None]
        return (1 - alpha).sqrt() / (alpha * std**2 + 1 - alpha) * (x - alpha.sqrt() * mean)

    return predict


def run(strength: int, mask: float = 1.0, n: int = 2000) -> tuple[Tensor, Tensor]:
    """Refines samples around 0 with a model of N(3, 0.1²); returns source and result."""
    rng = torch.Generator().manual_seed(0)
    source, noise = (torch.randn(n, 1, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    times = torch.linspace(strength, 0, 51)[:-1].round().long()
    masks = torch.full((n, 1, 1, 1), mask, dtype=torch.float64)
    return source, sdedit(source, source, masks, noise, times, LEVELS, exact(3.0, 0.1))


def test_one_step_gives_the_mean_of_what_may_lie_under_the_noise() -> None:
    rng = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(64, 1, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    mean, std, alpha = 2.0, 0.5, ALPHAS[300]
    noisy = alpha.sqrt() * x + (1 - alpha).sqrt() * noise
    # Gaussian prior times Gaussian likelihood.
    gain = alpha.sqrt() * std**2 / (alpha * std**2 + 1 - alpha)
    expected = mean + gain * (noisy - alpha.sqrt() * mean)
    result = sdedit(x, x, torch.ones_like(x), noise, torch.tensor([300]), LEVELS, exact(mean, std))
    torch.testing.assert_close(result, expected)


def test_many_steps_follow_the_probability_flow() -> None:
    rng = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(64, 1, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    mean, std, alpha = 2.0, 0.5, ALPHAS[999]
    noisy = alpha.sqrt() * x + (1 - alpha).sqrt() * noise
    # The flow of a Gaussian keeps each point's standard score (Song et al., Score-Based Generative Modeling, 2021).
    score = (noisy - alpha.sqrt() * mean) / (alpha * std**2 + 1 - alpha).sqrt()
    result = sdedit(x, x, torch.ones_like(x), noise, torch.arange(999, 0, -1), LEVELS, exact(mean, std))
    torch.testing.assert_close(result, mean + std * score, atol=0.02, rtol=0)


def test_much_noise_forgets_what_was_there() -> None:
    source, result = run(999)
    assert result.mean() == pytest.approx(3, abs=0.02)
    assert result.std() < 0.15
    assert abs(torch.corrcoef(torch.stack([source.flatten(), result.flatten()]))[0, 1]) < 0.2


def test_little_noise_keeps_it() -> None:
    source, result = run(20)
    correlation = torch.corrcoef(torch.stack([source.flatten(), result.flatten()]))[0, 1]
    assert correlation > 0.9
    assert 0 < result.mean() < 2


def test_what_is_masked_is_the_source_to_the_bit() -> None:
    source, result = run(500, mask=0.0)
    assert torch.equal(source, result)


def test_the_edited_region_is_where_much_changed() -> None:
    source = torch.zeros(2, 4, 12, 12)
    edited = source.clone()
    edited[0, :, 2:6, 2:6] = 1.0
    edited[1] = 0.05 * torch.randn(edited[1].shape, generator=torch.Generator().manual_seed(0))
    region = edited_region(edited, source)
    assert region.shape == (2, 1, 12, 12)
    assert (region[0, 0, 3:5, 3:5] == 1).all() and (region[0, 0, 8:, 8:] == 0).all()
    assert (region[1] == 0).all()


class TestOnTheGuidance:
    """Where one prompt's pictures are all near 1 and the other's near -1."""

    def guidance(self) -> Guidance:
        denoiser, _network = mixture_denoiser(
            {"": [[0.0, 0.0]], "source": [[-1.0, -1.0]], "target": [[1.0, 1.0]]}, std=0.05
        )
        guidance = Guidance(GuidanceConfig(), denoiser)
        guidance.set_prompts("source", "target")
        return guidance

    def test_it_goes_to_the_target(self) -> None:
        source = torch.full((3, 2, 1, 1), -1.0, dtype=torch.float64)
        edited = torch.full_like(source, 0.4)
        refined = self.guidance().redraw_latents(edited, source, RedrawConfig(0.9, 40, 1.0))
        assert torch.allclose(refined, torch.ones_like(refined), atol=0.15)

    def test_what_hardly_changed_or_may_not_goes_back(self) -> None:
        source = torch.full((3, 2, 1, 1), -1.0, dtype=torch.float64)
        guidance = self.guidance()
        assert torch.equal(guidance.redraw_latents(source + 0.05, source, RedrawConfig(0.9, 10, 1.0)), source)
        allowed = torch.zeros(1, 1, 1, 1)
        assert torch.equal(guidance.redraw_latents(source + 1.0, source, RedrawConfig(0.9, 10, 1.0), allowed), source)

    def test_answers_that_are_not_finite_are_said_and_leave_the_edit_as_it_was(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guidance = self.guidance()
        source, edited = torch.full((2, 2, 1, 1), -1.0).double(), torch.full((2, 2, 1, 1), 0.4).double()
        expected = self.guidance().redraw_latents(edited, source, RedrawConfig(0.9, 4, 1.0))
        network = guidance.denoiser.network
        predict = network.predict

        def broken(latent: Tensor, time: Tensor, condition: Tensor) -> Tensor:
            answer = predict(latent, time, condition)
            answer[0] = torch.nan  # for the first of the two pictures
            return answer

        monkeypatch.setattr(network, "predict", broken)
        with pytest.warns(UserWarning, match="not made of finite numbers.*dtype"):
            refined = guidance.redraw_latents(edited, source, RedrawConfig(0.9, 4, 1.0))
        assert torch.equal(refined[0], edited[0]) and torch.equal(refined[1], expected[1])

    def test_of_some_versions_each_element_has_the_one_that_suits_the_target_best(self) -> None:
        source = torch.full((3, 2, 1, 1), -1.0, dtype=torch.float64)
        near = torch.tensor([[1.0, 0.2, 0.6], [0.3, 1.0, torch.nan], [0.1, 0.0, 1.0]], dtype=torch.float64)
        versions = near[..., None, None, None].expand(3, 3, 2, 1, 1)
        chosen = likeliest(self.guidance()._prompted, Draws(0, source.device), list(versions), source)
        assert chosen[:, 0, 0, 0].tolist() == [1.0, 1.0, 1.0]

    def test_of_versions_that_suit_alike_the_one_near_the_source_is_taken(self) -> None:
        source = torch.full((1, 2, 1, 1), -1.0, dtype=torch.float64)
        versions = [torch.full_like(source, value) for value in (1.04, 0.96)]  # as far from the target
        for some in (versions, versions[::-1]):
            chosen = likeliest(self.guidance()._prompted, Draws(0, source.device), some, source)
            assert torch.equal(chosen, versions[1])

    def test_what_still_suits_the_source_is_not_taken(self) -> None:
        source = torch.full((1, 2, 1, 1), -1.0, dtype=torch.float64)
        versions = [
            torch.full_like(source, value) for value in (-0.9, 0.3)
        ]  # the first suits its own prompt far better
        chosen = likeliest(self.guidance()._prompted, Draws(0, source.device), versions, source)
        assert torch.equal(chosen, versions[1])

    def test_one_of_the_tries_is_taken(self) -> None:
        source = torch.full((6, 2, 1, 1), -1.0, dtype=torch.float64)
        once = RedrawConfig(0.9, 2, 1.0)
        guidance = self.guidance()
        tries = torch.stack([guidance.redraw_latents(source + 1.0, source, once) for _ in range(3)])
        chosen = self.guidance().redraw_latents(source + 1.0, source, replace(once, tries=3))
        number = (tries == chosen).all(dim=(2, 3, 4)).int()
        assert (number.sum(0) == 1).all() and len(number.argmax(0).unique()) > 1

    def test_from_pure_noise_it_goes_to_the_target(self) -> None:
        from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

        betas = rescale_zero_terminal_snr(stable_diffusion_schedule().betas)
        schedule = Schedule.from_scheduler(SimpleNamespace(betas=betas, alphas_cumprod=None))
        denoiser, _network = mixture_denoiser(
            {"": [[0.0, 0.0]], "source": [[-1.0, -1.0]], "target": [[1.0, 1.0]]},
            std=0.05,
            dtype=torch.float32,
            parametrization="velocity",
            schedule=schedule,
        )
        guidance = Guidance(GuidanceConfig(), denoiser)
        guidance.set_prompts("source", "target")
        source = torch.full((3, 2, 1, 1), -1.0)
        refined = guidance.redraw_latents(source + 1, source, RedrawConfig(1.0, 40, 1.0))
        assert torch.allclose(refined, torch.ones_like(refined), atol=0.15)

    def test_a_seed_gives_the_same_bits(self) -> None:
        source = torch.full((1, 2, 1, 1), -1.0, dtype=torch.float64)
        first, second = (
            self.guidance().redraw_latents(source + 1, source, RedrawConfig(0.5, 5, 2.0)) for _ in range(2)
        )
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "value"),
    [("strength", 0.0), ("strength", 1.1), ("guidance_scale", -1.0), ("denoising_steps", 0), ("tries", 0)],
)
def test_values_of_no_use_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{name} is"):
        RedrawConfig(**{name: value}).check()  # type: ignore[arg-type]
