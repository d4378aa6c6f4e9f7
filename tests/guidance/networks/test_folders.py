"""Which weights a model's folder holds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.folders import check_complete, missing_weights, needed_variant, variant_of

Tiny = Callable[[str], Path]


def missing(folder: Path) -> list[str]:
    return missing_weights(folder, json.loads((folder / "model_index.json").read_text(encoding="utf-8")))


def test_a_variant_is_needed_where_there_is_nothing_else(tiny_model: Tiny) -> None:
    plain = ("sd15", "sd15_sharded", "sd15_bin", "sd15_both_variants", "sd15_fp16_plain_name")
    assert {kind: variant_of(tiny_model(kind)) for kind in plain} == dict.fromkeys(plain)
    half = ("sd15_fp16_variant", "sd15_sharded_fp16_variant", "sd15_fp16_bin", "sdxl_fp16_variant")
    assert {kind: variant_of(tiny_model(kind)) for kind in half} == dict.fromkeys(half, "fp16")


@pytest.mark.parametrize(
    ("files", "variant"),
    [
        (["unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors"], "fp16"),  # as of 2023
        (["unet/diffusion_pytorch_model.bf16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"], "bf16"),
        (
            [
                "unet/diffusion_pytorch_model.bf16.safetensors",
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "vae/diffusion_pytorch_model.fp16.safetensors",
                "text_encoder/model.safetensors",
            ],
            "fp16",
        ),
        (["safety_checker/model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors"], None),
        (["v1-5.fp16.safetensors", "unet/config.json"], None),
    ],
)
def test_the_variant_is_one_that_all_parts_have_which_need_one(files: list[str], variant: str | None) -> None:
    assert needed_variant(files, unused=("safety_checker",)) == variant


WHOLE = [
    "sd15",
    "sd15_sharded",
    "sd15_sharded_fp16_variant",
    "sd15_fp16_variant",
    "sd15_both_variants",
    "sd15_bin",
    "sd15_old_bin",
    "sdxl",
    "sd3_no_t5",
    "qwen_image_edit",
]


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_models_lack_nothing(kind: str, tiny_model: Tiny) -> None:
    assert missing(tiny_model(kind)) == []


def test_missing_weights_are_named(tiny_model: Tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model("sd15_sharded_fp16_variant"), tmp_path / "model"))
    lost = ["text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16-00003-of-00005.safetensors"]
    for file in lost:
        (folder / file).unlink()
    shutil.rmtree(folder / "vae")
    lost = ["text_encoder/model.safetensors", lost[1], "vae/diffusion_pytorch_model.safetensors"]
    assert sorted(missing(folder)) == lost


def test_links_that_lead_nowhere_are_missing(tiny_model: Tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model("sd15"), tmp_path / "model"))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "blob")
    assert missing(folder) == ["vae/diffusion_pytorch_model.safetensors"]


def test_an_incomplete_model_is_called_that(tiny_model: Tiny) -> None:
    folder = tiny_model("sd15")
    check_complete(folder, "someone/model", {"unet": ["diffusers", "UNet2DConditionModel"], "tokenizer": [None, None]})
    index = {"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder_2": ["transformers", "CLIPTextModel"]}
    check_complete(folder, "someone/model", index, unused=("text_encoder_2",))
    with pytest.raises(UserError, match=r"'someone/model' is incomplete.*it lacks text_encoder_2/model\.safetensors;"):
        check_complete(folder, "someone/model", index)
    more = {**index, "text_encoder_3": ["transformers", "T5EncoderModel"]}
    with pytest.raises(UserError, match=r"it lacks text_encoder_2/model\.safetensors and 1 more;"):
        check_complete(folder, "someone/model", more)
