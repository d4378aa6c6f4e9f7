"""What an edit step minimises: the guidance's loss on some rendered views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.gradient import surrogate
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.output.pictures import EditedView
from pds_nerfstudio.scenes.views import SourceView


@dataclass(frozen=True)
class GuidedViews:
    """What the guidance says of some views of one size."""

    losses: list[dict[str, Float[Tensor, ""]]]
    """Of each view, by their names."""
    masks: list[Float[Tensor, "1 height width"] | None]
    """What the edit is about in each view, in 0..1; None where that isn't known."""
    metrics: dict[str, Tensor]
    """The guidance's own."""
    last: EditedView
    """The last of the views, with its gradient."""


def guide(
    guidance: Guidance,
    views: Sequence[SourceView],
    renders: Sequence[Float[Tensor, "height width 3"]],
    progress: float,
    loss_mult: float,
) -> GuidedViews:
    """Return the losses of some views of one size.

    Args:
        guidance: With its prompts.
        views: At least one.
        renders: What they look like now, with gradients.
        progress: Share of the edit that is done, from 0 to 1.
        loss_mult: Multiplies the loss, a mean over the numbers of a latent.
    """
    # What the data set masks out is shown as in the source, so that nothing is asked for there.
    renders = [v.where_shown(rgb, v.image[0].permute(1, 2, 0)) for v, rgb in zip(views, renders, strict=True)]
    # The guidance's gradient stops at the image: the render's own graph is walked once, with everything else.
    images = torch.stack([rgb.float().permute(2, 0, 1) for rgb in renders])
    sources = torch.cat([view.image for view in views])
    gradients, output = guidance.image_gradient(images, sources, progress, [view.index for view in views])
    scale = loss_mult / output.grad[0].numel()
    value = output.loss * scale / len(views)
    losses = []
    for k, (view, rgb) in enumerate(zip(views, renders, strict=True)):
        source, gradient = view.image[0].permute(1, 2, 0), gradients[k].permute(1, 2, 0) * scale
        losses.append({"guidance_loss": surrogate(rgb, gradient, value)})
    masks = [None] * len(losses) if output.mask is None else [*output.mask]
    last = EditedView(view.index, source, rgb.detach(), gradient)
    return GuidedViews(losses, masks, dict(output.metrics), last)
