"""What an edit has changed, in words: how much of the pictures, and how near the rest is to what it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pds_nerfstudio.page import OfAnySize

_CLEAR = 0.1
"""A pixel has clearly changed where its colour has, by this share of the range on average."""
_HARDLY = 0.002
_MOST_DECIBELS = 60.0
_RATED = ((38.0, "is as it was"), (30.0, "is nearly as it was"), (24.0, "is softer or a little moved"))
"""Decibels from which on the rest is called so."""


@dataclass(frozen=True)
class Change:
    """How pictures have changed."""

    share: float
    """Share of the pixels that have clearly changed."""
    rest_decibels: float
    """PSNR of the others to what they were, in dB."""

    @classmethod
    def between(cls, before: Sequence[OfAnySize], after: Sequence[OfAnySize]) -> Change:
        """Return how pictures differ, each from the one before."""
        pairs = zip(before, after, strict=True)
        error = np.concatenate([((b.astype(np.float32) - a) / 255).reshape(-1, 3) for a, b in pairs])
        clear = np.abs(error).mean(1) > _CLEAR
        rest = 1.0 if clear.all() else float(np.square(error[~clear]).mean())
        return cls(float(clear.mean()), min(_MOST_DECIBELS, -10 * math.log10(max(rest, 1e-12))))

    @property
    def words(self) -> str:
        """Return a verdict in a sentence or two."""
        if self.share < _HARDLY:
            return "Hardly anything has changed."
        rated = next((words for least, words in _RATED if self.rest_decibels >= least), "changed as well, though less")
        share = "Less than 1%" if self.share < 0.01 else f"{self.share:.0%}"
        return f"{share} of the picture has clearly changed. The rest {rated} ({self.rest_decibels:.0f} dB)."
