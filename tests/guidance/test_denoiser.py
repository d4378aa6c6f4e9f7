"""A diffusers pipeline behind one noise prediction."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.stable_diffusion import StableDiffusion
from tests.guidance.miniature import load_pipeline, network_of

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser_of(pipeline: Any, dtype: torch.dtype = torch.float32, **changes: Any) -> Denoiser:
    names = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    parts = {name: changes.get(name, getattr(pipeline, name)) for name in names}
    return Denoiser(StableDiffusion(**parts, device=CPU, dtype=dtype, vae_dtype=dtype))


def test_sizes_are_read_from_the_model(denoiser: Denoiser) -> None:
    assert denoiser.network.latent_channels == 4
    assert denoiser.network.vae_scale_factor == 2
    assert denoiser.size_multiple == 4
    assert denoiser.resolution == 32
    assert denoiser.schedule.num_steps == 1000


def test_latents_and_images_fit(denoiser: Denoiser) -> None:
    latents = denoiser.encode_image(random(2, 3, 32, 40))
    assert latents.shape == (2, 4, 16, 20)
    image = denoiser.decode_latents(latents)
    assert image.shape == (2, 3, 32, 40) and image.min() >= 0 and image.max() <= 1


def test_prediction_is_that_of_the_unet(model_folder: Path) -> None:
    pipeline = load_pipeline(model_folder)
    x_t, t, embeddings = random(3, 4, 16, 16), torch.tensor([20, 500, 980]), random(3, 16, 16)
    with torch.no_grad():
        expected = pipeline.unet(x_t, t, encoder_hidden_states=embeddings).sample
    torch.testing.assert_close(denoiser_of(pipeline).predict_noise(x_t, t, embeddings), expected)


def test_nothing_learns_and_nothing_lands_in_a_checkpoint(model_folder: Path) -> None:
    pipeline = load_pipeline(model_folder)
    denoiser = denoiser_of(pipeline)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert not module.training and not any(p.requires_grad for p in module.parameters())
    holder = nn.Module()
    holder.denoiser = denoiser  # type: ignore[assignment]
    assert not holder.state_dict() and not list(holder.parameters())


def test_no_graph_through_the_unet(denoiser: Denoiser) -> None:
    x_t = random(1, 4, 16, 16).requires_grad_()
    assert not denoiser.predict_noise(x_t, torch.tensor([500]), random(1, 16, 16)).requires_grad


def test_encoding_is_differentiable_and_repeats(denoiser: Denoiser) -> None:
    image = random(1, 3, 32, 32).requires_grad_()
    latents = denoiser.encode_image(image)
    (gradient,) = torch.autograd.grad(latents.square().sum(), image)
    assert gradient.abs().max() > 0
    assert torch.equal(latents, denoiser.encode_image(image))


def test_encoding_has_the_right_gradient(model_folder: Path) -> None:
    denoiser = Denoiser.from_pretrained(str(model_folder), CPU, torch.float64)
    image, direction = random(1, 3, 32, 32).double().requires_grad_(), random(1, 3, 32, 32, seed=1).double()
    (gradient,) = torch.autograd.grad(denoiser.encode_image(image).sin().sum(), image)
    step = 1e-5 * direction
    with torch.no_grad():
        ends = [denoiser.encode_image(image + sign * step).sin().sum() for sign in (1, -1)]
    torch.testing.assert_close((gradient * direction).sum(), (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shift", [None, 0.3])
def test_latents_are_shifted_and_scaled_modes(
    own_model_folder: Path, edit_json: Callable[..., None], shift: float | None
) -> None:
    edit_json(own_model_folder / "vae" / "config.json", scaling_factor=0.7, shift_factor=shift)
    denoiser = Denoiser.from_pretrained(str(own_model_folder), CPU, torch.float32)
    vae = load_pipeline(own_model_folder).vae
    image = random(1, 3, 32, 32)
    with torch.no_grad():
        mean = vae.encode(image * 2 - 1).latent_dist.mean
        torch.testing.assert_close(denoiser.encode_image(image), (mean - (shift or 0.0)) * 0.7)
        decoded = (vae.decode(mean).sample / 2 + 0.5).clamp(0, 1)
        latents = (mean - (shift or 0.0)) * 0.7
    torch.testing.assert_close(denoiser.decode_latents(latents), decoded, rtol=1e-4, atol=1e-5)


def test_noise_is_added_to_each_element_at_its_own_time(denoiser: Denoiser) -> None:
    x, noise, t = random(2, 4, 16, 16), random(2, 4, 16, 16, seed=1), torch.tensor([30, 700])
    noisy = denoiser.add_noise(x, noise, t)
    for index in range(2):
        alpha_bar = float(denoiser.schedule.alphas_cumprod[t[index]])
        expected = alpha_bar**0.5 * x[index] + (1 - alpha_bar) ** 0.5 * noise[index]
        torch.testing.assert_close(noisy[index], expected)


class FixedOutput(nn.Module):
    """A UNet that answers what it is told to."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output
        self.config = SimpleNamespace(block_out_channels=(8, 16), sample_size=16)

    def fuse_qkv_projections(self) -> None:
        """It has none."""

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.output)


