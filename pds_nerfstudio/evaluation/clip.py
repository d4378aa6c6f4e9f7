"""Score the edit of a real scene, where no true edit is known, by what a CLIP model sees in its pictures.

Features are those of CLIP's joint space (Radford et al. 2021), one vector a picture or prompt; their length carries no
meaning and is divided out everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.evaluation.consistency import direction_consistency
from pds_nerfstudio.hub import hub_if_it_answers

_ADVICE = "pass the folder of a CLIP model, or a hub id such as 'openai/clip-vit-large-patch14'"
_BATCH = 16


@dataclass(frozen=True)
class ClipScores:
    """CLIP's scores of an edit, as means over views."""

    directional: float
    """CLIP directional similarity, −1..1: whether the pictures changed the way the prompts did; NaN without a source
    prompt, from which no direction leads."""
    score: float
    """CLIP score of the edited pictures, −1..1: whether they show what the target prompt says."""
    score_unedited: float
    """The same of the unedited pictures: what doing nothing would score."""
    consistency: float
    """Whether neighbouring views change alike, −1..1 (`consistency.direction_consistency`); NaN for a single view."""


def clip_score(
    image: Float[Tensor, "views features"], text: Float[Tensor, "#views features"]
) -> Float[Tensor, " views"]:
    """Return the CLIP score (Hessel et al. 2021, equation 1, without its factor 2.5): the cosine of picture and prompt.

    Args:
        image: Features of the pictures.
        text: Features of the prompt, or of one prompt a picture.
    """
    return F.cosine_similarity(image, text, dim=1)


def directional_similarity(
    source_image: Float[Tensor, "views features"],
    edited_image: Float[Tensor, "views features"],
    source_text: Float[Tensor, "#views features"],
    target_text: Float[Tensor, "#views features"],
) -> Float[Tensor, " views"]:
    """Return the CLIP directional similarity (StyleGAN-NADA, Gal et al. 2022, equation 3): the cosine of both changes.

    A picture, or a prompt, that did not change points nowhere and scores 0.

    Args:
        source_image: Features of the pictures before the edit.
        edited_image: Features of the same views after it.
        source_text: Features of the prompt that says what the scene showed.
        target_text: Features of the prompt that says what it should show.
    """
    image_change = F.normalize(edited_image, dim=1) - F.normalize(source_image, dim=1)
    text_change = F.normalize(target_text, dim=1) - F.normalize(source_text, dim=1)
    return F.cosine_similarity(image_change, text_change, dim=1)


def preprocess(
    image: Float[Tensor, "batch 3 height width"], size: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch 3 size size"]:
    """Return pictures preprocessed as CLIP's own code does it, without rounding to bytes.

    Args:
        image: In 0..1.
        size: Side of the square that the model takes: the shorter side is scaled to it, the longer one cropped.
        mean: Of each channel, to subtract.
        std: Of each channel, to divide by.
    """
    height, width = image.shape[-2:]
    shorter = min(height, width)
    scaled = (size * height // shorter, size * width // shorter)
    image = F.interpolate(image, scaled, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    image = image[..., top : top + size, left : left + size]
    return (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]


class Clip:
    """A CLIP model with its tokenizer and preprocessing; `load_clip` gets one.

    Args:
        model: The network, as transformers has it.
        tokenizer: Its own.
        mean: Of each channel, to subtract from pictures.
        std: Of each channel, to divide them by.
    """

    def __init__(self, model: Any, tokenizer: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._mean, self._std = mean, std

    @torch.no_grad()
    def image_features(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return features of pictures in 0..1, of any size, on the model's device."""
        size = self._model.config.vision_config.image_size
        parts = []
        for part in image.split(_BATCH):
            pixels = preprocess(part.to(self._model.device, torch.float32), size, self._mean, self._std)
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
            parts.append(self._model.visual_projection(pooled))
        return torch.cat(parts)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Float[Tensor, "batch features"]:
        """Return features of prompts, cut where the model reads no further, on the model's device."""
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(prompts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        pooled = self._model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return self._model.text_projection(pooled)


def judge(
    clip: Clip,
    before: Float[Tensor, "views features"],
    after: Float[Tensor, "views features"],
    source_prompt: str,
    target_prompt: str,
) -> ClipScores:
    """Score an edit over views by their features, so that no two pictures need be at hand together.

    Args:
        clip: The model to judge by.
        before: Its features of the scene before the edit, neighbouring views in a row.
        after: Its features of the same views after it.
        source_prompt: What the scene showed; empty if the edit was asked for by an instruction.
        target_prompt: What it should show.
    """
    texts = clip.text_features([source_prompt, target_prompt])
    directional = directional_similarity(before, after, texts[:1], texts[1:]).mean().item()
    return ClipScores(
        directional=directional if source_prompt.strip() else math.nan,
        score=clip_score(after, texts[1:]).mean().item(),
        score_unedited=clip_score(before, texts[1:]).mean().item(),
        consistency=direction_consistency(F.normalize(before, dim=1), F.normalize(after, dim=1)).mean().item(),
    )


def load_clip(model: str, device: torch.device | str = "cpu") -> Clip:
    """Get a CLIP model, in float32.

    Args:
        model: A local folder as `save_pretrained` writes it, or a hub id.
        device: Where it is to run.

    Raises:
        UserError: If there is no such model, it can't be downloaded or read, or it is not a CLIP model.
    """
    # Imported here because it takes seconds, and most evaluations need no CLIP.
    from transformers import AutoConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder = Path(model).expanduser()
    local = bool(model) and folder.is_dir()
    if not local and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model):
        raise UserError(f"There is no CLIP model folder '{model}': {_ADVICE}.")
    name = str(folder) if local else model
    try:
        with hub_if_it_answers(name):
            config = AutoConfig.from_pretrained(name)
            if config.model_type != "clip":
                raise UserError(f"'{model}' is no CLIP model, it is of type '{config.model_type}': {_ADVICE}.")
            loaded: Any = CLIPModel.from_pretrained(name, output_loading_info=True)
            network, report = loaded
            tokenizer = CLIPTokenizer.from_pretrained(name)
            processor = CLIPImageProcessor.from_pretrained(name)
    except UserError:
        raise
    except Exception as error:  # Network, disk, formats: each library raises its own.
        what = "cannot be read" if local else "is not on this machine and cannot be downloaded"
        raise UserError(f"The CLIP model '{model}' {what} ({first_line(error)}): {_ADVICE}.") from error
    if report["missing_keys"]:
        raise UserError(f"The CLIP model '{model}' lacks {len(report['missing_keys'])} of its weights: {_ADVICE}.")
    if 2 * len(tokenizer) < network.config.text_config.vocab_size:  # some releases make up for missing files in silence
        raise UserError(f"The CLIP model '{model}' lacks its tokenizer: {_ADVICE}.")
    return Clip(network.to(device, torch.float32), tokenizer, processor.image_mean, processor.image_std)
