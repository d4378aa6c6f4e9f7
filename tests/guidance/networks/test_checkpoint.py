"""Models in a single file: the same as in a folder, or one line that says why not."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.loading import find_card, load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from tests.guidance.networks.test_architectures import CPU, PROMPT, SIDE, ask, noisy, random_picture
from tests.guidance.networks.test_loading import refusal
from tests.guidance.networks.tiny.original import original_state, save_original
from tests.guidance.networks.tiny.xl import xl_pipeline, xl_unet

Tiny = Callable[[str], Path]


@pytest.fixture
def small_files(tiny_model: Tiny, tmp_path: Path) -> Path:
    """A folder of sd15 without its weights."""
    return shutil.copytree(
        tiny_model("sd15"), tmp_path / "small", ignore=shutil.ignore_patterns("*.safetensors", "*.bin")
    )


def own_pipeline(folder: Path) -> Any:
    from tests.guidance.miniature import load_pipeline

    return load_pipeline(folder)


@torch.no_grad()
@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_a_model_in_one_file_is_the_model_in_a_folder(
    name: str, tiny_model: Tiny, small_files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = save_original(own_pipeline(tiny_model("sd15")), tmp_path / name)
    options = LoadOptions(CPU, torch.float32, torch.float32)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one: Any = load_network(str(file), lambda half: options, str(small_files))
    assert capfd.readouterr() == ("", "")
    whole: Any = load_network(str(tiny_model("sd15")), lambda half: options)
    image, prompts = random_picture(), [PROMPT, ""]
    latent = whole.encode(image)
    torch.testing.assert_close(one.encode(image), latent)
    torch.testing.assert_close(one.decode(latent), whole.decode(latent))
    torch.testing.assert_close(one.condition(prompts), whole.condition(prompts))
    answers = [network.predict(latent, torch.tensor([500]), whole.condition(prompts)) for network in (one, whole)]
    torch.testing.assert_close(*answers)


@pytest.fixture(scope="module")
def wide_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion XL with a second encoder wider than the first: by their widths a reader tells them apart."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

    folder = tmp_path_factory.mktemp("wide") / "sdxl"
    with torch.random.fork_rng(devices=[]), quiet_libraries(progress_bars=False):
        torch.manual_seed(0)
        pipeline = xl_pipeline(unet=UNet2DConditionModel.from_config({**xl_unet().config, "cross_attention_dim": 96}))
        config = pipeline.text_encoder_2.config
        config.hidden_size = 64
        pipeline.register_modules(text_encoder_2=CLIPTextModelWithProjection(config))
        pipeline.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_stable_diffusion_xl_in_one_file_is_that_in_a_folder(wide_xl: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    small = shutil.copytree(wide_xl, tmp_path / "small", ignore=shutil.ignore_patterns("*.safetensors"))
    file = save_original(DiffusionPipeline.from_pretrained(wide_xl), tmp_path / "model.safetensors")
    options = LoadOptions(CPU, torch.float32, torch.float32)
    one: Any = load_network(str(file), lambda half: options, str(small))
    whole: Any = load_network(str(wide_xl), lambda half: options)
    image = random_picture()
    torch.testing.assert_close(one.encode(image), whole.encode(image))
    for prompts in ([PROMPT], [None]):
        torch.testing.assert_close(one.condition(prompts), whole.condition(prompts))
    z, time = noisy(whole), torch.tensor([500])
    torch.testing.assert_close(ask(one, z, time, [PROMPT]), ask(whole, z, time, [PROMPT]))


def test_a_model_in_one_file_edits(tiny_model: Tiny, small_files: Path, tmp_path: Path) -> None:
    file = save_original(own_pipeline(tiny_model("sd15")), tmp_path / "model.safetensors")
    config = GuidanceConfig(model=str(file), model_config=str(small_files), resolution=SIDE, device="cpu")
    steps = []
    for one in (config, GuidanceConfig(model=str(tiny_model("sd15")), resolution=SIDE, device="cpu")):
        guidance = Guidance.from_config(one, CPU)
        guidance.set_prompts(PROMPT, "a photo of a clown in a park")
        image = random_picture()
        steps.append(guidance.image_gradient(image.flip(3), image, 0.5, keys=["view"])[0])
    assert steps[0].abs().max() > 0
    torch.testing.assert_close(*steps, rtol=1e-4, atol=1e-5)


class SmallFiles:
    """Stands in for a hub that has a model's small files, and notes what is asked of it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.asked: list[tuple[str, list[str]]] = []

    def snapshot(self, model: str, *, allow_patterns: list[str]) -> str:
        self.asked.append((model, allow_patterns))
        if self.folder is None:
            raise OSError("Name or service not known.\nA second line")
        return str(self.folder)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)


