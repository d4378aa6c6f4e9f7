"""Large text encoders in fewer bits, for machines whose memory they don't fit."""

from importlib.util import find_spec
from typing import Any, Literal

import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.card import ModelCard

Quantization = Literal["full", "int8", "nf4"]
"""How weights are kept: as they are, in 8 bits (Dettmers et al. 2022), or in 4 (NF4, Dettmers et al. 2023)."""


def large_text_encoders(card: ModelCard) -> list[str]:
    """Return the text encoders of a model that are language models; those of CLIP are small."""
    encoders = {part: card.part_class(part) for part in card.index if part.startswith("text_encoder")}
    return [part for part, kind in encoders.items() if kind and "CLIP" not in kind]


def text_quantization(card: ModelCard, how: Quantization, dtype: torch.dtype) -> dict[str, Any]:
    """Return what has diffusers load a model's large text encoders in fewer bits.

    Args:
        card: Of the model.
        how: What its weights are kept in.
        dtype: What it computes in.

    Raises:
        UserError: If the model has no such encoder, or holds it in a single file, or bitsandbytes is absent.
    """
    if how == "full":
        return {}
    parts = large_text_encoders(card)
    if not parts:
        raise UserError(
            f"'{card.name}' has no text encoder that is large (T5 or a language model): leave text_encoders full."
        )
    if card.checkpoint is not None and not card.only_network:
        raise UserError(
            f"'{card.name}' holds its text encoders itself, as they are: leave text_encoders full, or give a folder in "
            "diffusers' layout."
        )
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"text_encoders {how} needs the package bitsandbytes: pip install bitsandbytes, or leave text_encoders "
            "full."
        )
    from diffusers.quantizers import PipelineQuantizationConfig  # here, because it takes seconds
    from transformers import BitsAndBytesConfig

    bits = BitsAndBytesConfig(
        load_in_8bit=how == "int8",
        load_in_4bit=how == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype.itemsize == 2 else dtype,
    )
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping=dict.fromkeys(parts, bits))}
