"""The settings that may change while an edit runs, and where an edit's configuration holds them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pds_nerfstudio.checks import finite, share
from pds_nerfstudio.scenes.run import GUIDANCE_SETTINGS, Settings


def settings_of(config: Any) -> Settings:
    """Return the settings as they are now; without the number of steps.

    Args:
        config: An `EditPipelineConfig`.
    """
    return {
        "src_prompt": config.src_prompt,
        "tgt_prompt": config.tgt_prompt,
        **{name: getattr(config.guidance, name) for name in GUIDANCE_SETTINGS},
        "photometric_loss_mult": config.photometric_loss_mult,
        "redraw_strength": config.refinement.strength,
        "only": config.only.plain,
    }


def check_scene_settings(changes: Settings) -> None:
    """Refuse values of what is neither the guidance's nor a prompt.

    Raises:
        UserError: Naming the field.
    """
    given = SimpleNamespace(**changes)
    if "photometric_loss_mult" in changes:
        finite(given, "photometric_loss_mult")
    if "redraw_strength" in changes:
        share(given, "redraw_strength", above=True, of="the noise")


def take_scene_settings(config: Any, changes: Settings) -> None:
    """Set those, once nothing was refused."""
    config.photometric_loss_mult = changes.get("photometric_loss_mult", config.photometric_loss_mult)
    config.refinement.strength = changes.get("redraw_strength", config.refinement.strength)
