"""The class that all editors use."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance import guidance as guidance_module
from pds_nerfstudio.guidance import redraw
from pds_nerfstudio.guidance.config import GuidanceConfig, resolve_device, resolve_dtypes
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.gradient import GuidanceOutput
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.latents import resize
from pds_nerfstudio.guidance.masks import difference_mask, sharpen
from pds_nerfstudio.guidance.networks.network import Network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.objectives.pds import chi, psi
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.guidance.schedule import Levels
from tests.guidance.analytic import MixtureNetwork, mixture_denoiser
from tests.guidance.miniature import network_of

Changes = dict[str, Any]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def guidance_of(denoiser: Denoiser, **config: Any) -> Guidance:
    guidance = Guidance(GuidanceConfig(**config), denoiser)
    guidance.set_prompts("a cat", "a dog")
    return guidance


@pytest.fixture
def count_calls(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of how many latents each call of the denoiser is asked, and for how many predictions, as they happen."""
    batches: list[tuple[int, int]] = []
    predict = denoiser.predict_noise

    def counted(x_t: Tensor, t: Tensor, embeddings: Tensor, source: Tensor) -> Tensor:
        assert len(x_t) == len(t) and len(embeddings) % len(x_t) == 0
        batches.append((len(x_t), len(embeddings)))
        return predict(x_t, t, embeddings, source)

    monkeypatch.setattr(denoiser, "predict_noise", counted)
    return batches


