"""The fields of the panel for the settings of an edit, with their hints, and presets for them."""

from __future__ import annotations

from typing import Any, get_args

from viser import GuiApi

from pds_nerfstudio.guidance.config import MaskSource, TimestepSchedule
from pds_nerfstudio.guidance.objectives import OBJECTIVES
from pds_nerfstudio.scenes.run import Settings

BY_HAND = "(by hand)"
AS_BEGUN = "as the run began"
PRESETS: dict[str, Settings] = {
    "only what the words name": {"localize": 1.0, "photometric_loss_mult": 3.0},
    "the whole picture": {"localize": 0.0, "photometric_loss_mult": 0.0},
    "layout first, detail last": {"t_schedule": "annealed", "t_min": 0.2, "t_max": 1.0},
    "PDS as published": {
        "objective": "pds",
        "guidance_scale": 100.0,
        "identity_weight": 1.0,
        "text_weight": 1.0,
        "localize": 0.0,
        "photometric_loss_mult": 0.0,
        "t_schedule": "uniform",
        "t_min": 0.02,
        "t_max": 0.98,
    },
}
"""Settings that go together, by what they are for."""


def add_settings(gui: GuiApi, now: Settings) -> dict[str, Any]:
    """Add a field for each setting that takes effect at once; return them by the names of their settings.

    Args:
        gui: Of all browsers.
        now: The settings as they are.
    """
    return {**_add_guidance(gui, now), **_add_holding(gui, now)}


def _add_guidance(gui: GuiApi, now: Settings) -> dict[str, Any]:
    """Add the fields that say how the words act, and return them."""
    inputs: dict[str, Any] = {}
    inputs["objective"] = gui.add_dropdown(
        "Objective", objectives(now["objective"]), now["objective"], hint="How the words become a gradient."
    )
    inputs["guidance_scale"] = gui.add_number(
        "Guidance scale",
        float(now["guidance_scale"]),
        min=0.0,
        step=0.1,
        hint="How strongly the words count. Raise it if nothing changes; lower it if colours burn.",
    )
    inputs["identity_weight"] = gui.add_number(
        "Identity weight",
        float(now["identity_weight"]),
        min=0.0,
        step=0.05,
        hint="How strongly the source holds. Lower it for larger changes.",
    )
    inputs["text_weight"] = gui.add_number(
        "Text weight",
        float(now["text_weight"]),
        min=0.0,
        step=0.05,
        hint="Multiplies the pull towards the target's words.",
    )
    inputs["t_range"] = gui.add_multi_slider(
        "t range",
        0.0,
        1.0,
        0.01,
        (float(now["t_min"]), float(now["t_max"])),
        hint="Least and most noise that the model sees. Little changes fine detail, much changes layout.",
    )
    inputs["t_schedule"] = gui.add_dropdown(
        "t schedule",
        get_args(TimestepSchedule),
        now["t_schedule"],
        hint="uniform: any noise of that range at each step. annealed: from most to least, layout first.",
    )
    return inputs


def _add_holding(gui: GuiApi, now: Settings) -> dict[str, Any]:
    """Add the fields that say what of the source stays, and how the edit is refined, and return them."""
    inputs: dict[str, Any] = {}
    inputs["localize"] = gui.add_slider(
        "Localize",
        0.0,
        1.0,
        0.05,
        float(now["localize"]),
        hint="How much of what the words don't name stays: 0 edits everywhere, 1 only where the prompts differ.",
    )
    inputs["localize_by"] = gui.add_dropdown(
        "Mask made by",
        get_args(MaskSource),
        now["localize_by"],
        hint="What tells where the prompts differ (localize_by). difference: what the model predicts for them; not "
        "for the objective sds. attention: where the model looks for the words that differ.",
    )
    inputs["photometric_loss_mult"] = gui.add_number(
        "Photos hold",
        float(now["photometric_loss_mult"]),
        min=0.0,
        step=0.5,
        hint="Photometric weight (photometric_loss_mult): how strongly the photos hold what the edit is not about.",
    )
    inputs["redraw_strength"] = gui.add_slider(
        "Redraw",
        0.05,
        1.0,
        0.05,
        float(now["redraw_strength"]),
        hint="Noise added before a view is redrawn while the edit is refined: little mends detail, much invents it.",
    )
    return inputs


def objectives(present: str) -> tuple[str, ...]:
    """Return the objectives to choose from: all by name, and the present one, which may have options of its own."""
    return tuple(dict.fromkeys([*OBJECTIVES, present]))
