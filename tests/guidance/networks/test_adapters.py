"""What people bring to a model: adaptations, learned words and autoencoders, each against diffusers' own pipeline."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pds_nerfstudio.guidance.networks import adapters
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.loading import load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from tests.guidance.networks.test_architectures import CPU, PROMPT, ask, noisy, random_picture, run_pipeline
from tests.guidance.networks.test_loading import refusal

Tiny = Callable[[str], Path]
State = dict[str, Tensor]

SCALES = {"sd15": 1.0, "sdxl": 1.0, "sd3": 0.0, "flux_dev": 3.5}
"""What a pipeline is given as its guidance scale, so that it asks the network once."""
TEXT = {"sd15": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2"), "sd3": (), "flux_dev": ()}
"""Text encoders that the LoRAs of these tests change too."""


def load(folder: Path, **options: Any) -> Any:
    return load_network(str(folder), lambda half: LoadOptions(CPU, torch.float32, torch.float32, **options))


def own_pipeline(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    with quiet_libraries(progress_bars=False):
        return DiffusionPipeline.from_pretrained(folder)


def adapted(pipeline: Any, kind: str) -> Iterator[tuple[str, str, nn.Linear]]:
    """The layers that LoRAs are made for: part, name and layer."""
    for part in ("unet" if hasattr(pipeline, "unet") else "transformer", *TEXT[kind]):
        for name, layer in getattr(pipeline, part).named_modules():
            if name.endswith(("to_q", "to_v", "q_proj", "out_proj")):
                yield part, name, layer


def pairs(pipeline: Any, kind: str, seed: int) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    """For each adapted layer its part, its name, and two random factors of rank 2."""
    generator = torch.Generator().manual_seed(seed)
    for part, name, layer in adapted(pipeline, kind):
        down = torch.randn(2, layer.in_features, generator=generator)
        up = torch.randn(layer.out_features, 2, generator=generator)
        if part != "unet" and TEXT[kind]:  # as files have it, whether transformers still has it in between or not
            name = "text_model." + name.removeprefix("text_model.")
        yield part, name, 0.2 * down, 0.2 * up


def of_diffusers(pipeline: Any, kind: str, seed: int) -> State:
    state: State = {}
    for part, name, down, up in pairs(pipeline, kind, seed):
        state |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
    return state


def of_kohya(pipeline: Any, kind: str, seed: int) -> State:
    """Half as strong as that of diffusers: its alpha is half its rank."""
    several = len(TEXT[kind]) > 1
    prefixes = {"unet": "unet", "text_encoder": "te1" if several else "te", "text_encoder_2": "te2"}
    state: State = {}
    for part, name, down, up in pairs(pipeline, kind, seed):
        base = f"lora_{prefixes[part]}_{name.replace('.', '_')}"
        state |= {f"{base}.lora_down.weight": down, f"{base}.lora_up.weight": up, f"{base}.alpha": torch.tensor(1.0)}
    return state


def of_kohya_for_flux(pipeline: Any, kind: str, seed: int) -> State:
    """Of FLUX's own layers: one for query, key and value of the picture's tokens."""
    generator = torch.Generator().manual_seed(seed)
    width = pipeline.transformer.inner_dim
    state: State = {}
    for block in range(len(pipeline.transformer.transformer_blocks)):
        base = f"lora_unet_double_blocks_{block}_img_attn_qkv"
        state |= {
            f"{base}.lora_down.weight": 0.2 * torch.randn(2, width, generator=generator),
            f"{base}.lora_up.weight": 0.2 * torch.randn(3 * width, 2, generator=generator),
            f"{base}.alpha": torch.tensor(1.0),
        }
    return state


FORMATS: dict[str, Callable[[Any, str, int], State]] = {
    "sd15 diffusers": of_diffusers,
    "sd15 kohya": of_kohya,
    "sdxl diffusers": of_diffusers,
    "sdxl kohya": of_kohya,
    "sd3 diffusers": of_diffusers,
    "flux_dev diffusers": of_diffusers,
    "flux_dev kohya": of_kohya_for_flux,
}


def lora(folder: Path, kind: str, path: Path, seed: int = 0, format: str = "diffusers") -> Path:
    """Save a LoRA for a model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(FORMATS[f"{kind} {format}"](own_pipeline(folder), kind, seed), path)
    return path


