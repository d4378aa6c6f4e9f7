"""Finding and loading models: what works, and what each failure says."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks import loading
from pds_nerfstudio.guidance.networks.loading import find_model
from pds_nerfstudio.guidance.networks.prompts import read_known_words
from tests.guidance.miniature import load_pipeline, save_pipeline


def refusal(action: Callable[..., Any], *arguments: Any) -> str:
    """The message of the UserError that ``action`` ends in, which is one line."""
    with pytest.raises(UserError) as error:
        action(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_local_folder_is_found_and_loaded_without_a_sound(
    model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = load_pipeline(find_model(str(model_folder)))
    assert pipeline.safety_checker is None
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_logging_settings_of_the_libraries_are_left_as_they_were(model_folder: Path) -> None:
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    def settings() -> list[tuple[int, bool]]:
        return [
            (library.get_verbosity(), library.is_progress_bar_enabled())
            for library in (diffusers_logging, transformers_logging)
        ]

    before = settings()
    load_pipeline(model_folder)
    assert settings() == before


def test_embedded_model_is_a_folder_in_the_package(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pds_nerfstudio

    package = Path(next(iter(pds_nerfstudio.__path__))).resolve()
    assert find_model("toyworld") == package / "toyworld" / "model"
    monkeypatch.setitem(loading.EMBEDDED_MODELS, "toyworld", str(model_folder))
    assert find_model("toyworld") == model_folder


def test_missing_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loading.EMBEDDED_MODELS, "toyworld", str(tmp_path / "none"))
    assert "reinstall" in refusal(find_model, "toyworld")


@pytest.mark.parametrize("model", ["/no/such/folder", "./models/sd", "stable-diffusion", "a/b/c", ""])
def test_what_is_neither_folder_nor_hub_id(model: str) -> None:
    message = refusal(find_model, model or "/")
    assert "no model folder" in message or "model_index.json" in message


def broken(model_folder: Path, tmp_path: Path, file: str, change: Callable[[Any], Any]) -> str:
    """A copy of a model with one JSON file changed."""
    folder = tmp_path / "broken"
    shutil.copytree(model_folder, folder)
    (folder / file).write_text(json.dumps(change(json.loads((folder / file).read_text()))))
    return str(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": ["my_pipe", "MyPipe"]}, "names no pipeline of diffusers.*my_pipe.*without code of its own"),
        ({"_class_name": None}, "names no pipeline of diffusers"),
        ({"unet": ["my_unet", "MyUNet"]}, r"unet that is none of diffusers and transformers \(my_unet.MyUNet\)"),
        ({"unet": ["diffusers", ["a", "b"]]}, "unet that is none of"),
        ({"../elsewhere": ["diffusers", "UNet2DConditionModel"]}, "elsewhere that is none of"),
        ({"extra": ["os", "system"]}, "extra that is none of"),
    ],
)
def test_code_that_comes_with_a_model_is_refused_before_anything_is_read(
    model_folder: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    name = broken(model_folder, tmp_path, "model_index.json", lambda index: {**index, **change})
    for module in ("my_pipe.py", "unet/my_unet.py"):
        (Path(name) / module).write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\nclass MyPipe: pass\n")
    with pytest.raises(UserError, match=says):
        find_model(name)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model_index.json", lambda index: [index]),
        ("vae/config.json", lambda config: {**config, "scaling_factor": "large"}),
        ("vae/config.json", lambda config: [config]),
        ("unet/config.json", lambda config: {**config, "in_channels": "four"}),
        ("unet/config.json", lambda config: {**config, "block_out_channels": 7}),
        ("scheduler/scheduler_config.json", lambda config: {**config, "num_train_timesteps": "many"}),
    ],
)
def test_values_of_wrong_types_in_a_models_files_are_said_in_one_line(
    model_folder: Path, tmp_path: Path, file: str, change: Callable[[Any], Any]
) -> None:
    name = broken(model_folder, tmp_path, file, change)
    assert name in refusal(Denoiser.from_pretrained, name, "cpu", torch.float32)


def test_words_that_are_no_text_are_said_in_one_line(model_folder: Path, tmp_path: Path) -> None:
    name = broken(model_folder, tmp_path, "model_index.json", lambda index: index)
    (Path(name) / "words.txt").write_bytes(b"\xff\xfe\x00cat")
    assert name in refusal(Denoiser.from_pretrained, name, "cpu", torch.float32)


def test_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    message = refusal(find_model, str(tmp_path))
    assert str(tmp_path) in message and "model_index.json" in message


def test_damaged_index(own_model_folder: Path) -> None:
    (own_model_folder / "model_index.json").write_text("{")
    assert "damaged" in refusal(find_model, str(own_model_folder))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_parts_are_named(own_model_folder: Path, edit_json: Callable[..., None], part: str) -> None:
    shutil.rmtree(own_model_folder / part)
    assert f"lacks its {part}:" in refusal(find_model, str(own_model_folder))
    edit_json(own_model_folder / "model_index.json", **{part: [None, None]})
    assert f"lacks its {part}:" in refusal(find_model, str(own_model_folder))


def test_two_text_encoders(own_model_folder: Path, edit_json: Callable[..., None]) -> None:
    index = own_model_folder / "model_index.json"
    shutil.copytree(own_model_folder / "text_encoder", own_model_folder / "text_encoder_2")
    edit_json(index, text_encoder_2=["transformers", "CLIPTextModelWithProjection"])
    assert "two text encoders" in refusal(find_model, str(own_model_folder))


def test_damaged_weights(own_model_folder: Path) -> None:
    (own_model_folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    assert "cannot be loaded" in refusal(load_pipeline, own_model_folder)


def test_unet_with_extra_input_channels(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "inpainting", {}, {"in_channels": 9})
    assert "takes 9 channels where its latents have 4" in refusal(find_model, str(folder))


def test_unet_with_other_conditions(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "wide", {}, {"cross_attention_dim": 24})
    assert "other conditions" in refusal(find_model, str(folder))


def test_a_tiny_autoencoder(own_model_folder: Path, edit_json: Callable[..., None]) -> None:
    from diffusers import AutoencoderTiny

    shutil.rmtree(own_model_folder / "vae")
    tiny: Any = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    tiny.save_pretrained(own_model_folder / "vae")
    edit_json(own_model_folder / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    denoiser = Denoiser.from_pretrained(str(own_model_folder), "cpu", torch.float32)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    vae = load_pipeline(own_model_folder).vae
    torch.testing.assert_close(denoiser.encode_image(image), vae.encode(image * 2 - 1).latents)


class Hub:
    """Stands in for the hub: serves the small files of a folder, then the folder."""

    def __init__(self, folder: Path | None, error: str = "Name or service not known.\nA second line") -> None:
        self.folder, self.error = folder, error
        self.downloads: list[dict[str, Any]] = []
        """The options of each."""

    def index(self, model: str, name: str) -> str:
        if self.folder is None:
            raise OSError(self.error)
        if not (self.folder / name).is_file():
            raise EntryNotFoundError(name)
        return str(self.folder / name)

    def files(self, model: str) -> list[str]:
        if self.folder is None:
            raise OSError(self.error)
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def download(self, model: str, **options: Any) -> str:
        self.downloads.append(options)
        return str(self.folder)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import diffusers
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.index)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", self.files)
        monkeypatch.setattr(diffusers.DiffusionPipeline, "download", self.download)


def test_hub_model_is_downloaded(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(model_folder).install(monkeypatch)
    assert find_model("someone/some-model") == model_folder


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(None).install(monkeypatch)
    message = refusal(find_model, "someone/some-model")
    assert "'someone/some-model'" in message and "Name or service not known" in message
    assert "local folder" in message and "'toyworld'" in message


def test_wrong_kind_of_hub_model_is_refused_before_its_download(
    own_model_folder: Path, edit_json: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_json(own_model_folder / "model_index.json", text_encoder_2=["transformers", "CLIPTextModel"])
    hub = Hub(own_model_folder)
    hub.install(monkeypatch)
    assert "two text encoders" in refusal(find_model, "someone/xl")
    assert not hub.downloads


@pytest.mark.parametrize("kind", ["sd_depth_like", "flux_fill", "sdxl_refiner", "sdxl_lcm", "sd15_lcm"])
def test_a_kind_without_a_network_is_never_downloaded(
    kind: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tiny_model(kind))
    hub.install(monkeypatch)
    assert "'someone/some-model'" in refusal(find_model, "someone/some-model")
    assert not hub.downloads


def test_an_unknown_pipeline_is_never_downloaded(
    own_model_folder: Path, edit_json: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_json(own_model_folder / "model_index.json", _class_name="OfTomorrowPipeline")
    hub = Hub(own_model_folder)
    hub.install(monkeypatch)
    assert "is a OfTomorrowPipeline" in refusal(find_model, "someone/some-model")
    assert not hub.downloads


@pytest.mark.parametrize(
    ("kind", "variant"),
    [("sd15", None), ("sd15_both_variants", None), ("sd15_fp16_variant", "fp16"), ("sdxl_fp16_variant", "fp16")],
)
def test_half_weights_are_downloaded_where_there_are_no_others(
    kind: str, variant: str | None, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tiny_model(kind))
    hub.install(monkeypatch)
    assert find_model("someone/some-model") == hub.folder
    assert [options.get("variant") for options in hub.downloads] == [variant]


def test_parts_that_no_edit_needs_are_not_downloaded(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tiny_model("sd15_safety"))
    hub.install(monkeypatch)
    find_model("someone/some-model")
    assert hub.downloads[0].items() >= {"safety_checker": None, "feature_extractor": None}.items()


def test_a_hub_that_lists_no_files_still_gives_what_was_fetched_before(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def offline(model: str) -> list[str]:
        raise OSError("offline")

    Hub(model_folder).install(monkeypatch)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", offline)
    assert find_model("someone/some-model") == model_folder


@pytest.mark.parametrize("error", ["GatedRepoError", "RepositoryNotFoundError"])
def test_a_gated_or_absent_model_is_said_in_one_line(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    response = SimpleNamespace(status_code=401, headers={}, request=None)

    def refuse(model: str, name: str) -> str:
        raise getattr(errors, error)("401 Client Error.\n\nCannot access it.\nPlease log in.", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    message = refusal(find_model, "someone/some-model")
    assert "'someone/some-model'" in message and "401 Client Error" in message and "local folder" in message


def test_known_words(tmp_path: Path) -> None:
    assert read_known_words(tmp_path) is None
    (tmp_path / "words.txt").write_text("man\nhat\n\nBlue\n", encoding="utf-8")
    assert read_known_words(tmp_path) == {"man", "hat", "blue"}


def test_index_of_the_fixture_is_that_of_stable_diffusion(model_folder: Path) -> None:
    index = json.loads((model_folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
