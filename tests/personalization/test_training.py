"""An adapter learns its lessons, is all that changes, and means in an edit what it meant in training."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.networks.loading import find_card, load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.personalization.lora import Lora, saver_of
from pds_nerfstudio.personalization.prior import draw_prior
from pds_nerfstudio.personalization.training import DreamBooth, Lesson, answer_loss, share_of_rate

CPU = torch.device("cpu")
PROMPT = "a photo of sks man"
KINDS = (
    "sd15",
    "sd21_v",
    "sdxl",
    "sd3",
    "flux_dev",
    "flux2_klein",
    "chroma",
    "z_image",
    "qwen_image",
    "sana_euler",
    "lumina2",
)
Folders = Callable[[str], Path]


def load(folder: Path, merged: bool = False, loras: tuple[str, ...] = ()) -> Denoiser:
    options = LoadOptions(CPU, torch.float32, torch.float32, merged=merged, loras=loras)
    return Denoiser(load_network(str(folder), lambda half: options))


def random_latents(denoiser: Denoiser, count: int = 1) -> Tensor:
    network = denoiser.network
    side = 2 * network.size_multiple // network.vae_scale_factor
    return Draws(5, CPU).noise(torch.empty(count, network.latent_channels, side, side))


def fixed_loss(denoiser: Denoiser) -> Tensor:
    """The loss of one batch that stays the same."""
    x = random_latents(denoiser, 4)
    noise, t = Draws(6, CPU).noise(x), denoiser.schedule.reference_times[torch.tensor([100, 300, 600, 900])]
    return answer_loss(denoiser, x[:1].expand_as(x), denoiser.encode_prompts([PROMPT] * 4), noise, t)


def train(denoiser: Denoiser, steps: int, seed: int = 0, recompute: bool = False) -> Lora:
    lora = Lora(denoiser.network, rank=4, seed=seed, recompute=recompute)
    lessons = [Lesson("subject", [random_latents(denoiser)], PROMPT)]
    training = DreamBooth(denoiser, lora.parameters, lessons, Draws(seed, CPU), steps, 1e-2, samples=2)
    for _ in range(steps):
        training.step()
    return lora


def model_of(denoiser: Denoiser) -> Any:
    network: Any = denoiser.network
    return network.adaptable_model


def own_weights(denoiser: Denoiser) -> Iterator[tuple[str, Tensor]]:
    """The weights that a model came with, by their names before it was given an adapter."""
    for name, weight in model_of(denoiser).state_dict().items():
        if "lora_" not in name:
            yield name.replace(".base_layer", ""), weight


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learnt_is_in_the_file_and_nothing_else_has_changed(
    kind: str, tiny_model: Folders, tmp_path: Path
) -> None:
    folder, file = tiny_model(kind), tmp_path / "lora.safetensors"
    denoiser = load(folder)
    before = {name: weight.clone() for name, weight in own_weights(denoiser)}
    untrained = fixed_loss(denoiser)
    lora = train(denoiser, 12)
    trained = fixed_loss(denoiser)
    lora.save(file, find_card(str(folder)))

    assert trained < untrained - 1e-3
    for name, weight in own_weights(denoiser):
        assert torch.equal(weight, before.pop(name)), name
    assert not before
    edits_with = load(folder, merged=True, loras=(str(file),))
    torch.testing.assert_close(answers(edits_with), answers(denoiser), rtol=1e-4, atol=1e-4)
    assert (answers(edits_with) - answers(load(folder, merged=True))).abs().max() > 1e-2


def answers(denoiser: Denoiser) -> Tensor:
    """What a model sees in a fixed latent."""
    t = denoiser.schedule.reference_times[torch.tensor([600])]
    return denoiser.predict_noise(random_latents(denoiser), t, denoiser.encode_prompts([PROMPT]))


@pytest.mark.parametrize("kind", ["sd15", "flux_dev"])
def test_the_same_seed_repeats_and_another_does_not(kind: str, tiny_model: Folders) -> None:
    one, same, other = (train(load(tiny_model(kind)), 3, seed).layers() for seed in (1, 1, 2))
    for name, layer in one.items():
        assert torch.equal(layer, same[name])
        assert not torch.equal(layer, other[name])


def test_random_numbers_of_the_caller_stay_unused(tiny_model: Folders) -> None:
    denoiser = load(tiny_model("sd15"))
    state = torch.get_rng_state()
    train(denoiser, 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["sd15", "sd3"])
def test_recomputing_changes_nothing_but_time_and_memory(kind: str, tiny_model: Folders) -> None:
    plain, recomputed = (train(load(tiny_model(kind)), 2, recompute=again).layers() for again in (False, True))
    for name, layer in plain.items():
        torch.testing.assert_close(recomputed[name], layer, rtol=1e-3, atol=1e-5)


def test_an_adapter_stays_precise_in_a_model_of_16_bits(tiny_model: Folders) -> None:
    options = LoadOptions(CPU, torch.bfloat16, torch.bfloat16, merged=False)
    denoiser = Denoiser(load_network(str(tiny_model("sd15")), lambda half: options))
    lora = train(denoiser, 1)
    assert {parameter.dtype for parameter in lora.parameters} == {torch.float32}
    assert {weight.dtype for _, weight in own_weights(denoiser)} == {torch.bfloat16}


def test_a_lesson_counts_by_its_weight(tiny_model: Folders) -> None:
    """One of weight 0 has no say; its loss is told all the same."""
    layers = []
    for others in (random_latents, lambda denoiser: 3 * random_latents(denoiser)):
        denoiser = load(tiny_model("sd15"))
        lora = Lora(denoiser.network, rank=2, seed=0)
        lessons = [
            Lesson("subject", [random_latents(denoiser)], PROMPT),
            Lesson("prior", [others(denoiser)], "a photo of a man", weight=0.0),
        ]
        training = DreamBooth(denoiser, lora.parameters, lessons, Draws(0, CPU), 2, 1e-2)
        reports = [training.step() for _ in range(2)]
        assert [{*report.metrics} for report in reports] == [{"subject", "prior"}] * 2
        layers.append(lora.layers())
    assert all(torch.equal(layer, layers[1][name]) for name, layer in layers[0].items())


def test_a_loss_that_is_not_finite_is_skipped(tiny_model: Folders) -> None:
    denoiser = load(tiny_model("sd15"))
    lora = Lora(denoiser.network, rank=2, seed=0)
    lessons = [Lesson("subject", [torch.full_like(random_latents(denoiser), torch.nan)], PROMPT)]
    report = DreamBooth(denoiser, lora.parameters, lessons, Draws(0, CPU), 1, 1e-2).step()
    assert report.skipped
    assert all(bool(parameter.isfinite().all()) for parameter in lora.parameters)


@pytest.mark.parametrize("kind", ["sd15", "flux_dev"])
def test_the_prior_is_drawn_by_the_model_before_it_is_trained(kind: str, tiny_model: Folders) -> None:
    """With an adapter that is not trained, as without any; each latent another, and in the size asked for."""
    drawn = []
    for adapted in (False, True):
        denoiser = load(tiny_model(kind))
        if adapted:
            Lora(denoiser.network, rank=2, seed=0)
        side = 2 * denoiser.size_multiple
        drawn.append(torch.cat(list(draw_prior(denoiser, "a photo of a man", 2, side + 1, 3, Draws(0, CPU)))))
        assert drawn[-1].shape[-1] * denoiser.network.vae_scale_factor == side
    torch.testing.assert_close(drawn[1], drawn[0])
    assert bool(drawn[0].isfinite().all())
    assert not torch.allclose(drawn[0][0], drawn[0][1])


@pytest.mark.parametrize("kind", ["flux_kontext", "sd_ip2p", "sdxl_inpaint"])
def test_models_that_look_at_the_source_are_refused(kind: str, tiny_model: Folders) -> None:
    with pytest.raises(UserError, match=r"looks at a source picture.*: choose a text-to-image model"):
        Lora(load(tiny_model(kind)).network, rank=2, seed=0)


def test_a_model_that_diffusers_saves_no_lora_for_is_refused(tiny_model: Folders) -> None:
    with pytest.raises(UserError, match=r"PixArtSigmaPipeline, which no LoRA can be saved for: choose"):
        saver_of(find_card(str(tiny_model("pixart_sigma"))))


@pytest.mark.parametrize("steps", [10, 40, 500])
def test_the_learning_rate_rises_then_falls_evenly(steps: int) -> None:
    shares = [share_of_rate(done, steps) for done in range(steps + 1)]
    highest = shares.index(max(shares))
    assert shares[highest] == 1 and highest < max(steps // 10, 1) + 1
    assert all(share > 0 for share in shares)
    falls = [before - after for before, after in zip(shares[highest + 1 : -2], shares[highest + 2 : -1], strict=True)]
    assert falls == pytest.approx([1 / max(steps - 20, steps * 9 // 10)] * len(falls))
