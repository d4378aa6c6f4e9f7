"""What happens with models of every kind that people have: an edit that runs, or one line that says why not."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pds_nerfstudio.guidance.networks import loading
from tests.guidance.networks.tiny.attempt import attempt
from tests.guidance.networks.tiny.families import FAMILIES, named
from tests.guidance.networks.tiny.registry import KINDS

RUNS = "runs"
_NO_BETAS = "has no noise schedule .*: choose a model with another one"
_INCOMPLETE = "is incomplete, as if its download had broken off: it lacks (unet|vae)/.*; download or copy it again"
_CONSISTENCY = "is a latent consistency model, .*: choose the model that it was distilled from"
_NO_NETWORK = "is a {}, which there is no network for: choose a model of Stable Diffusion 1, 2, XL"

EXPECTED = {
    # Stable Diffusion 1 and 2
    "sd15": RUNS,
    "sd15_safety": RUNS,
    "sd21_v": RUNS,
    "sd21_zsnr": RUNS,
    "sd15_zsnr_euler": RUNS,
    "sd_turbo": RUNS,
    "sd15_lcm": _NO_NETWORK.format("LatentConsistencyModelPipeline"),
    "sd15_unipc_karras": RUNS,
    "sd15_sample_pred": "DDIMScheduler says that it predicts 'sample': choose",
    "sd15_edm": "EDMEulerScheduler " + _NO_BETAS,
    "sd15_ipndm": "IPNDMScheduler " + _NO_BETAS,
    "sd15_flow_unipc": RUNS,
    "sd15_flow_dpm_noise": "DPMSolverMultistepScheduler samples a flow .* set prediction_type",
    "sd15_flow_euler": RUNS,
    "sd15_taesd": RUNS,
    "sd15_asym_vae": RUNS,
    "sd15_vae_any_precision": RUNS,
    "sd15_four_levels": RUNS,
    "sd15_long_text": RUNS,
    "sd15_no_sample_size": RUNS,
    "sd15_textual_inversion": RUNS,
    "sd_inpaint": RUNS,
    "sd_ip2p": RUNS,
    "sd_img2img": RUNS,
    "sd_depth_like": "takes 5 channels where its latents have 4 .*: choose a Stable Diffusion 1.x or 2.x",
    "sd_upscaler": _NO_NETWORK.format("StableDiffusionUpscalePipeline"),
    "sd_controlnet": RUNS,
    "controlnet_alone": "no diffusers model .*: give a folder or hub id of a whole pipeline",
    # its layouts
    "sd15_fp16_variant": RUNS,
    "sd15_fp16_plain_name": RUNS,
    "sd15_both_variants": RUNS,
    "sd15_sharded": RUNS,
    "sd15_sharded_fp16_variant": RUNS,
    "sd15_bin": RUNS,
    "sd15_fp16_bin": RUNS,
    "sd15_old_bin": RUNS,
    "sd15_old_keys": RUNS,
    "sd15_old_index": RUNS,
    "sd15_missing_shard": _INCOMPLETE,
    "sd15_missing_weights": _INCOMPLETE,
    "cached": RUNS,
    "cached_without_safety_checker": RUNS,
    "cached_only_fp16": RUNS,
    "cached_half": r"lacks its vae \(vae/config.json\): download or save it again",
    "cached_half_sharded": _INCOMPLETE,
    # Stable Diffusion XL
    "sdxl": RUNS,
    "sdxl_fp16_variant": RUNS,
    "sdxl_turbo": RUNS,
    "sdxl_lightning": RUNS,
    "sdxl_lcm": _CONSISTENCY,
    "sdxl_playground": "EDMDPMSolverMultistepScheduler " + _NO_BETAS,
    "sdxl_inpaint": RUNS,
    "sdxl_ip2p": RUNS,
    "sdxl_refiner": _NO_NETWORK.format("StableDiffusionXLImg2ImgPipeline"),
    # transformers
    "sd3": RUNS,
    "sd3_no_t5": RUNS,
    "sd35_medium": RUNS,
    "flux_dev": RUNS,
    "flux_schnell": RUNS,
    "flux_kontext": RUNS,
    "flux_fill": _NO_NETWORK.format("FluxFillPipeline"),
    "chroma": RUNS,
    "flux2_dev": RUNS,
    "flux2_klein": RUNS,
    "pixart_sigma": RUNS,
    "sana": RUNS,
    "sana_euler": RUNS,
    "lumina2": RUNS,
    "z_image": RUNS,
    "qwen_image": RUNS,
    "qwen_image_edit": RUNS,
}
"""What happens: it runs, or this pattern is in the one line that says why not, and what to do."""


def test_every_kind_is_expected_to_do_something() -> None:
    assert {*EXPECTED} == {*KINDS}


def test_there_is_a_kind_of_each_architecture_to_edit_scenes_and_drawings_with(
    tiny_model: Callable[[str], Path],
) -> None:
    folders = [loading.find_card(named(kind, tiny_model)).folder for kind in FAMILIES]
    pipelines = [json.loads((folder / "model_index.json").read_text())["_class_name"] for folder in folders]
    assert {loading._ARCHITECTURES[pipeline] for pipeline in pipelines} == {*loading._ARCHITECTURES.values()}


@pytest.mark.parametrize("kind", EXPECTED)
def test_an_edit_runs_or_is_refused_in_one_line(kind: str, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    done = attempt(tiny_model(kind), tmp_path)
    if EXPECTED[kind] == RUNS:
        assert done.runs, done
    else:
        assert done.refusal is not None, done
        assert re.search(EXPECTED[kind], done.refusal), done.refusal
