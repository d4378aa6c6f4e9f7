"""Masks of a scene's views from words, by a model that finds in pictures what words name.

The model is CLIPSeg (Lüddecke and Ecker, CVPR 2022), of `transformers`, which needs no training for the words at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, CLIPSegForImageSegmentation

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.hub import hub_if_it_answers
from pds_nerfstudio.scenes.views import SourceViews

Segment = Callable[[Float[Tensor, "3 height width"], str], Float[Tensor, "rows columns"]]
"""Says how likely it is, in 0..1, that words name what is at each place of a picture in 0..1."""

_LOOKED_AT = 48
"""Views, evenly among all, in which words are looked for."""
_LEAST = 0.1
"""A model that is nowhere this sure has not found what the words name."""


def masks_of_words(words: str, segment: Segment, views: SourceViews) -> dict[int, Float[Tensor, "height width"]]:
    """Return where words name what some views show, in 0..1 and at the size of the guidance.

    Args:
        words: For example "the man's hat".
        segment: Finds it.
        views: Of the scene.

    Returns:
        The masks of up to 48 views, by their numbers.

    Raises:
        UserError: If it is found in none of them.
    """
    n = len(views)
    looked_at = sorted({k * n // min(n, _LOOKED_AT) for k in range(min(n, _LOOKED_AT))})
    masks = {}
    for index in track(looked_at, f"Looking for {words!r}", console=CONSOLE, transient=True):
        image = views[index].image[0]
        found = segment(image, words)[None, None]
        masks[index] = F.interpolate(found, tuple(image.shape[-2:]), mode="bilinear")[0, 0]
    if not any(bool((mask > _LEAST).any()) for mask in masks.values()):
        raise UserError(f"--pipeline.only.words {words!r} is found in none of the views: say it in other words.")
    return masks


def load_segmenter(model: str, device: torch.device | str) -> Segment:
    """Return a CLIPSeg model's way to find words in pictures.

    Args:
        model: Its folder, or its id on the Hugging Face hub.
        device: Where it works.

    Raises:
        UserError: If it can't be had, or is of another kind.
    """
    option = f"--pipeline.only.segmenter {model}"
    try:
        with hub_if_it_answers(model):
            kind = AutoConfig.from_pretrained(model).model_type
            if kind != "clipseg":
                raise UserError(f"{option} is of the kind {kind}: give a CLIPSeg model, or its folder.")
            network = CLIPSegForImageSegmentation.from_pretrained(model).to(device).eval()
            processor = AutoProcessor.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{option} can't be loaded ({first_line(error)}): give the folder of a CLIPSeg model, or "
            "--pipeline.only.masks."
        ) from error

    @torch.no_grad()
    def segment(image: Float[Tensor, "3 height width"], words: str) -> Float[Tensor, "rows columns"]:
        picture = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        given = processor(text=[words], images=[picture], return_tensors="pt").to(device)
        logits = network(**given).logits
        return logits.reshape(logits.shape[-2:]).sigmoid().to(image)

    return segment