@pytest.fixture
def encoded_batches(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of each batch of images that is encoded, as they happen."""
    shapes: list[tuple[int, ...]] = []
    encode = denoiser.encode_image

    def recorded(image: Tensor) -> Tensor:
        shapes.append(tuple(image.shape))
        return encode(image)

    monkeypatch.setattr(denoiser, "encode_image", recorded)
    return shapes


def analytic_guidance(**config: Any) -> tuple[Guidance, Denoiser, MixtureNetwork]:
    denoiser, network = mixture_denoiser({"": [[0.3, 0.1]], "one": [[-1.0, 0.0]], "two": [[1.0, 2.0]]}, std=0.5)
    guidance = Guidance(GuidanceConfig(**config), denoiser)
    guidance.set_prompts("one", "two")
    return guidance, denoiser, network


# --- the gradient -----------------------------------------------------------------------------------------


def test_gradient_is_the_formula_term_by_term() -> None:
    guidance, denoiser, _network = analytic_guidance(
        guidance_scale=5.0, text_weight=2.0, identity_weight=3.0, num_inference_steps=250
    )
    target, source, noise = torch.randn(3, 3, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor([30, 500, 970])
    terms = guidance.gradient_terms(target, source, t, noise)

    def prediction(x: Tensor, prompt: str) -> Tensor:
        x_t = denoiser.add_noise(x, noise, t)
        c, u = (denoiser.predict_noise(x_t, t, denoiser.encode_prompts([p] * 3)) for p in (prompt, ""))
        return u + 5.0 * (c - u)

    chi_t, psi_t = (w(denoiser.schedule, t, 4)[:, None, None, None] for w in (chi, psi))
    difference = prediction(target, "two") - prediction(source, "one")
    torch.testing.assert_close(terms.text, 2.0 * chi_t * difference)
    torch.testing.assert_close(terms.identity, 3.0 * psi_t * (target - source))
    assert terms.mask is None


def test_ssd_asks_for_the_latents_and_prompts_of_its_formula() -> None:
    guidance, denoiser, _network = analytic_guidance(objective="ssd", guidance_scale=3.0)
    target, source, noise = torch.randn(3, 2, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor([30, 600])
    terms = guidance.gradient_terms(target, source, t, noise)

    def prediction(x: Tensor, prompt: str) -> Tensor:
        return denoiser.predict_noise(denoiser.add_noise(x, noise, t), t, denoiser.encode_prompts([prompt] * 2))

    expected = (
        0.5 * 2.0 * (prediction(target, "one") - prediction(source, ""))
        + 0.5 * 3.0 * (prediction(target, "two") - prediction(target, "one"))
        + 5.5 * (prediction(target, "two") - prediction(target, ""))
    )
    torch.testing.assert_close(terms.text, expected)
    weight = 0.075 * (t.double() / 1000).exp() * denoiser.levels.alphas_cumprod[t].sqrt()
    torch.testing.assert_close(terms.identity, weight[:, None, None, None] * (target - source))


def test_lusd_gives_every_gradient_the_same_size() -> None:
    guidance, denoiser, _network = analytic_guidance(objective="lusd")
    target, source, noise = torch.randn(3, 2, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor([30, 600])
    terms = guidance.gradient_terms(target, source, t, noise, progress=0.5)
    x_t = denoiser.add_noise(target, noise, t)
    two, one = (denoiser.predict_noise(x_t, t, denoiser.encode_prompts([p] * 2)) for p in ("two", "one"))
    direction = 0.98 * (two - one) + 0.02 * (target - source)
    scale = 0.08 / direction.flatten(1).std(1)
    torch.testing.assert_close(terms.text + terms.identity, scale[:, None, None, None] * direction)


def test_gradients_of_no_size_stay_nothing(denoiser: Denoiser) -> None:
    guidance = guidance_of(denoiser, objective="lusd", text_weight=0.0)
    z = random(1, 4, 16, 16)
    assert torch.equal(guidance.latent_loss(z, z, 0.0).grad, torch.zeros_like(z))


@pytest.mark.parametrize("per_element", [False, True])
def test_samples_are_averaged(denoiser: Denoiser, count_calls: list[tuple[int, int]], per_element: bool) -> None:
    z, source = (random(2, 4, 16, 16, seed=seed) for seed in range(2))
    prompts = (["a cat", "a bird"], ["a dog", "a cat"]) if per_element else ("a cat", "a dog")
    guidance, other = (Guidance(GuidanceConfig(samples=3, localize=0.5), denoiser) for _ in range(2))
    guidance.set_prompts(*prompts)
    output = guidance.latent_loss(z, source, 0.0, keys=["a", "b"])
    assert count_calls == [(2 * 3 * 2, 2 * 3 * 4)] and output.t.shape == (2, 3) and output.grad.shape == z.shape
    t = other.draw_timesteps(6, 0.0)
    noise = torch.randn(6, 4, 16, 16, generator=other._draws.generator)
    gradients = []
    for i, key in enumerate("ab"):
        other.set_prompts(*((p[i] for p in prompts) if per_element else prompts))
        for j in range(3 * i, 3 * i + 3):
            terms = other.gradient_terms(z[i : i + 1], source[i : i + 1], t[j : j + 1], noise[j : j + 1], [key])
            gradients.append(terms.text + terms.identity)
    expected = torch.cat(gradients).unflatten(0, (2, 3)).mean(1)
    torch.testing.assert_close(output.grad, expected, rtol=1e-3, atol=1e-5)
    assert output.mask is not None and output.mask.shape == (2, 1, 16, 16)


def test_sds_compares_with_the_noise() -> None:
    guidance, denoiser, _network = analytic_guidance(objective="sds", guidance_scale=1.0)
    target, source, noise = torch.randn(3, 1, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor([400])
    terms = guidance.gradient_terms(target, source, t, noise)
    x_t = denoiser.add_noise(target, noise, t)
    predicted = denoiser.predict_noise(x_t, t, denoiser.encode_prompts(["two"]))
    torch.testing.assert_close(terms.text, (1 - denoiser.levels.alphas_cumprod[400]) * (predicted - noise))
    assert not terms.identity.any()


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_gradient_of_the_loss_on_the_latent_is_exactly_g(denoiser: Denoiser, objective: str) -> None:
    guidance = guidance_of(denoiser, objective=objective)
    z = (100 * random(2, 4, 16, 16)).requires_grad_()
    output = guidance.latent_loss(z, random(2, 4, 16, 16, seed=1), progress=0.3)
    output.loss.backward()
    assert z.grad is not None and torch.equal(z.grad, output.grad)
    assert not output.grad.requires_grad and output.grad.abs().max() > 0


def test_value_of_the_loss_is_half_the_squared_norm_of_g(denoiser: Denoiser) -> None:
    output = guidance_of(denoiser).latent_loss(random(2, 4, 16, 16), random(2, 4, 16, 16, seed=1), 0.0)
    torch.testing.assert_close(output.loss, output.grad.square().sum() / 2)


def test_gradient_on_the_image_is_g_through_the_encoder(denoiser: Denoiser) -> None:
    image = random(2, 3, 32, 32).requires_grad_()
    output = guidance_of(denoiser)(image, random(2, 3, 32, 32, seed=1), progress=0.0)
    (gradient,) = torch.autograd.grad(output.loss, image)
    (expected,) = torch.autograd.grad(denoiser.encode_image(image), image, output.grad)
    torch.testing.assert_close(gradient, expected)
    assert gradient.abs().max() > 0


def test_equal_images_have_no_identity_gradient(denoiser: Denoiser) -> None:
    image = random(1, 3, 32, 32)
    metrics = guidance_of(denoiser)(image, image, 0.0).metrics
    assert metrics["identity_gradient_rms"] == 0 and metrics["latent_change_rms"] == 0
    assert metrics["text_gradient_rms"] > 0


@pytest.mark.parametrize("objective", ["pds", "sds"])
def test_a_batch_is_its_elements_side_by_side(denoiser: Denoiser, objective: str) -> None:
    guidance = guidance_of(denoiser, objective=objective, localize=0.5 if objective == "pds" else 0.0)
    target, source, noise = (random(3, 4, 16, 16, seed=seed) for seed in range(3))
    t = torch.tensor([25, 400, 900])
    together = guidance.gradient_terms(target, source, t, noise)
    for i in range(3):
        one = slice(i, i + 1)
        alone = guidance.gradient_terms(target[one], source[one], t[one], noise[one])
        torch.testing.assert_close(together.text[one], alone.text, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(together.identity[one], alone.identity)


def test_each_element_gets_a_time_of_its_own(denoiser: Denoiser) -> None:
    output = guidance_of(denoiser).latent_loss(random(8, 4, 16, 16), random(8, 4, 16, 16), 0.0)
    assert output.t.unique().numel() > 4
    assert output.t.min() >= 20 and output.t.max() <= 980


@pytest.mark.parametrize(
    ("objective", "latents", "branches"),
    [("pds", 2, 4), ("dds", 2, 4), ("dreamcatalyst", 2, 4), ("sds", 1, 2), ("ssd", 4, 4), ("lusd", 1, 2)],
)
def test_one_call_of_the_unet(
    denoiser: Denoiser,
    count_calls: list[tuple[int, int]],
    objective: str,
    latents: int,
    branches: int,
) -> None:
    guidance_of(denoiser, objective=objective)(random(3, 3, 32, 32), random(3, 3, 32, 32), 0.0)
    assert count_calls == [(3 * latents, 3 * branches)]


def test_source_and_target_share_noise_and_time() -> None:
    guidance, _denoiser, network = analytic_guidance()
    x = torch.zeros(5, 2, 1, 1)
    guidance.latent_loss(x, x, 0.0)
    (x_t, t, condition) = network.calls[0]
    for quarter in range(4):
        part = slice(5 * quarter, 5 * quarter + 5)
        assert torch.equal(x_t[part], x_t[:5]) and torch.equal(t[part], t[:5])
    assert condition.tolist() == [2] * 5 + [1] * 5 + [0] * 10
    assert x_t[:5].std() > 0.3


def test_a_double_precision_model_works_in_double_precision(model_folder: Path) -> None:
    guidance = guidance_of(Denoiser.from_pretrained(str(model_folder), "cpu", torch.float64))
    image = random(1, 3, 32, 32).requires_grad_()
    output = guidance(image, random(1, 3, 32, 32, seed=1), 0.0)
    output.loss.backward()
    assert output.grad.dtype == torch.float64
    assert image.grad is not None and image.grad.dtype == torch.float32


def test_a_bfloat16_model_gives_float32_gradients_near_those_of_float32(model_folder: Path, denoiser: Denoiser) -> None:
    results = []
    for model in (denoiser, Denoiser.from_pretrained(str(model_folder), "cpu", torch.bfloat16)):
        results.append(guidance_of(model)(random(1, 3, 32, 32), random(1, 3, 32, 32, seed=1), 0.0).grad)
    assert results[1].dtype == torch.float32
    assert (results[1] - results[0]).norm() < 0.25 * results[0].norm()


def test_velocity_model_guides_too(velocity_model_folder: Path) -> None:
    guidance = guidance_of(Denoiser.from_pretrained(str(velocity_model_folder), "cpu", torch.float32))
    output = guidance(random(1, 3, 32, 32), random(1, 3, 32, 32, seed=1), 0.0)
    assert output.finite and output.grad.abs().max() > 0


def test_numbers_that_are_not_finite_are_reported(denoiser: Denoiser) -> None:
    guidance = guidance_of(denoiser)
    z = random(1, 4, 16, 16)
    assert bool(guidance.latent_loss(z, z, 0.0).finite)
    broken = z.clone()
    broken[0, 0, 0, 0] = torch.nan
    assert not bool(guidance.latent_loss(broken, z, 0.0).finite)


def test_metrics_are_scalars_without_graph(denoiser: Denoiser) -> None:
    z = random(1, 4, 16, 16).requires_grad_()
    output = guidance_of(denoiser).latent_loss(z, random(1, 4, 16, 16, seed=1), 0.0)
    assert all(value.ndim == 0 and not value.requires_grad for value in output.metrics.values())
    torch.testing.assert_close(output.metrics["gradient_rms"], output.grad.square().mean().sqrt())


# --- times and seeds --------------------------------------------------------------------------------------


def test_annealed_times_follow_progress(denoiser: Denoiser) -> None:
    guidance = guidance_of(denoiser, t_schedule="annealed", t_min=0.2, t_max=0.9)
    assert [guidance.draw_timesteps(2, p).tolist() for p in (0.0, 0.5, 1.0)] == [
        [900] * 2,
        [550] * 2,
        [200] * 2,
    ]
    guidance.reconfigure(t_power=2.0)
    assert guidance.draw_timesteps(2, 0.5).tolist() == [725] * 2
    guidance.reconfigure(t_jitter=0.1)
    assert guidance.draw_timesteps(50, 0.5).unique().numel() > 10


def run_of(guidance: Guidance, steps: int) -> list[GuidanceOutput]:
    z = random(2, 4, 16, 16)
    return [guidance.latent_loss(z, random(2, 4, 16, 16, seed=1), 0.0) for _ in range(steps)]


def test_seeds_repeat(denoiser: Denoiser) -> None:
    first, again, other = (run_of(guidance_of(denoiser, seed=seed), 2) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.grad, b.grad) and torch.equal(a.t, b.t)
    assert not torch.equal(first[0].grad, first[1].grad)
    assert not torch.equal(first[0].grad, other[0].grad)


def test_the_global_random_state_is_neither_used_nor_moved(denoiser: Denoiser) -> None:
    torch.manual_seed(0)
    first = run_of(guidance_of(denoiser), 1)[0]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(run_of(guidance_of(denoiser), 1)[0].grad, first.grad)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(denoiser: Denoiser, tmp_path: Path) -> None:
    whole = run_of(guidance_of(denoiser), 4)
    first_half = guidance_of(denoiser)
    run_of(first_half, 2)
    torch.save(first_half.state_dict(), tmp_path / "state.pt")
    second_half = guidance_of(denoiser, seed=99)
    second_half.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for resumed, expected in zip(run_of(second_half, 2), whole[2:], strict=True):
        assert torch.equal(resumed.grad, expected.grad)


def test_random_state_of_another_device_warns_and_changes_nothing(denoiser: Denoiser) -> None:
    guidance = guidance_of(denoiser)
    before = guidance.state_dict()["generator"].clone()
    with pytest.warns(UserWarning, match="another kind of device"):
        guidance.load_state_dict({"generator": torch.zeros(16, dtype=torch.uint8)})
    assert torch.equal(guidance.state_dict()["generator"], before)


# --- prompts ----------------------------------------------------------------------------------------------


def test_prompts_can_change_while_it_runs(denoiser: Denoiser) -> None:
    z, noise, t = random(1, 4, 16, 16), random(1, 4, 16, 16, seed=1), torch.tensor([500])
    guidance = guidance_of(denoiser)
    before = guidance.gradient_terms(z, z, t, noise).text
    guidance.set_prompts("a cat", "a bird")
    assert guidance.prompts == (["a cat"], ["a bird"])
    assert not torch.equal(guidance.gradient_terms(z, z, t, noise).text, before)
    guidance.set_prompts("a cat", " a dog ")
    assert torch.equal(guidance.gradient_terms(z, z, t, noise).text, before)


@pytest.mark.parametrize(("source", "target", "missing"), [("", "a", "source"), ("a", " ", "target")])
def test_empty_prompts_are_refused(denoiser: Denoiser, source: str, target: str, missing: str) -> None:
    with pytest.raises(UserError, match=f"The {missing} prompt is empty"):
        Guidance(GuidanceConfig(), denoiser).set_prompts(source, target)


def test_equal_prompts_warn_and_ask_for_nothing(denoiser: Denoiser) -> None:
    guidance = Guidance(GuidanceConfig(), denoiser)
    with pytest.warns(UserWarning, match="nothing to edit"):
        guidance.set_prompts("a cat", "a cat")
    z = random(1, 4, 16, 16)
    assert guidance.latent_loss(z, z, 0.0).grad.abs().max() < 1e-5


def test_a_step_without_prompts_is_refused(denoiser: Denoiser) -> None:
    z = random(1, 4, 16, 16)
    with pytest.raises(UserError, match="No prompts are set"):
        Guidance(GuidanceConfig(), denoiser).latent_loss(z, z, 0.0)


# --- images, keys and masks -------------------------------------------------------------------------------


def test_images_of_any_shape_are_shown_at_the_models_size(
    denoiser: Denoiser, encoded_batches: list[tuple[int, ...]]
) -> None:
    image = random(1, 3, 40, 90).requires_grad_()
    guidance_of(denoiser)(image, random(1, 3, 40, 90), 0.0).loss.backward()
    assert encoded_batches == [(1, 3, 20, 48)] * 2
    assert image.grad is not None and image.grad.shape == image.shape


def test_resolution_overrules_the_models_own(denoiser: Denoiser, encoded_batches: list[tuple[int, ...]]) -> None:
    guidance_of(denoiser, resolution=24)(random(1, 3, 60, 60), random(1, 3, 60, 60), 0.0)
    assert encoded_batches == [(1, 3, 24, 24)] * 2


def test_sources_with_keys_are_encoded_once(denoiser: Denoiser, encoded_batches: list[tuple[int, ...]]) -> None:
    guidance = guidance_of(denoiser)
    image, source = random(2, 3, 32, 32), random(2, 3, 32, 32, seed=1)
    outputs = [guidance(image, source, 0.0, keys=["a", "b"]) for _ in range(2)]
    assert len(encoded_batches) == 3
    torch.testing.assert_close(outputs[0].metrics["latent_change_rms"], outputs[1].metrics["latent_change_rms"])
    guidance.forget_sources()
    guidance(image, source, 0.0, keys=["a", "b"])
    assert len(encoded_batches) == 5


def test_a_cached_source_gives_the_gradient_of_a_fresh_one(denoiser: Denoiser) -> None:
    image, source = random(2, 3, 32, 32), random(2, 3, 32, 32, seed=1)
    keyed, fresh = guidance_of(denoiser), guidance_of(denoiser)
    for _ in range(2):
        expected = fresh(image, source, 0.0).grad
        torch.testing.assert_close(keyed(image, source, 0.0, keys=[("view", 1), ("view", 2)]).grad, expected)


def test_no_gradient_reaches_the_source(denoiser: Denoiser) -> None:
    image = random(1, 3, 32, 32).requires_grad_()
    source = random(1, 3, 32, 32).requires_grad_()
    guidance_of(denoiser)(image, source, 0.0).loss.backward()
    assert source.grad is None and image.grad is not None


def test_localize_masks_the_text_term_alone(denoiser: Denoiser) -> None:
    target, source, noise = (random(1, 4, 16, 16, seed=seed) for seed in range(3))
    t = torch.tensor([500])
    everywhere = guidance_of(denoiser).gradient_terms(target, source, t, noise)
    confined = guidance_of(denoiser, localize=1.0).gradient_terms(target, source, t, noise)
    half = guidance_of(denoiser, localize=0.5).gradient_terms(target, source, t, noise)
    assert confined.mask is not None and half.mask is not None
    assert confined.mask.shape == (1, 1, 16, 16) and confined.mask.min() < 0.9 and confined.mask.max() == 1
    torch.testing.assert_close(confined.text, everywhere.text * confined.mask)
    torch.testing.assert_close(half.mask, 0.5 + 0.5 * confined.mask)
    assert torch.equal(confined.identity, everywhere.identity)


def test_the_identity_term_may_let_go_inside_the_mask(denoiser: Denoiser) -> None:
    target, source, noise = (random(1, 4, 16, 16, seed=seed) for seed in range(3))
    t = torch.tensor([500])
    held, free = (
        guidance_of(denoiser, localize=1.0, identity_inside=share).gradient_terms(target, source, t, noise)
        for share in (1.0, 0.25)
    )
    assert held.mask is not None and 0 < held.mask.min() < held.mask.max()
    assert torch.equal(free.text, held.text)
    torch.testing.assert_close(free.identity, (1 - 0.75 * held.mask) * held.identity)
    unmasked = guidance_of(denoiser, identity_inside=0.25).gradient_terms(target, source, t, noise)
    assert torch.equal(unmasked.identity, held.identity)


class TestLook:
    """What is asked of a view before it is edited."""

    VIEW = random(1, 3, 32, 32, seed=3)

    def test_it_is_the_mean_of_masks_of_the_source_without_their_noise_floor(self, denoiser: Denoiser) -> None:
        guidance = guidance_of(denoiser, localize=0.8)
        seen = guidance.look(self.VIEW, looks=3, seed=7)
        source = denoiser.encode_image(self.VIEW)
        draws, raw = Draws(7, denoiser.device), []
        times = [guidance._times.draw(1, progress, draws.generator) for progress in (0, 0.5, 1)]
        for t in times:
            x_t = denoiser.add_noise(source, draws.noise(source), t)
            dog, cat = (denoiser.predict_noise(x_t, t, denoiser.encode_prompts([p])) for p in ("a dog", "a cat"))
            raw.append(difference_mask(dog - cat))
        torch.testing.assert_close(seen, 0.2 + 0.8 * sharpen(torch.cat(raw).mean(0, keepdim=True)), atol=1e-3, rtol=0)

    def test_neither_the_noise_of_the_edit_nor_its_masks_move_on(self, denoiser: Denoiser) -> None:
        guidance = guidance_of(denoiser, localize=1.0)
        before = guidance.state_dict()
        one, again = (guidance.look(self.VIEW, 2, seed=7, keys=["view"]) for _ in range(2))
        assert torch.equal(one, again) and not torch.equal(one, guidance.look(self.VIEW, 2, seed=8))
        after = guidance.state_dict()
        assert torch.equal(before["generator"], after["generator"]) and after["masks"] == []

    def test_calls_of_the_model_are_as_large_as_an_edits(
        self, denoiser: Denoiser, count_calls: list[tuple[int, int]]
    ) -> None:
        guidance = guidance_of(denoiser, localize=1.0, samples=3)
        guidance(self.VIEW, self.VIEW, 0.0)
        guidance.look(self.VIEW, looks=4, seed=0, batch=3)
        assert len(count_calls) == 3 and len(set(count_calls)) == 1

    def test_without_localize_it_is_everywhere(self, denoiser: Denoiser) -> None:
        assert torch.equal(guidance_of(denoiser).look(self.VIEW, 2, 0), torch.ones(1, 1, 16, 16))

    def test_predictions_that_are_not_finite_say_nothing(
        self, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guidance, predict, calls = guidance_of(denoiser, localize=1.0), denoiser.predict_noise, list[int]()
        whole = guidance.look(self.VIEW, looks=1, seed=7)

        def fails(*arguments: Any) -> Tensor:
            calls.append(0)
            answer = predict(*arguments)
            return answer if len(calls) == 1 else torch.full_like(answer, torch.nan)

        monkeypatch.setattr(denoiser, "predict_noise", fails)
        assert guidance.look(self.VIEW, looks=2, seed=7).isfinite().all()
        assert torch.equal(guidance.look(self.VIEW, looks=1, seed=7), torch.ones_like(whole))


def test_masks_of_a_view_are_averaged_over_the_steps_until_the_prompts_change(denoiser: Denoiser) -> None:
    guidance = guidance_of(denoiser, localize=1.0)
    z, source, t = random(1, 4, 16, 16), random(1, 4, 16, 16, seed=1), torch.tensor([500])

    def mask(seed: int, keys: list[str] | None) -> Tensor:
        result = guidance.gradient_terms(z, source, t, random(1, 4, 16, 16, seed=seed), keys).mask
        assert result is not None
        return result

    fresh = [mask(seed, None) for seed in (5, 6)]
    mask(5, ["view"])
    averaged = mask(6, ["view"])
    inside = (averaged > 0) & (averaged < 1)  # the noise floor is taken off the average, not averaged itself
    for one in fresh:
        inside &= (one > 0) & (one < 1)
    assert inside.sum() > 10
    torch.testing.assert_close(averaged[inside], torch.lerp(fresh[1], fresh[0], 0.9)[inside])
    torch.testing.assert_close(mask(6, ["other view"]), fresh[1])
    guidance.set_prompts("a dog", "a cat")
    guidance.set_prompts("a cat", "a dog")
    torch.testing.assert_close(mask(6, ["view"]), fresh[1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("image", "source", "keys", "message"),
    [
        ((1, 3, 32, 32), (1, 3, 32, 16), None, "must both be"),
        ((1, 4, 32, 32), (1, 4, 32, 32), None, "must both be"),
        ((3, 32, 32), (3, 32, 32), None, "must both be"),
        ((2, 3, 32, 32), (2, 3, 32, 32), ["a"], "1 keys for a batch of 2"),
    ],
)
def test_shapes_that_do_not_fit(
    denoiser: Denoiser,
    image: tuple[int, ...],
    source: tuple[int, ...],
    keys: list[str] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        guidance_of(denoiser)(random(*image), random(*source), 0.0, keys)


@pytest.mark.usefixtures("unchecked")
def test_latents_that_do_not_fit(denoiser: Denoiser) -> None:
    with pytest.raises(ValueError, match="latents differ in shape"):
        guidance_of(denoiser).latent_loss(random(1, 4, 16, 16), random(1, 4, 16, 8), 0.0)


def test_tiny_images_are_refused(denoiser: Denoiser) -> None:
    with pytest.raises(UserError, match="at least 16 pixels"):
        guidance_of(denoiser)(random(1, 3, 8, 32), random(1, 3, 8, 32), 0.0)


# --- configuration ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "magic"}, "no objective 'magic': choose pds, sds, dds, dreamcatalyst"),
        ({"t_schedule": "sideways"}, "no t_schedule 'sideways'"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"text_weight": -1.0}, "text_weight is -1.0"),
        ({"identity_weight": float("inf")}, "identity_weight is inf"),
        ({"identity_inside": 1.5}, "identity_inside is 1.5"),
        ({"t_jitter": 2.0}, "t_jitter is 2.0"),
        ({"localize": 1.5}, "localize is 1.5"),
        ({"localize": 0.5, "objective": "sds"}, "set localize to 0"),
        ({"resolution": -1}, "resolution is -1"),
        ({"samples": 0}, "samples is 0"),
        ({"t_power": 0.0}, "t_power is 0.0"),
        ({"localize_by": "magic"}, "no localize_by 'magic': choose difference or attention"),
        ({"cache_size": 0}, "cache_size is 0"),
        ({"t_min": 0.9, "t_max": 0.1}, "swap them"),
        ({"num_inference_steps": 5000}, "num_inference_steps is 5000"),
    ],
)
def test_bad_options_are_refused_in_one_line(denoiser: Denoiser, changes: Changes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Guidance(GuidanceConfig(**changes), denoiser)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "dreamcatalyst"},
        {"guidance_scale": 1.0},
        {"text_weight": 0.0},
        {"identity_weight": 0.0},
        {"num_inference_steps": 100},
        {"localize": 1.0},
        {"t_max": 0.1},
    ],
)
def test_options_take_effect_while_it_runs(denoiser: Denoiser, changes: Changes) -> None:
    changed, plain = guidance_of(denoiser), guidance_of(denoiser)
    changed.reconfigure(**changes)
    assert not torch.equal(run_of(changed, 1)[0].grad, run_of(plain, 1)[0].grad)


def test_dreamcatalyst_parameters_take_effect_while_it_runs(denoiser: Denoiser) -> None:
    changed, plain = (guidance_of(denoiser, objective="dreamcatalyst") for _ in range(2))
    run_of(changed, 1), run_of(plain, 1)
    changed.reconfigure(objective="dreamcatalyst,delta=0.05")
    assert not torch.equal(run_of(changed, 1)[0].grad, run_of(plain, 1)[0].grad)


def test_from_config_loads_the_model_without_a_sound(model_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = GuidanceConfig(model=str(model_folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guidance = Guidance.from_config(config, "cpu")
        half_config = dataclasses.replace(config, dtype="bfloat16", device="cpu")
        half = Guidance.from_config(half_config, "meta")
    assert capfd.readouterr() == ("", "")
    assert guidance.denoiser.device == torch.device("cpu") and network_of(guidance.denoiser).dtype == torch.float32
    assert half.denoiser.device == torch.device("cpu") and network_of(half.denoiser).dtype == torch.bfloat16
    assert network_of(half.denoiser)._autoencoder.vae.dtype == torch.bfloat16


def test_devices() -> None:
    assert resolve_device("auto", torch.device("meta")) == torch.device("meta")
    assert resolve_device("cpu", torch.device("meta")) == torch.device("cpu")
    for name in ("warp:9", "cuda:99"):
        with pytest.raises(UserError, match=f"no device '{name}'"):
            resolve_device(name, torch.device("cpu"))


def test_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    assert resolve_dtypes("auto", cpu) == (torch.float32, torch.float32)
    assert resolve_dtypes("float16", cpu) == (torch.float16, torch.float16)
    mixed = (torch.float16, torch.bfloat16)
    assert resolve_dtypes("mixed", cpu) == mixed
    for version, expected in (((7, 5), (torch.float32, torch.float32)), ((8, 0), mixed)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, version=version: version)
        assert resolve_dtypes("auto", cuda) == expected
    with pytest.raises(UserError, match="no dtype 'float8'"):
        resolve_dtypes("float8", cpu)


@pytest.mark.parametrize(
    ("choice", "device", "expected"),
    [("auto", "cuda", True), ("auto", "cpu", False), ("on", "cpu", True), ("off", "cuda", False)],
)
def test_what_is_compiled(monkeypatch: pytest.MonkeyPatch, choice: Any, device: str, expected: bool) -> None:
    asked: list[bool] = []

    def load(model: str, options_for: Callable[[torch.dtype], LoadOptions], config: str | None) -> Network:
        asked.append(options_for(torch.float16).compiled)
        return mixture_denoiser({"": [[0.0]]}, std=1.0)[0].network

    monkeypatch.setattr(guidance_module, "load_network", load)
    Guidance.from_config(GuidanceConfig(compile=choice, dtype="float32"), device)
    assert asked == [expected]


@pytest.mark.usefixtures("unchecked")
def test_no_such_choice_of_compiling() -> None:
    with pytest.raises(UserError, match="compile is 'maybe'"):
        GuidanceConfig(compile="maybe").check()  # type: ignore[arg-type]


# --- CUDA -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_never_waits_for_it(model_folder: Path) -> None:
    guidance = Guidance.from_config(GuidanceConfig(model=str(model_folder), localize=0.5), "cuda")
    guidance.set_prompts("a cat", "a dog")
    image = random(2, 3, 48, 48).cuda().requires_grad_()
    source = random(2, 3, 48, 48, seed=1).cuda()
    guidance(image, source, 0.0, keys=["a", "b"]).loss.backward()  # warm up: tables, caches, kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        guidance(image, source, 0.5, keys=["a", "b"]).loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert image.grad is not None and bool(image.grad.isfinite().all())


@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="a GPU's name must be one's that is there, or all are fake")
@pytest.mark.parametrize("where", ["cpu", "cuda:0"])
def test_the_model_may_be_on_a_second_gpu(model_folder: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one: fake tensors compute nothing, but refuse to mix devices as real ones do."""
    monkeypatch.setattr(redraw, "finite_or_before", lambda redrawn, before: redrawn)  # looks at their numbers
    denoiser = Denoiser.from_pretrained(str(model_folder), "cpu", torch.float32)
    guidance = guidance_of(denoiser, localize=1.0)
    second = torch.device("cuda:1")
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            network = network_of(denoiser)
            network.device = network._autoencoder._device = second
            denoiser.levels = Levels(denoiser.levels.alphas_cumprod.to(second))
            gradient = guidance._gradient
            gradient._text_weights = gradient._text_weights.to(second)
            gradient._identity_weights = gradient._identity_weights.to(second)
            for module in (network._model, network._autoencoder.vae):
                nn.Module.to(module, second)
            image, source = (
                torch.rand(1, 3, 48, 48, device=where).requires_grad_(),
                torch.rand(1, 3, 48, 48, device=where),
            )
            output = guidance(image, source, 0.3, keys=["a"])
            assert output.loss.device == image.device and output.loss.requires_grad
            assert output.grad.device == second and output.mask is not None and output.mask.device == second
            redrawn = guidance.redraw(image.detach(), source, RedrawConfig(), keys=["a"])
            assert redrawn.device == image.device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_image_may_be_on_another_device_than_the_model(model_folder: Path) -> None:
    guidance = Guidance.from_config(GuidanceConfig(model=str(model_folder), device="cuda"), "cpu")
    guidance.set_prompts("a cat", "a dog")
    image = random(1, 3, 32, 32).requires_grad_()
    output = guidance(image, random(1, 3, 32, 32, seed=1), 0.0)
    output.loss.backward()
    assert output.loss.device.type == "cpu" and output.grad.device.type == "cuda"
    assert image.grad is not None and image.grad.abs().max() > 0


class TestRedraw:
    """What a refinement fits a scene to."""

    def test_keeps_the_images_size_and_repeats_with_the_seed(self, denoiser: Denoiser) -> None:
        image, source = random(2, 3, 40, 56), random(2, 3, 40, 56, seed=1)
        results = [guidance_of(denoiser, seed=s).redraw(image, source, RedrawConfig()) for s in (0, 0, 1)]
        assert results[0].shape == image.shape and results[0].min() >= 0 and results[0].max() <= 1
        assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])

    def test_flowedit_from_the_source_is_the_edit_of_its_latents(self, denoiser: Denoiser) -> None:
        source, flow_edit = random(2, 3, 32, 48), FlowEditConfig("flowedit", steps=2)
        redrawn = guidance_of(denoiser).redraw(source, source, RedrawConfig(flow_edit=flow_edit))
        guidance = guidance_of(denoiser)
        size = guidance._encode.size(source)
        latents = guidance.flow_edit(denoiser.encode_image(resize(source, size)), flow_edit).run()
        torch.testing.assert_close(redrawn, resize(denoiser.decode_latents(latents), (32, 48)))
        sdedit = guidance_of(denoiser).redraw(source, source, RedrawConfig())
        assert (redrawn - sdedit).abs().max() > 0.01

    def test_flowedit_learns_the_masks_of_its_views_over_all_their_redrawings(self, denoiser: Denoiser) -> None:
        source, guidance = random(2, 3, 32, 48), guidance_of(denoiser, localize=1.0)
        redrawing, keys = RedrawConfig(flow_edit=FlowEditConfig("flowedit", steps=2)), ["a", "b"]
        guidance.redraw(source, source, redrawing)
        assert guidance.state_dict()["masks"] == [], "views without a key have no mask of their own"
        guidance.redraw(source, source, redrawing, keys)
        once = [mask for _, mask in guidance.state_dict()["masks"]]
        assert len(once) == 2 and all(0 <= mask.min() and mask.max() == 1 for mask in once)
        guidance.redraw(source, source, redrawing, keys)
        twice = [mask for _, mask in guidance.state_dict()["masks"]]
        moved = [(later - before).abs().max().item() for before, later in zip(once, twice, strict=True)]
        assert all(0 < change <= 1 - 0.9**2 for change in moved), "two steps, each a tenth"

    def test_a_round_trip_encodes_and_decodes_the_source(self, denoiser: Denoiser) -> None:
        source, guidance = random(2, 3, 40, 56), guidance_of(denoiser)
        latents = denoiser.encode_image(resize(source, guidance._encode.size(source)))
        torch.testing.assert_close(guidance.round_trip(source), resize(denoiser.decode_latents(latents), (40, 56)))

    def test_outside_the_learned_mask_the_source_is_put_back(self, denoiser: Denoiser) -> None:
        image, source = random(1, 3, 64, 64), random(1, 3, 64, 64, seed=1)
        guidance = guidance_of(denoiser, localize=1.0)
        whole = guidance.redraw(image, source, RedrawConfig(), keys=["new"])
        side = denoiser.resolution // denoiser.network.vae_scale_factor
        left = torch.zeros(1, 1, side, side)
        left[..., : side // 4] = 1
        guidance._masks.update([("seen", (1, side, side))], left)
        guidance.load_state_dict({"generator": torch.Generator().manual_seed(0).get_state()})
        parted = guidance.redraw(image, source, RedrawConfig(), keys=["seen"])
        assert torch.equal(parted[..., -16:], source[..., -16:])
        torch.testing.assert_close(parted[..., :4], whole[..., :4])


# --- a pair of prompts for each element -------------------------------------------------------------------


def test_each_element_may_have_its_own_prompts(denoiser: Denoiser) -> None:
    z, source, noise = (random(2, 4, 16, 16, seed=seed) for seed in range(3))
    t = torch.tensor([500, 300])
    guidance = Guidance(GuidanceConfig(), denoiser)
    guidance.set_prompts(["a cat", "a dog"], ["a dog", "a bird"])
    together = guidance.gradient_terms(z, source, t, noise)
    for i, pair in enumerate([("a cat", "a dog"), ("a dog", "a bird")]):
        guidance.set_prompts(*pair)
        alone = guidance.gradient_terms(z[i : i + 1], source[i : i + 1], t[i : i + 1], noise[i : i + 1])
        assert torch.allclose(together.text[i], alone.text[0], atol=1e-5)
        assert torch.allclose(together.identity[i], alone.identity[0], atol=1e-6)


def test_as_many_prompts_as_elements(denoiser: Denoiser) -> None:
    guidance = Guidance(GuidanceConfig(), denoiser)
    with pytest.raises(ValueError, match="zip"):
        guidance.set_prompts(["a cat", "a dog"], ["a bird"])
    guidance.set_prompts(["a cat", "a dog"], ["a dog", "a cat"])
    z = random(3, 4, 16, 16)
    with pytest.raises(ValueError, match="2 pairs of prompts for a batch of 3"):
        guidance.latent_loss(z, z, 0.0)


def test_the_default_of_gpus_computes_the_gradient_to_two_percent() -> None:
    """On the embedded model, which is trained: at random weights predictions hardly differ, and rounding is all."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, 16, 16, generator=rng)
    gradients = {}
    for name in ("float32", "mixed", "bfloat16"):
        dtype, vae_dtype = resolve_dtypes(name, torch.device("cpu"))
        denoiser = Denoiser.from_pretrained("toyworld", "cpu", dtype, vae_dtype=vae_dtype)
        guidance = Guidance(GuidanceConfig(), denoiser)
        guidance.set_prompts("a photo of a man in a blue shirt", "a photo of a man in a red shirt")
        image = torch.rand(1, 3, 128, 128, generator=rng.manual_seed(1))
        source = denoiser.encode_image(image)
        target = denoiser.encode_image(image.lerp(image.flip(3), 0.3))
        terms = [guidance.gradient_terms(target, source, torch.tensor([t]), noise) for t in (250, 750)]
        gradients[name] = torch.stack([term.text + term.identity for term in terms])
    exact = gradients.pop("float32")
    errors = {name: float((gradient - exact).norm() / exact.norm()) for name, gradient in gradients.items()}
    assert errors["mixed"] < 2e-2 < errors["bfloat16"]
