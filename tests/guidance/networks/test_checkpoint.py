"""Models in a single file: the same as in a folder, or one line that says why not."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.loading import find_card, load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from tests.guidance.networks.test_architectures import CPU, PROMPT, SIDE, random_picture
from tests.guidance.networks.test_loading import refusal
from tests.guidance.networks.tiny.original import save_original

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


def test_a_file_of_the_network_alone_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = shutil.copy(
        tiny_model("flux_dev") / "transformer" / "diffusion_pytorch_model.safetensors", tmp_path / "flux.safetensors"
    )
    options = LoadOptions(CPU, torch.float32, torch.float32)
    message = refusal(lambda: load_network(str(file), lambda half: options, str(tiny_model("flux_dev"))))
    assert "give a file with all parts of a FluxPipeline" in message
