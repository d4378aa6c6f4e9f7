"""The networks of the embedded model before training, its tokenizer and its noise schedule."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pds_nerfstudio.toyworld.grammar import vocabulary

TEXT_LENGTH = 40
"""Tokens that the text encoder reads."""


def make_vae(resolution: int) -> AutoencoderKL:
    """Return a small AutoencoderKL of Stable Diffusion's kind: 8× smaller latents of 4 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 112),
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=4,
        sample_size=resolution,
    )


class TextToLatent(nn.Module):
    """The UNet and the text encoder, trained together.

    Args:
        tokenizer: Whose tokens it reads.
        latent_size: Side of the latents.
    """

    def __init__(self, tokenizer: CLIPTokenizer, latent_size: int) -> None:
        super().__init__()
        width = 192
        self.unet = UNet2DConditionModel(
            sample_size=latent_size,
            block_out_channels=(96, 128, 160),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=width,
            attention_head_dim=(3, 4, 5),  # diffusers reads this as the number of heads: 32 channels each
        )
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=3,
                num_attention_heads=6,
                max_position_embeddings=TEXT_LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Return the noise in `noisy` as the caption's tokens explain it."""
        states = self.text(tokens).last_hidden_state
        return self.unet(noisy, t, encoder_hidden_states=states, return_dict=False)[0]


def bytes_to_unicode() -> dict[int, str]:
    """Return a visible character for each byte, as byte-level BPE writes them (Radford et al. 2019)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = (byte for byte in range(256) if byte not in visible)
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def byte_pair_merges(words: list[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges (Sennrich et al. 2016) that make each word one token; ties go to the later pair."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for tokens in split for pair in itertools.pairwise(tokens)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for tokens in split:
            for i in range(len(tokens) - 2, -1, -1):
                if tuple(tokens[i : i + 2]) == best:
                    tokens[i : i + 2] = ["".join(best)]
    return merges


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer (byte-level BPE) that has a token for each of the world's words and some for any text."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(bytes_to_unicode().values())
    merges = byte_pair_merges(vocabulary())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TEXT_LENGTH,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], device: torch.device) -> Tensor:
    """Return token ids, padded to the text encoder's length."""
    batch = tokenizer(captions, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")
    return batch.input_ids.to(device)


def make_scheduler() -> DDIMScheduler:
    """Return Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