def test_exact_velocity_gives_the_noise_that_was_added(velocity_model_folder: Path) -> None:
    pipeline = load_pipeline(velocity_model_folder)
    x, noise, t = random(3, 4, 16, 16), random(3, 4, 16, 16, seed=1), torch.tensor([20, 500, 980])
    alpha_bar = denoiser_of(pipeline).levels.alphas_cumprod[t][:, None, None, None]
    velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x
    denoiser = denoiser_of(pipeline, unet=FixedOutput(velocity))
    predicted = denoiser.predict_noise(denoiser.add_noise(x, noise, t), t, random(3, 16, 16))
    torch.testing.assert_close(predicted, noise, rtol=1e-5, atol=1e-5)


def test_velocity_model_implies_the_clean_latent_that_diffusers_says(velocity_model_folder: Path) -> None:
    pipeline = load_pipeline(velocity_model_folder)
    denoiser = denoiser_of(pipeline)
    assert denoiser.network.parametrization == "velocity"
    x_t, t, embeddings = random(1, 4, 16, 16), torch.tensor([300]), random(1, 16, 16)
    predicted = denoiser.predict_noise(x_t, t, embeddings)
    with torch.no_grad():
        velocity = pipeline.unet(x_t, t, encoder_hidden_states=embeddings).sample
    pipeline.scheduler.set_timesteps(10)
    x_0 = pipeline.scheduler.step(velocity, 300, x_t).pred_original_sample
    alpha_bar = denoiser.levels.alphas_cumprod[300]
    from_x_0 = (x_t - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()
    torch.testing.assert_close(predicted, from_x_0, rtol=1e-4, atol=1e-4)


def test_other_prediction_types_are_refused(own_model_folder: Path, edit_json: Callable[..., None]) -> None:
    edit_json(own_model_folder / "scheduler" / "scheduler_config.json", prediction_type="sample")
    with pytest.raises(UserError, match="predicts 'sample'"):
        Denoiser.from_pretrained(str(own_model_folder), CPU, torch.float32)


def test_oblong_sample_size(model_folder: Path) -> None:
    unet = FixedOutput(torch.zeros(1))
    unet.config.sample_size = (16, 24)
    assert denoiser_of(load_pipeline(model_folder), unet=unet).resolution == 32


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float64, 1e-4)])
def test_precisions_agree_and_results_have_at_least_float32(
    model_folder: Path, denoiser: Denoiser, dtype: torch.dtype, tolerance: float
) -> None:
    other = Denoiser.from_pretrained(str(model_folder), CPU, dtype)
    image, x_t, t = random(1, 3, 32, 32), random(1, 4, 16, 16), torch.tensor([400])
    results = []
    for model in (denoiser, other):
        embeddings = model.encode_prompts(["a cat"])
        assert embeddings.dtype == network_of(model).dtype
        latents = model.encode_image(image)
        results.append((latents, model.predict_noise(x_t, t, embeddings), model.decode_latents(latents)))
    for expected, result in zip(*results, strict=True):
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        scale = float(expected.abs().max())
        torch.testing.assert_close(result.float(), expected, rtol=0, atol=tolerance * scale)


def test_the_callers_autocast_does_not_reach_inside(denoiser: Denoiser) -> None:
    image, x_t, t = random(1, 3, 32, 32), random(1, 4, 16, 16), torch.tensor([400])
    embeddings = denoiser.encode_prompts(["a cat"])
    expected = (denoiser.encode_image(image), denoiser.predict_noise(x_t, t, embeddings))
    with torch.autocast("cpu", torch.bfloat16):
        results = (denoiser.encode_image(image), denoiser.predict_noise(x_t, t, embeddings))
    for one, other in zip(expected, results, strict=True):
        assert torch.equal(one, other)


def test_words_the_model_was_not_trained_with(own_model_folder: Path) -> None:
    (own_model_folder / "words.txt").write_text("a\ncat\n")
    denoiser = Denoiser.from_pretrained(str(own_model_folder), CPU, torch.float32)
    with pytest.warns(UserWarning, match="zebra"):
        denoiser.encode_prompts(["a zebra"])
