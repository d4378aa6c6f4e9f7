"""Tiny models of every kind that people have: real architectures and layouts, few and random weights.

They are what a user may name as a model, whether it can be edited with or not; nothing is downloaded for them.
"""

from pathlib import Path

from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from tests.guidance.networks.tiny import layouts, multimodal, sd, single_text, xl
from tests.guidance.networks.tiny.registry import KINDS

__all__ = ["KINDS", "build"]

_FAMILIES = (sd, layouts, xl, multimodal, single_text)  # imported for the kinds that they register


def build(kind: str, folder: Path) -> Path:
    """Build a model of a kind, always with the same weights, and return the folder."""
    import torch

    with torch.random.fork_rng(devices=[]), quiet_libraries(progress_bars=False):
        torch.manual_seed(0)
        KINDS[kind](folder)
    return folder
