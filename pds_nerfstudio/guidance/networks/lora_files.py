"""What the file of a LoRA says about itself: which models it is for, and in whose format it is."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open


class _Family(NamedTuple):
    """Models whose LoRAs are for each other."""

    name: str
    pipeline: str
    """How the classes of its pipelines begin."""
    said: str
    """How trainers begin its name, in small letters and digits alone."""


_FAMILIES = (
    _Family("Stable Diffusion XL", "StableDiffusionXL", "stablediffusionxl|sdxl"),
    _Family("Stable Diffusion 3", "StableDiffusion3", "stablediffusion3|sd3"),
    _Family("Stable Diffusion 1 or 2", "StableDiffusion", "stablediffusionv?[12]|sdv?[12]"),
    _Family("FLUX.2", "Flux2", "flux2"),
    _Family("FLUX.1", "Flux", "flux"),
    _Family("Chroma", "Chroma", "chroma"),
    _Family("Z-Image", "ZImage", "zimage"),
    _Family("Qwen-Image", "QwenImage", "qwenimage"),
    _Family("Sana", "Sana", "sana"),
    _Family("Lumina 2", "Lumina2", "lumina(image)?2"),
    _Family("PixArt", "PixArt", "pixart"),
)
_FIELDS = ("modelspec.architecture", "ss_base_model_version")
"""Where trainers write down what they trained: the first by the standard of Stability AI, the second by kohya's own."""


def family_of(pipeline: Any) -> str | None:
    """Return the family of models that a pipeline is of; None if it is none of those known."""
    kind = type(pipeline).__name__
    return next((family.name for family in _FAMILIES if kind.startswith(family.pipeline)), None)


def said_family(path: Path) -> str | None:
    """Return the family that a file says its LoRA was trained for; None if it says none of those known."""
    metadata, _ = _header(path)
    for field in _FIELDS:
        said = re.sub(r"[^a-z0-9]", "", metadata.get(field, "").lower())
        for family in _FAMILIES:
            if re.match(family.said, said):
                return family.name
    return None


def is_kohya_for_sd3(path: Path) -> bool:
    """Return whether a file has kohya's names for the layers of Stable Diffusion 3."""
    _, names = _header(path)
    return any(name.startswith("lora_unet_joint_blocks_") for name in names)


def _header(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return a file's metadata and the names of its tensors; nothing if it is damaged or in another format."""
    if path.suffix != ".safetensors":
        return {}, []
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, list(file.keys())
    except Exception:  # whoever loads it says what is wrong
        return {}, []
