"""Large text encoders in fewer bits."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.networks import quantization
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from tests.guidance.networks.test_architectures import PROMPT
from tests.guidance.networks.test_loading import refusal
from tests.guidance.networks.test_options import gradient, load

Tiny = Callable[[str], Path]
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs the package bitsandbytes")


def size(encoder: nn.Module) -> int:
    """Bytes of the weights of all layers but T5's wo, whose numbers leave the range of 16 bits."""
    named = encoder.named_modules()
    layers = (layer for name, layer in named if isinstance(layer, nn.Linear) and not name.endswith(".wo"))
    return sum(x.numel() * x.element_size() for layer in layers for x in layer.parameters())


@pytest.fixture(scope="module")
def wide(tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PixArt-Σ under a T5 of layers as wide as the blocks of 64 numbers that NF4 has a scale for each of."""
    from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("wide") / "pixart"
    with torch.random.fork_rng(devices=[]), quiet_libraries(progress_bars=False):
        torch.manual_seed(0)
        pipeline: Any = PixArtSigmaPipeline.from_pretrained(tiny_model("pixart_sigma"))
        config = {**pipeline.transformer.config, "caption_channels": 64}
        encoder = T5EncoderModel(
            T5Config(
                vocab_size=128, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, tie_word_embeddings=False
            )
        )
        pipeline.register_modules(text_encoder=encoder, transformer=PixArtTransformer2DModel.from_config(config))
        pipeline.save_pretrained(folder)
    return folder


@needs_bitsandbytes
@torch.no_grad()
@pytest.mark.parametrize(("how", "bits", "error"), [("int8", 8, 0.05), ("nf4", 4, 0.3)])
def test_prompts_mean_nearly_the_same_in_less_memory(how: str, bits: int, error: float, wide: Path) -> None:
    full, fewer = load(wide), load(wide, text_encoders=how)
    assert 32 * size(fewer._pipeline.text_encoder) == bits * size(full._pipeline.text_encoder)
    one, other = (network.condition([PROMPT])["encoder_hidden_states"] for network in (full, fewer))
    assert not torch.equal(one, other) and (one - other).norm() < error * one.norm()


@needs_bitsandbytes
@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd3", "lumina2", "z_image", "flux2_klein", "qwen_image"])
def test_all_but_the_large_encoders_stay_as_they_are(kind: str, tiny_model: Tiny) -> None:
    full, fewer = load(tiny_model(kind)), load(tiny_model(kind), text_encoders="int8")
    small = [part for part in ("text_encoder", "text_encoder_2") if kind == "sd3"]
    for part in ("transformer", "vae", *small):
        states = [getattr(network._pipeline, part).state_dict() for network in (full, fewer)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), part
    large = fewer._pipeline.text_encoder_3 if kind == "sd3" else fewer._pipeline.text_encoder
    assert large.is_quantized


@needs_bitsandbytes
@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_an_edit_runs_with_them(how: str, wide: Path) -> None:
    assert gradient(wide, text_encoders=how).isfinite().all()


def test_without_bitsandbytes_it_is_named(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    message = refusal(lambda: load(tiny_model("sd3"), text_encoders="nf4"))
    assert "nf4 needs the package bitsandbytes: pip install bitsandbytes" in message
    load(tiny_model("sd3"))


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "sd3_no_t5"])
def test_models_without_a_large_encoder_are_refused(kind: str, tiny_model: Tiny) -> None:
    message = refusal(lambda: load(tiny_model(kind), text_encoders="int8"))
    assert "has no text encoder that is large" in message and message.endswith("leave text_encoders full.")


@pytest.mark.usefixtures("unchecked")
def test_other_numbers_of_bits_are_refused_by_name() -> None:
    given: Any = "int3"
    with pytest.raises(UserError, match="text_encoders"):
        GuidanceConfig(text_encoders=given).check()
