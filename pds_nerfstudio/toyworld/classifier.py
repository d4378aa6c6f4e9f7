"""Recognise the attributes in a picture of the world: one small network with a head for each attribute.

Evaluation uses it to say whether an edit happened and what else changed. It was trained on the world's own pictures
(`scripts/train_toyworld.py`) and knows nothing else.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from pds_nerfstudio.toyworld.grammar import VALUES

WEIGHTS = Path(__file__).parent / "classifier.safetensors"
RESOLUTION = 128
_CHANNELS = (3, 32, 64, 96, 128)


class AttributeClassifier(nn.Module):
    """Logits for every attribute of a picture, and the features they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1),
                nn.GroupNorm(8, after),
                nn.SiLU(),
                nn.Conv2d(after, after, 3, 1, 1),
                nn.SiLU(),
            )
            for before, after in itertools.pairwise(_CHANNELS)
        )
        self.trunk = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(_CHANNELS[-1] * 16, 128), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in VALUES.items()})

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> AttributeClassifier:
        """Return the trained classifier, in float32, ready to use."""
        model = cls()
        model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
        return model.to(device).eval().requires_grad_(False)

    def features(self, image: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the output of each stage, at 1/2, 1/4, 1/8 and 1/16 of `RESOLUTION`; `image` in 0..1, of any size."""
        if image.shape[-2:] != (RESOLUTION, RESOLUTION):
            image = F.interpolate(image, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True)
        h, outputs = image * 2 - 1, []
        for stage in self.stages:
            h = stage(h)
            outputs.append(h)
        return outputs

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch values"]]:
        """Return logits under each attribute's name; `image` in 0..1."""
        trunk = self.trunk(self.features(image)[-1])
        return {name: head(trunk) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, image: Float[Tensor, "batch 3 height width"]) -> dict[str, Int[Tensor, " batch"]]:
        """Return the index into `VALUES` of the likeliest value of each attribute."""
        return {name: logits.argmax(1) for name, logits in self(image).items()}
