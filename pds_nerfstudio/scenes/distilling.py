"""The steps that distil: some views are rendered, and the guidance says how each should change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.anchor import Anchor
from pds_nerfstudio.scenes.losses import guide
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.output.pictures import EditedView
from pds_nerfstudio.scenes.views import SourceView


@dataclass(frozen=True)
class Distilled:
    """What a step that distils comes to."""

    rgb: Float[Tensor, "height width 3"]
    """The last view's render, with gradients."""
    losses: dict[str, Float[Tensor, ""]]
    """By their names, as means over the views."""
    metrics: dict[str, Tensor]
    """The guidance's own."""
    last: EditedView
    """What was seen last, with its gradient."""


def distil(
    model: SceneModel,
    guidance: Guidance,
    anchor: Anchor,
    views: Sequence[SourceView],
    step: int,
    progress: float,
    loss_mult: float,
    photometric_loss_mult: float,
) -> Distilled:
    """Return the losses of a step.

    Args:
        model: Of the scene.
        guidance: With its prompts.
        anchor: Holds what the edit is not about to the source images; it learns the views' masks.
        views: At least one.
        step: As the trainer counts.
        progress: Share of the edit that is done, from 0 to 1.
        loss_mult: Multiplies the guidance's loss, a mean over the numbers of a latent.
        photometric_loss_mult: Multiplies the anchor's distance; 0 compares nothing.
    """
    seen = [model.see(view) for view in views]
    parts = [look.losses for look in seen]
    # Before the guidance, because splatfacto waits for the device when it renders.
    looks = list(zip(views, seen, strict=True)) if photometric_loss_mult else []
    anchored = model.compare_with_source(anchor, step, looks) if looks else None
    alike: dict[torch.Size, list[tuple[SourceView, Tensor]]] = defaultdict(list)
    for view, look in zip(views, seen, strict=True):
        alike[look.rgb.shape].append((view, look.rgb))
    for group in alike.values():
        of_one_size = [view for view, _ in group], [rgb for _, rgb in group]
        guided = guide(guidance, *of_one_size, progress, loss_mult)
        parts += guided.losses
        if anchored is not None:
            for view, mask in zip(of_one_size[0], guided.masks, strict=True):
                anchor.learn(view.index, mask)
    names = dict.fromkeys(name for part in parts for name in part)
    losses = {name: torch.stack([part[name] for part in parts if name in part]).sum() / len(views) for name in names}
    if anchored is not None:
        pixels, others = anchored
        distance = photometric_loss_mult * anchor.distance(pixels)
        losses |= {"photometric_loss": distance, **{name: losses[name] + others[name] for name in others}}
    return Distilled(seen[-1].rgb, losses, guided.metrics, guided.last)
