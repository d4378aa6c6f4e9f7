"""One kind of model of each architecture, and the embedded flow, for tests of what every one of them can edit."""

from collections.abc import Callable
from pathlib import Path

from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODELS

FAMILIES = (
    "sd15",
    "sd_ip2p",
    "sd_inpaint",
    "sdxl",
    "sdxl_ip2p",
    "sdxl_inpaint",
    "sd3",
    "flux_dev",
    "flux_kontext",
    "chroma",
    "flux2_dev",
    "flux2_klein",
    "z_image",
    "qwen_image",
    "qwen_image_edit",
    "sana",
    "lumina2",
    "pixart_sigma",
    "toyworld-flow",
)
"""Their names."""
TAKE_INSTRUCTIONS = ("sd_ip2p", "sdxl_ip2p", "flux_kontext", "qwen_image_edit")
"""Those that look at the source picture."""


def named(kind: str, tiny_model: Callable[[str], Path]) -> str:
    """Return what a user names as the model of a kind."""
    return kind if kind in EMBEDDED_MODELS else str(tiny_model(kind))


def prompts_for(kind: str) -> tuple[str, str]:
    """Return a source and a target prompt in words that all models know; an instruction for those that take one."""
    source = "" if kind in TAKE_INSTRUCTIONS else "a drawing of a man"
    return source, "a drawing of a man raising his arms"
