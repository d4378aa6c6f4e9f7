"""Named defaults of pds-image: which options have proved good for which kind of edit (docs/experiments.md)."""

from __future__ import annotations

from dataclasses import replace

from pds_nerfstudio.images.edit_loop import ImageEditConfig, picture_guidance
from pds_nerfstudio.runs import Recipe

RECIPES = {
    "default": Recipe("colours, surfaces, other things in the same place", {}),
    # Larger steps, longer at the largest noise, and little pull to the source; redraws details that the defaults keep.
    # Between day and sunset the defaults do better.
    "light": Recipe(
        "the light of the whole picture, to or from night",
        {
            "edit": ImageEditConfig(latent_lr=0.1),
            "guidance": replace(picture_guidance(), t_max=0.98, t_power=3.0, identity_weight=0.3, identity_inside=1.0),
        },
    ),
    # Nearer to the true edit than the defaults, in half the time; cannot turn night into day.
    "local": Recipe(
        "something small or a limb: a hat, a balloon, arms",
        {
            "edit": ImageEditConfig(steps=50),
            "guidance": replace(picture_guidance(), t_max=0.98, t_power=1.0, identity_weight=0.3, identity_inside=1.0),
        },
    ),
    # Nearer to the true drawing than the defaults, which leave a trace of the sky on the paper, in half the time.
    "style": Recipe(
        "another look for the whole picture: a photo becomes a drawing",
        {"guidance": replace(picture_guidance(), objective="lusd")},
    ),
}
"""By name; the first is taken where none is named."""