def test_without_a_configuration_that_of_the_files_kind_is_fetched(
    tiny_model: Tiny, small_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = SmallFiles(small_files)
    hub.install(monkeypatch)
    file = save_original(own_pipeline(tiny_model("sd15")), tmp_path / "model.safetensors")
    card = find_card(str(file))
    assert (card.folder, card.checkpoint, card.kind) == (small_files, file, "StableDiffusionPipeline")
    ((model, patterns),) = hub.asked
    assert model == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert not any(Path(f"unet/model.{end}").match(pattern) for pattern in patterns for end in ("safetensors", "bin"))


def test_without_a_configuration_and_a_network_the_way_out_is_said(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallFiles(None).install(monkeypatch)
    file = save_original(own_pipeline(tiny_model("sd15")), tmp_path / "model.safetensors")
    message = refusal(find_card, str(file))
    assert f"'{file}'" in message and "(Name or service not known)" in message and "by model_config" in message


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_a_damaged_file_is_refused(name: str, small_files: Path, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(b"no weights")
    assert "can't be found out here" in refusal(find_card, str(file))
    options = LoadOptions(CPU, torch.float32, torch.float32)
    message = refusal(lambda: load_network(str(file), lambda half: options, str(small_files)))
    assert f"'{file}' cannot be loaded" in message and "all parts of a StableDiffusionPipeline" in message


@pytest.mark.parametrize("name", ["model.bin", "model.gguf", "model.zip", "model"])
def test_files_of_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    message = refusal(find_card, str(tmp_path / name))
    assert f"'{tmp_path / name}' is no model: give a .safetensors or .ckpt file" in message


@pytest.mark.parametrize("model", ["none.safetensors", "someone/none.safetensors", "/no/such/model.ckpt"])
def test_a_missing_file_is_not_taken_for_a_hub_id(model: str) -> None:
    assert f"no model folder or file '{model}'" in refusal(find_card, model)


def test_a_configuration_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    for folder in (tmp_path / "none", tmp_path):
        message = refusal(find_card, str(file), str(folder))
        assert f"'{folder}'" in message and "model_config" in message


def test_a_configuration_of_a_kind_without_a_network_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    message = refusal(find_card, str(file), str(tiny_model("flux_fill")))
    assert f"'{file}' is a FluxFillPipeline" in message


def test_weights_of_another_kind_than_the_configuration_are_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = save_original(own_pipeline(tiny_model("sd15")), tmp_path / "model.safetensors")
    options = LoadOptions(CPU, torch.float32, torch.float32)
    for kind in ("sdxl", "sd3", "flux_dev"):
        message = refusal(lambda kind=kind: load_network(str(file), lambda half: options, str(tiny_model(kind))))
        assert f"'{file}'" in message and "model_config" in message, message


NETWORKS = (
    "sd15",
    "sdxl",
    "sd3",
    "flux_dev",
    "chroma",
    "sana_euler",
    "lumina2",
    "z_image",
    "qwen_image",
    "flux2_klein",
)


def network_file(kind: str, model: Path, folder: Path, scale: float = 1.0) -> Path:
    """Save the denoising model of a tiny model alone, by diffusers' own names, with all weights scaled."""
    part = "unet" if kind in ("sd15", "sdxl") else "transformer"
    weights = load_file(model / part / "diffusion_pytorch_model.safetensors")
    save_file({name: scale * x for name, x in weights.items()}, folder / "network.safetensors")
    return folder / "network.safetensors"


@torch.no_grad()
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_alone_takes_the_place_of_the_folders_own(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    model = tiny_model(kind)
    options = LoadOptions(CPU, torch.float32, torch.float32)
    whole: Any = load_network(str(model), lambda half: options)
    z, time = noisy(whole), torch.tensor([500 if kind in ("sd15", "sdxl") else 0.7])
    answers = [ask(whole, z, time, [PROMPT])]
    for scale in (1.0, 0.9):
        file = network_file(kind, model, tmp_path, scale)
        answers.append(ask(load_network(str(file), lambda half: options, str(model)), z, time, [PROMPT]))
    torch.testing.assert_close(answers[1], answers[0])
    assert (answers[2] - answers[0]).norm() > 0.01 * answers[0].norm()


@torch.no_grad()
def test_a_network_alone_by_its_first_names(tiny_model: Tiny, tmp_path: Path) -> None:
    model = tiny_model("sd15")
    options = LoadOptions(CPU, torch.float32, torch.float32)
    whole: Any = load_network(str(model), lambda half: options)
    state = original_state(own_pipeline(model))
    unet = {name: 0.9 * x for name, x in state.items() if name.startswith("model.diffusion_model.")}
    save_file(unet, tmp_path / "unet.safetensors")
    one = load_network(str(tmp_path / "unet.safetensors"), lambda half: options, str(model))
    same = load_network(str(network_file("sd15", model, tmp_path, 0.9)), lambda half: options, str(model))
    z, time = noisy(whole), torch.tensor([500])
    torch.testing.assert_close(ask(one, z, time, [PROMPT]), ask(same, z, time, [PROMPT]))


def test_a_network_alone_needs_a_folder_with_all_else(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = network_file("flux_dev", tiny_model("flux_dev"), tmp_path)
    options = LoadOptions(CPU, torch.float32, torch.float32)
    SmallFiles(None).install(monkeypatch)
    message = refusal(find_card, str(file))
    assert f"'{file}' holds a denoising model alone: give by model_config the folder of a whole model" in message
    small = shutil.copytree(tiny_model("flux_dev"), tmp_path / "small", ignore=shutil.ignore_patterns("*.safetensors"))
    message = refusal(lambda: load_network(str(file), lambda half: options, str(small)))
    assert f"'{small}' is incomplete" in message and "transformer" not in message
    without = shutil.copytree(tiny_model("flux_dev"), tmp_path / "all_else")
    (without / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    load_network(str(file), lambda half: options, str(without))


@pytest.mark.parametrize("other", ["sd15", "sd3", "chroma"])
def test_a_network_alone_of_another_kind_is_refused(other: str, tiny_model: Tiny, tmp_path: Path) -> None:
    file = network_file(other, tiny_model(other), tmp_path)
    options = LoadOptions(CPU, torch.float32, torch.float32)
    message = refusal(lambda: load_network(str(file), lambda half: options, str(tiny_model("flux_dev"))))
    assert f"'{file}' cannot be loaded" in message and "give the transformer of a FluxPipeline" in message


def test_a_network_alone_that_diffusers_reads_from_folders_only_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = network_file("pixart_sigma", tiny_model("pixart_sigma"), tmp_path)
    options = LoadOptions(CPU, torch.float32, torch.float32)
    message = refusal(lambda: load_network(str(file), lambda half: options, str(tiny_model("pixart_sigma"))))
    assert "holds the transformer of a PixArtSigmaPipeline alone" in message and "give a folder" in message