def one_step(pipeline: Any, kind: str, z: Tensor) -> Tensor:
    """What a pipeline makes of a latent in one step."""
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    options: dict[str, Any] = {"guidance_scale": SCALES[kind]}
    scheduler: Any = FlowMatchEulerDiscreteScheduler()
    if kind.startswith("sd15") or kind == "sdxl":
        scheduler = DDIMScheduler.from_config(
            pipeline.scheduler.config,
            steps_offset=500,
            timestep_spacing="leading",
            clip_sample=False,
            set_alpha_to_one=True,
        )
    else:
        options["sigmas"] = [0.7]
    return run_pipeline(SimpleNamespace(_pipeline=pipeline), kind, z, scheduler, options)


def one_own_step(network: Any, z: Tensor) -> Tensor:
    """The same step, of what a network answers."""
    if network.parametrization == "flow":
        stepped: Tensor = z - 0.7 * ask(network, z, torch.tensor([0.7]), [PROMPT])
        return stepped
    power = network.schedule.alphas_cumprod[500]
    noise = ask(network, z, torch.tensor([500]), [PROMPT])
    stepped = (z - (1 - power).sqrt() * noise) / power.sqrt()
    return stepped.to(z.dtype)


@torch.no_grad()
@pytest.mark.parametrize("case", FORMATS)
def test_a_lora_does_what_it_does_in_the_models_own_pipeline(
    case: str, tiny_model: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kind, format = case.split()
    folder = tiny_model(kind)
    path = lora(folder, kind, tmp_path / "style.safetensors", format=format)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        capfd.readouterr()
        network = load(folder, loras=(f"{path}:0.7",))
        assert capfd.readouterr() == ("", "")
    pipeline = own_pipeline(folder)
    z = noisy(network)
    plain = one_step(pipeline, kind, z)
    with quiet_libraries(progress_bars=False):
        pipeline.load_lora_weights(str(path), adapter_name="style")
        pipeline.set_adapters("style", 0.7)
    expected = one_step(pipeline, kind, z)
    assert (expected - plain).abs().max() > 1e-3
    torch.testing.assert_close(one_own_step(network, z), expected, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", SCALES)
def test_loras_add_up(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    folder = tiny_model(kind)
    first, second = (lora(folder, kind, tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    network = load(folder, loras=(f"{first}:0.5", f"{second}:-0.25"))
    pipeline = own_pipeline(folder)
    with quiet_libraries(progress_bars=False):
        pipeline.load_lora_weights(str(first), adapter_name="first")
        pipeline.load_lora_weights(str(second), adapter_name="second")
        pipeline.set_adapters(["first", "second"], [0.5, -0.25])
    z = noisy(network)
    torch.testing.assert_close(one_own_step(network, z), one_step(pipeline, kind, z), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", SCALES)
def test_a_lora_of_weight_0_changes_nothing(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    folder = tiny_model(kind)
    path = lora(folder, kind, tmp_path / "style.safetensors")
    plain, network = load(folder), load(folder, loras=(f"{path}:0",))
    z = noisy(network)
    assert torch.equal(one_own_step(network, z), one_own_step(plain, z))


def test_a_lora_is_a_file_or_a_folder_with_a_weight_that_is_1_if_unsaid(tmp_path: Path) -> None:
    style = tmp_path / "style.safetensors"
    colon = tmp_path / "with:colon:2"
    inside = tmp_path / "folder" / "pytorch_lora_weights.safetensors"
    inside.parent.mkdir()
    for path in (style, colon, inside):
        path.touch()
    parse = adapters.parse_lora
    assert parse(str(style)) == (style, 1.0)
    assert parse(f"{style}:.8") == (style, 0.8)
    assert parse(f"{style}:-1") == (style, -1.0)
    assert parse(str(colon)) == (colon, 1.0)
    assert parse(f"{colon}:0.5") == (colon, 0.5)
    assert parse(f"{inside.parent}:2") == (inside, 2.0)


@pytest.mark.parametrize("end", ["", ":0.5", ":much"])
def test_a_missing_lora_is_named(end: str, tmp_path: Path) -> None:
    message = refusal(adapters.parse_lora, f"{tmp_path / 'none.safetensors'}{end}")
    assert str(tmp_path / "none.safetensors") in message and "FILE:WEIGHT" in message


def test_a_missing_folders_lora_is_named(tmp_path: Path) -> None:
    assert "pytorch_lora_weights.safetensors'" in refusal(adapters.parse_lora, str(tmp_path))


@pytest.mark.parametrize(("kind", "other"), [("sd15", "sdxl"), ("sdxl", "sd15"), ("sd3", "sdxl"), ("flux_dev", "sd15")])
def test_a_lora_of_another_architecture_is_refused(kind: str, other: str, tiny_model: Tiny, tmp_path: Path) -> None:
    path = lora(tiny_model(other), other, tmp_path / "other.safetensors")
    message = refusal(lambda: load(tiny_model(kind), loras=(str(path),)))
    assert f"The LoRA '{path}'" in message and "give one that was trained for this model" in message


SAID = [
    ("sd15", "modelspec.architecture", "stable-diffusion-v1/lora"),
    ("sd15", "ss_base_model_version", "sd_v1"),
    ("sdxl", "modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
    ("sdxl", "ss_base_model_version", "sdxl_base_v1-0"),
    ("sd3", "modelspec.architecture", "stable-diffusion-3-medium/lora"),
    ("flux_dev", "ss_base_model_version", "flux1"),
    ("flux_dev", "modelspec.architecture", "Flux.1-dev/lora"),
    ("sd3", "ss_base_model_version", "something new"),
]


@pytest.mark.parametrize(("kind", "field", "value"), SAID)
def test_a_lora_that_names_its_model_is_taken_by_it(
    kind: str, field: str, value: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    path = tmp_path / "style.safetensors"
    save_file(of_diffusers(own_pipeline(tiny_model(kind)), kind, 0), path, {field: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tiny_model(kind), loras=(str(path),))


@pytest.mark.parametrize(
    ("kind", "field", "value", "name"),
    [
        ("sd15", "modelspec.architecture", "stable-diffusion-xl-v1-base/lora", "Stable Diffusion XL"),
        ("flux_dev", "ss_base_model_version", "sd3m", "Stable Diffusion 3"),
        ("sdxl", "ss_base_model_version", "sd_v1", "Stable Diffusion 1 or 2"),
    ],
)
def test_a_lora_that_fits_and_names_another_model_is_warned_of(
    kind: str, field: str, value: str, name: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    path = tmp_path / "style.safetensors"
    save_file(of_diffusers(own_pipeline(tiny_model(kind)), kind, 0), path, {field: value})
    with pytest.warns(UserWarning, match=f"style.safetensors' says that it is for {name}, and the model is one of"):
        load(tiny_model(kind), loras=(str(path),))


def test_a_lora_that_does_not_fit_is_refused_with_the_model_that_it_names(tiny_model: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    state = of_kohya_for_flux(own_pipeline(tiny_model("flux_dev")), "flux_dev", 0)
    save_file(state, path, {"ss_base_model_version": "flux1"})
    message = refusal(lambda: load(tiny_model("sd3"), loras=(str(path),)))
    assert "StableDiffusion3Pipeline, and says that it is for FLUX.1: give one" in message


@pytest.mark.parametrize("kind", ["sd3", "sd15"])
def test_kohyas_format_for_stable_diffusion_3_is_refused_by_name(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    base = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    path = tmp_path / "style.safetensors"
    save_file({f"{base}.lora_down.weight": torch.ones(2, 32), f"{base}.lora_up.weight": torch.ones(96, 2)}, path)
    message = refusal(lambda: load(tiny_model(kind), loras=(str(path),)))
    assert f"'{path}' is one of Stable Diffusion 3 in kohya's format" in message and "diffusers or peft" in message


@pytest.mark.parametrize("content", [b"", b"not a LoRA at all"])
@pytest.mark.parametrize("kind", ["sd15", "flux_dev"])
def test_a_damaged_lora_is_refused(kind: str, content: bytes, tiny_model: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    path.write_bytes(content)
    assert f"The LoRA '{path}' does not fit" in refusal(lambda: load(tiny_model(kind), loras=(str(path),)))


@pytest.mark.parametrize("kind", SCALES)
def test_weights_that_are_no_lora_are_refused(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "embedding.safetensors"
    save_file({"emb_params": torch.ones(1, 32)}, path)
    assert f"The LoRA '{path}'" in refusal(lambda: load(tiny_model(kind), loras=(str(path),)))


def test_without_peft_a_lora_says_what_to_install(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    (tmp_path / "style.safetensors").touch()
    message = refusal(lambda: load(tiny_model("sd15"), loras=(str(tmp_path / "style.safetensors"),)))
    assert message.endswith("pip install peft.")


def inversion(path: Path, state: Any) -> Path:
    """Save a textual inversion in the format that its name says."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def random_vectors(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


WORDS = ["a photo of <cat> in a park", "<cat>, <cat>."]
INVERSIONS: dict[str, Callable[[Tensor], Any]] = {
    "a.safetensors": lambda vectors: {"<cat>": vectors},
    "<cat>.bin": lambda vectors: {"<cat>": vectors},
    "cat.safetensors": lambda vectors: {"emb_params": vectors},
    "b.pt": lambda vectors: {"string_to_param": {"*": nn.Parameter(vectors)}, "name": "<cat>", "step": 1000},
    "cat.pt": lambda vectors: vectors,
}


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", INVERSIONS)
def test_a_learned_word_is_read_as_the_models_own_pipeline_reads_it(
    name: str, count: int, tiny_model: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vectors = random_vectors(count)
    path = inversion(tmp_path / name, INVERSIONS[name](vectors))
    pipeline = own_pipeline(tiny_model("sd15"))
    with quiet_libraries(progress_bars=False):
        pipeline.load_textual_inversion(vectors, token="<cat>")
    capfd.readouterr()
    network = load(tiny_model("sd15"), embeddings=(str(path),))
    assert capfd.readouterr() == ("", "")
    expected = pipeline.encode_prompt(WORDS, "cpu", 1, False)[0]
    torch.testing.assert_close(network.condition(WORDS), expected)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_both_encoders_of_sdxl_learn_a_word(count: int, tiny_model: Tiny, tmp_path: Path) -> None:
    vectors = {"clip_l": random_vectors(count), "clip_g": random_vectors(count, 1)}
    network = load(tiny_model("sdxl"), embeddings=(str(inversion(tmp_path / "cat.safetensors", vectors)),))
    pipeline = own_pipeline(tiny_model("sdxl"))
    parts = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
    with quiet_libraries(progress_bars=False):
        for key, (encoder, tokenizer) in parts.items():
            pipeline.load_textual_inversion(
                vectors[key],
                token="<cat>",
                text_encoder=getattr(pipeline, encoder),
                tokenizer=getattr(pipeline, tokenizer),
            )
    tokens, _, pooled, _ = pipeline.encode_prompt(WORDS, do_classifier_free_guidance=False)
    condition = network.condition(WORDS)
    torch.testing.assert_close(condition["encoder_hidden_states"], tokens)
    torch.testing.assert_close(condition["text_embeds"], pooled)


@torch.no_grad()
def test_several_words_are_learned(tiny_model: Tiny, tmp_path: Path) -> None:
    files = [inversion(tmp_path / f"{word}.pt", random_vectors(2, seed)) for seed, word in enumerate(("cat", "dog"))]
    network = load(tiny_model("sd15"), embeddings=tuple(map(str, files)))
    cat, dog, spelled = network.condition(["<cat>", "<dog>", "<dog> <dog>_1"])
    assert not torch.allclose(cat, dog)
    torch.testing.assert_close(dog, spelled)


@pytest.mark.parametrize(
    ("kind", "state", "says"),
    [
        (
            "sd15",
            {"clip_l": torch.ones(1, 32), "clip_g": torch.ones(1, 32)},
            "for 2 CLIP encoders, of which the model has 1",
        ),
        ("sdxl", {"<cat>": torch.ones(1, 32)}, "for 1 CLIP encoders, of which the model has 2"),
        ("sd15", {"<cat>": torch.ones(1, 24)}, "have 24 numbers where the model's have 32"),
        ("sd15", {"a</w>": torch.ones(1, 32)}, "already in tokenizer vocabulary"),
        ("sd15", {"one": torch.ones(1, 32), "two": torch.ones(1, 32)}, "more than the vectors of a word"),
    ],
)
def test_a_word_of_another_model_is_refused(
    kind: str, state: State, says: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    path = inversion(tmp_path / "cat.safetensors", state)
    message = refusal(lambda: load(tiny_model(kind), embeddings=(str(path),)))
    assert f"The textual inversion '{path}' does not fit" in message and says in message


@pytest.mark.parametrize("name", ["cat.safetensors", "cat.pt"])
def test_a_damaged_word_is_refused(name: str, tiny_model: Tiny, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no tensors")
    message = refusal(lambda: load(tiny_model("sd15"), embeddings=(str(tmp_path / name),)))
    assert "does not fit a StableDiffusionPipeline" in message


def test_a_missing_word_and_a_model_that_learns_none_are_said(tiny_model: Tiny, tmp_path: Path) -> None:
    missing = refusal(lambda: load(tiny_model("sd15"), embeddings=(str(tmp_path / "none.pt"),)))
    assert "There is no file" in missing and "none.pt" in missing
    path = inversion(tmp_path / "cat.pt", random_vectors(1))
    assert "leave embeddings empty" in refusal(lambda: load(tiny_model("sd3"), embeddings=(str(path),)))


def tiny_autoencoder(folder: Path, channels: int, levels: int = 4) -> Path:
    """Save a small autoencoder that halves pictures `levels` − 1 times."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    sizes = {f"{half}_block_out_channels": (8,) * levels for half in ("encoder", "decoder")}
    counts = {f"num_{half}_blocks": (1,) * levels for half in ("encoder", "decoder")}
    small: Any = AutoencoderTiny(latent_channels=channels, **sizes, **counts)
    small.save_pretrained(folder)
    return folder


AUTOENCODERS = {"sd15": 4, "sdxl": 4, "sd3": 16, "flux_dev": 16}
"""Channels of the latents."""


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_a_small_autoencoder_takes_the_place_of_the_models(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    folder = tiny_autoencoder(tmp_path / "small", AUTOENCODERS[kind])
    small: Any = AutoencoderTiny.from_pretrained(folder)
    network = load(tiny_model(kind), vae=str(folder))
    image = random_picture().requires_grad_()
    latent = network.encode(image)
    torch.testing.assert_close(latent, small.encode(image * 2 - 1).latents)
    (gradient,) = torch.autograd.grad(latent.square().sum(), image)
    assert bool(gradient.isfinite().all()) and gradient.abs().max() > 0
    with torch.no_grad():
        expected = (small.decode(latent).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(network.decode(latent), expected)
        assert ask(network, latent, torch.tensor([0.5]), [PROMPT]).shape == latent.shape


@pytest.mark.parametrize(
    ("kind", "channels", "levels", "says"),
    [
        ("sd15", 16, 4, "has latents of 16 channels for 8 pixels where the model has 4 for 8"),
        ("sd15", 4, 3, "has latents of 4 channels for 4 pixels where the model has 4 for 8"),
        ("flux2_klein", 32, 4, "is a AutoencoderTiny where the model has a AutoencoderKLFlux2"),
        ("qwen_image", 16, 4, "is a AutoencoderTiny where the model has a AutoencoderKLQwenImage"),
    ],
)
def test_an_autoencoder_of_other_latents_is_refused(
    kind: str, channels: int, levels: int, says: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    folder = tiny_autoencoder(tmp_path / "small", channels, levels)
    assert f"The autoencoder '{folder}' {says}: give" in refusal(lambda: load(tiny_model(kind), vae=str(folder)))


def test_what_is_no_autoencoder_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    unet = refusal(lambda: load(tiny_model("sd15"), vae=str(tiny_model("sd15") / "unet")))
    assert "cannot be loaded (it is a UNet2DConditionModel)" in unet
    nothing = refusal(lambda: load(tiny_model("sd15"), vae=str(tmp_path)))
    assert f"The autoencoder '{tmp_path}' cannot be loaded" in nothing
