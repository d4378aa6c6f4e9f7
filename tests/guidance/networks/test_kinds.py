"""What happens with models of every kind that people have: an edit that runs, or one line that says why not."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guidance.networks.tiny.attempt import attempt
from tests.guidance.networks.tiny.registry import KINDS

RUNS = "runs"
_UNKNOWN = "choose a Stable Diffusion 1.x or 2.x text-to-image model"
_TWO_ENCODERS = f"has two text encoders .*: {_UNKNOWN}"
_NO_UNET = f"lacks its unet: {_UNKNOWN}"
_CHANNELS = f"takes [5789] channels where its latents have 4 .*: {_UNKNOWN}"
_NO_BETAS = "has no noise schedule"
_NO_WEIGHTS = "cannot be loaded .*: download or save it again"

EXPECTED = {
    # Stable Diffusion 1 and 2
    "sd15": RUNS,
    "sd15_safety": RUNS,
    "sd21_v": RUNS,
    "sd_turbo": RUNS,
    "sd15_lcm": RUNS,
    "sd15_unipc_karras": RUNS,
    "sd15_sample_pred": "predicts 'sample'",
    "sd15_edm": "EDMEulerScheduler " + _NO_BETAS,
    "sd15_flow_unipc": "predicts 'flow_prediction'",
    "sd15_flow_dpm_noise": RUNS,
    "sd15_flow_euler": "FlowMatchEulerDiscreteScheduler " + _NO_BETAS,
    "sd15_taesd": f"AutoencoderTiny .*: {_UNKNOWN}",
    "sd15_asym_vae": f"AsymmetricAutoencoderKL .*: {_UNKNOWN}",
    "sd15_vae_any_precision": RUNS,
    "sd15_four_levels": RUNS,
    "sd15_long_text": RUNS,
    "sd15_textual_inversion": RUNS,
    "sd_inpaint": _CHANNELS,
    "sd_ip2p": _CHANNELS,
    "sd_img2img": RUNS,
    "sd_depth_like": _CHANNELS,
    "sd_upscaler": _CHANNELS,
    "sd_controlnet": RUNS,
    "controlnet_alone": "no diffusers model .*: " + _UNKNOWN,
    # its layouts
    "sd15_fp16_variant": _NO_WEIGHTS,
    "sd15_fp16_plain_name": RUNS,
    "sd15_both_variants": RUNS,
    "sd15_sharded": RUNS,
    "sd15_sharded_fp16_variant": _NO_WEIGHTS,
    "sd15_bin": RUNS,
    "sd15_fp16_bin": _NO_WEIGHTS,
    "sd15_old_bin": RUNS,
    "sd15_old_keys": RUNS,
    "sd15_old_index": RUNS,
    "sd15_missing_shard": _NO_WEIGHTS,
    "sd15_missing_weights": _NO_WEIGHTS,
    "cached": RUNS,
    "cached_without_safety_checker": RUNS,
    "cached_only_fp16": _NO_WEIGHTS,
    "cached_half": "lacks its vae",
    "cached_half_sharded": _NO_WEIGHTS,
    # Stable Diffusion XL
    "sdxl": _TWO_ENCODERS,
    "sdxl_fp16_variant": _TWO_ENCODERS,
    "sdxl_turbo": _TWO_ENCODERS,
    "sdxl_lightning": _TWO_ENCODERS,
    "sdxl_lcm": _TWO_ENCODERS,
    "sdxl_playground": _TWO_ENCODERS,
    "sdxl_inpaint": _TWO_ENCODERS,
    "sdxl_ip2p": _TWO_ENCODERS,
    "sdxl_refiner": _TWO_ENCODERS,
    # transformers
    "sd3": _TWO_ENCODERS,
    "sd3_no_t5": _TWO_ENCODERS,
    "sd35_medium": _TWO_ENCODERS,
    "flux_dev": _TWO_ENCODERS,
    "flux_schnell": _TWO_ENCODERS,
    "flux_kontext": _TWO_ENCODERS,
    "flux_fill": _TWO_ENCODERS,
    "chroma": _NO_UNET,
    "flux2_dev": _NO_UNET,
    "flux2_klein": _NO_UNET,
    "pixart_sigma": _NO_UNET,
    "sana": _NO_UNET,
    "sana_euler": _NO_UNET,
    "lumina2": _NO_UNET,
    "z_image": _NO_UNET,
    "qwen_image": _NO_UNET,
    "qwen_image_edit": _NO_UNET,
}
"""What happens: it runs, or this pattern is in the one line that says why not, and what to do."""
DEFECTS = ("sd21_zsnr", "sd15_zsnr_euler", "sd15_ipndm", "sd15_no_sample_size")
"""Kinds with which an edit neither runs nor is refused. There should be none."""


def test_every_kind_is_expected_to_do_something() -> None:
    assert {*EXPECTED, *DEFECTS} == {*KINDS}


@pytest.mark.parametrize("kind", EXPECTED)
def test_an_edit_runs_or_is_refused_in_one_line(kind: str, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    done = attempt(tiny_model(kind), tmp_path)
    if EXPECTED[kind] == RUNS:
        assert done.runs, done
    else:
        assert done.refusal is not None, done
        assert re.search(EXPECTED[kind], done.refusal), done.refusal
