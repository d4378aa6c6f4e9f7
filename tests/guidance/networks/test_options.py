"""What people may say about how a network is loaded and asked, and what each saying does."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pds_nerfstudio.guidance.config import GuidanceConfig, load_options
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.loading import load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from tests.guidance.networks.test_architectures import CPU, PROMPT, SIDE, ask, noisy, random_picture, run_pipeline
from tests.guidance.networks.test_loading import refusal

Tiny = Callable[[str], Path]
TARGET = "a photo of a clown in a park"


def load(model: Path | str, **options: Any) -> Any:
    return load_network(str(model), lambda half: LoadOptions(CPU, torch.float32, torch.float32, **options))


def gradient(folder: Path, **options: Any) -> Tensor:
    """The gradient of a first step, whose noise and time are always the same."""
    config = GuidanceConfig(model=str(folder), resolution=SIDE, device="cpu", **options)
    guidance = Guidance.from_config(config, CPU)
    guidance.set_prompts(PROMPT, TARGET)
    image = random_picture()
    return guidance.image_gradient(image.flip(3), image, 0.5, keys=["view"])[0]


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "sd3"])
def test_a_negative_prompt_takes_the_place_of_none(kind: str, tiny_model: Tiny) -> None:
    def step(scale: float, negative: str) -> Tensor:
        return gradient(tiny_model(kind), objective="sds", guidance_scale=scale, negative_prompt=negative)

    # Guidance leads from the negative prompt to the target: nowhere, if they are equal.
    unguided = step(1.0, "")
    torch.testing.assert_close(step(5.0, TARGET), unguided, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(step(5.0, ""), unguided, rtol=1e-2)
    assert not torch.allclose(step(5.0, PROMPT), step(5.0, ""), rtol=1e-2)


@pytest.mark.parametrize(
    ("kind", "scale"),
    {
        "sd15": 7.5,
        "sd_turbo": 1.0,
        "sdxl": 7.5,
        "sdxl_turbo": 1.0,
        "sdxl_lightning": 1.0,
        "sd3": 7.0,
        "flux_dev": 1.0,
        "flux_schnell": 1.0,
        "flux2_dev": 1.0,
        "pixart_sigma": 4.5,
    }.items(),
)
def test_no_scale_is_the_models_own(kind: str, scale: float, tiny_model: Tiny) -> None:
    assert load(tiny_model(kind)).guidance_scale == scale
    assert torch.equal(gradient(tiny_model(kind)), gradient(tiny_model(kind), guidance_scale=scale))


@pytest.mark.parametrize("kind", ["sd3", "z_image"])
def test_a_flow_that_is_called_turbo_has_none(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    turbo = shutil.copytree(tiny_model(kind), tmp_path / f"{kind}-Turbo")
    assert load(tiny_model(kind)).guidance_scale > load(turbo).guidance_scale == 1


@pytest.mark.parametrize("kind", ["sd_turbo", "sdxl_turbo", "flux_schnell"])
def test_guiding_a_model_that_was_distilled_to_do_without_gets_a_warning(kind: str, tiny_model: Tiny) -> None:
    with pytest.warns(UserWarning, match="guidance_scale is 7.5, and the model was distilled to do without"):
        gradient(tiny_model(kind), guidance_scale=7.5)


def answer(folder: Path, **options: Any) -> Tensor:
    network = load(folder, **options)
    return ask(network, noisy(network), torch.tensor([0.7]), [PROMPT])


@torch.no_grad()
@pytest.mark.parametrize(("kind", "own"), [("flux_dev", 3.5), ("flux_kontext", 2.5), ("flux2_dev", 4.0)])
def test_models_distilled_for_a_guidance_take_it(kind: str, own: float, tiny_model: Tiny) -> None:
    folder = tiny_model(kind)
    assert torch.equal(answer(folder), answer(folder, distilled_guidance=own))
    assert not torch.allclose(answer(folder), answer(folder, distilled_guidance=1.5))


@torch.no_grad()
def test_a_distilled_guidance_is_the_pipelines(tiny_model: Tiny) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    network = load(tiny_model("flux_dev"), distilled_guidance=1.5)
    z = noisy(network)
    stepped = z - 0.7 * ask(network, z, torch.tensor([0.7]), [PROMPT])
    options = {"guidance_scale": 1.5, "sigmas": [0.7]}
    expected = run_pipeline(network, "flux_dev", z, FlowMatchEulerDiscreteScheduler(), options)
    torch.testing.assert_close(stepped, expected, rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flux_schnell", "flux2_klein"])
def test_others_have_no_use_for_it(kind: str, tiny_model: Tiny) -> None:
    assert torch.equal(answer(tiny_model(kind)), answer(tiny_model(kind), distilled_guidance=1.5))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd_ip2p", "sdxl_ip2p"])
@pytest.mark.parametrize("image_scale", [1.0, 1.5, 4.0])
def test_guidance_by_the_picture_and_the_text_is_the_pipelines(kind: str, image_scale: float, tiny_model: Tiny) -> None:
    """Brooks et al. 2023, equation 3, whichever prompts are asked for together."""
    from diffusers import DDIMScheduler

    network = load(tiny_model(kind), image_guidance=image_scale)
    options = {"steps_offset": 500, "timestep_spacing": "leading", "clip_sample": False}
    scheduler = DDIMScheduler.from_config(network._pipeline.scheduler.config, **options)
    z, power = noisy(network), scheduler.alphas_cumprod[500]
    _, none, text = ask(network, z, torch.tensor([500]), ["another", None, PROMPT])[:, None]
    noise = none + 3 * (text - none)
    scales = {"guidance_scale": 3.0, "image_guidance_scale": image_scale}
    expected = run_pipeline(network, kind, z, scheduler, scales)
    torch.testing.assert_close((z - (1 - power).sqrt() * noise) / power.sqrt(), expected, rtol=0, atol=2e-4)


def test_guidance_by_the_picture_is_an_option(tiny_model: Tiny) -> None:
    folder = tiny_model("sd_ip2p")
    assert torch.equal(gradient(folder), gradient(folder, image_guidance_scale=1.0))
    # It is linear: what a scale adds, one more adds again.
    none, once, twice = (gradient(folder, image_guidance_scale=scale) for scale in (1.0, 2.0, 3.0))
    assert not torch.allclose(none, once, rtol=1e-2)
    torch.testing.assert_close(twice - once, once - none, rtol=1e-2, atol=1e-2 * float((once - none).abs().max()))


LENGTHS = {
    "sdxl": 77,
    "sd_inpaint": 77,
    "sd3_no_t5": 77,
    "sd3": 256,
    "flux_dev": 512,
    "chroma": 512,
    "pixart_sigma": 300,
}
"""Tokens that the encoder reads which reads the most."""


@torch.no_grad()
@pytest.mark.parametrize("kind", LENGTHS)
def test_what_is_said_to_be_cut_off_is_what_no_encoder_reads(
    kind: str, tiny_model: Tiny, capfd: pytest.CaptureFixture[str]
) -> None:
    network = load(tiny_model(kind))
    prompt = "ab " + "c " * LENGTHS[kind] + "dog"  # a token for each letter, and for T5 for each space: no word is torn
    capfd.readouterr()
    with pytest.warns(UserWarning, match="longer than the model reads; cut off: '.* dog'") as caught:
        cut = network.condition([prompt])
    assert len(caught) == 1 and capfd.readouterr() == ("", "")
    lost = str(caught[0].message).split("'")[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.condition([prompt])  # which was said already
        fitting = network.condition([prompt.strip().removesuffix(lost)])
        shorter = network.condition([prompt.strip().removesuffix(lost).strip()[:-1]])
    assert cut.keys() == fitting.keys()
    for name in cut:
        torch.testing.assert_close(cut[name], fitting[name])
    assert any(not torch.allclose(cut[name], shorter[name]) for name in cut)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["z_image", "lumina2", "sana", "qwen_image", "flux2_klein"])
def test_language_models_say_what_they_cannot_read(kind: str, tiny_model: Tiny) -> None:
    network = load(tiny_model(kind))
    with pytest.warns(UserWarning, match="longer than the model reads; cut off: '.*dog'") as caught:
        network.condition(["ab " * 1100 + "dog"])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.condition(["a photo of a man in a park. " * 3])


@torch.no_grad()
@pytest.mark.parametrize("model", ["toyworld", "toyworld-flow"])
def test_the_embedded_models_name_the_words_that_they_do_not_know(model: str) -> None:
    network = load(model)
    with pytest.warns(UserWarning, match="cannot follow them: gnu, zebra.$"):
        network.condition(["a gnu and a Zebra"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.condition(["a gnu and a Zebra", "", None])


Moves = list[tuple[str, str]]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    """Text encoders that are sent to devices, and where: they don't go."""
    moves: Moves = []

    def note(self: nn.Module, device: torch.device | str) -> nn.Module:
        moves.append((type(self).__name__, str(device)))
        return self

    from transformers import CLIPTextModel, T5EncoderModel

    for encoder in (CLIPTextModel, T5EncoderModel):
        monkeypatch.setattr(encoder, "to", note)
    return moves


def test_text_encoders_visit_the_device_for_prompts_only(tiny_model: Tiny, moves: Moves) -> None:
    network = load(tiny_model("flux_dev"))
    network.device = torch.device("cuda", 1)
    moves.clear()
    with network._text_encoders():
        assert sorted(moves) == [("CLIPTextModel", "cuda:1"), ("T5EncoderModel", "cuda:1")]
        moves.clear()
    assert sorted(moves) == [("CLIPTextModel", "cpu"), ("T5EncoderModel", "cpu")]


def test_text_encoders_leave_the_device_when_one_fails(
    tiny_model: Tiny, moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(prompt: str | None) -> Any:
        moves.clear()
        raise RuntimeError("out of memory")

    network = load(tiny_model("flux_dev"))
    network.device = torch.device("cuda", 1)
    monkeypatch.setattr(network, "_embed", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        network.condition([PROMPT])
    assert sorted(moves) == [("CLIPTextModel", "cpu"), ("T5EncoderModel", "cpu")]


@torch.no_grad()
def test_text_encoders_stay_where_they_are_for_prompts_that_were_met(tiny_model: Tiny, moves: Moves) -> None:
    network = load(tiny_model("flux_dev"))
    network.condition([PROMPT])
    assert moves
    moves.clear()
    network.condition([PROMPT, PROMPT])
    assert not moves


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd15", "sdxl", "flux_dev"])
def test_a_network_that_waits_elsewhere_answers_the_same(kind: str, tiny_model: Tiny) -> None:
    network, waiting = load(tiny_model(kind)), load(tiny_model(kind), offload=True)
    z, time = noisy(network), torch.tensor([500 if kind.startswith("sd") else 0.7])
    torch.testing.assert_close(ask(waiting, z, time, [PROMPT]), ask(network, z, time, [PROMPT]))


def test_weights_cannot_wait_elsewhere_on_a_cpu() -> None:
    message = refusal(lambda: load_options(GuidanceConfig(offload=True), CPU, torch.float16))
    assert message.startswith("offload") and message.endswith("leave it off.")
