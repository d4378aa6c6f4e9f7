"""What a gradient that means something does to each number of a scene.

Adam takes steps of the same size wherever it sees gradients, however small: where an edit asks for nothing, it steps
what is left, which is noise, at its full rate. Here a number's steps are shortened by √(v / (v + f)), where v is Adam's
mean square of its gradients, and f the same for pictures that ask, at random, for as little as means anything at all:

    θ ← θ − η m / √(v + f)

Numbers whose gradients are large beside that are trained by Adam as ever; the others as by gradient descent that knows
how much each of them does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.optimizers import EditOptimizers
from pds_nerfstudio.scenes.views import SourceView, SourceViews

_PROBED = 48
"""Views, evenly among all, that say how much each number of a scene does."""
_GRAIN = 8
"""Pixels along a side of which one is asked for the same: the noise of a latent's place is as coarse."""


def measure_floors(
    optimizers: EditOptimizers,
    model: SceneModel,
    guidance: Guidance,
    views: SourceViews | Sequence[SourceView],
    smallest: float,
    loss_mult: float,
) -> None:
    """Tell optimisers of the mean squares of the gradients that some views give when they ask for little, at random.

    Args:
        optimizers: Of the model.
        model: Whose edit begins.
        guidance: With its prompts.
        views: At least one, of which up to 48 are looked at; together they should show all of the scene.
        smallest: What means anything: the root mean square of a gradient on latents, whose own standard deviation is 1.
        loss_mult: Multiplies the guidance's loss.
    """
    draws = torch.Generator().manual_seed(guidance.config.seed)
    names = list(optimizers.optimizers)
    squares: dict[str, list[Tensor]] = {}
    size: Tensor | None = None
    n = min(len(views), _PROBED)
    for k in range(n):
        view = views[k * len(views) // n]
        rgb = model.see(view).rgb
        if size is None:
            size = smallest * loss_mult * _pixels_per_latent(guidance, rgb, view)
        optimizers.zero_grad_all()
        rgb.backward(size * _coarse_noise(rgb, draws))
        for name in names:
            got = [torch.zeros_like(p) if p.grad is None else p.grad.square() for p in optimizers.parameters_now(name)]
            squares[name] = [a + b for a, b in zip(squares[name], got, strict=True)] if name in squares else got
    optimizers.zero_grad_all()
    for name, sums in squares.items():
        optimizers.set_floor(name, [total / n for total in sums])


def _pixels_per_latent(guidance: Guidance, rgb: Float[Tensor, "height width 3"], view: SourceView) -> Tensor:
    """Return the size of an edit's gradient on a picture, beside that on its latent."""
    image = rgb.detach().float().permute(2, 0, 1)[None]
    gradient, output = guidance.image_gradient(image, view.image, 0.0)
    sizes = [x.square().mean().sqrt() for x in (gradient, output.grad.to(gradient))]
    return sizes[0] / sizes[1].clamp_min(torch.finfo(gradient.dtype).tiny) / output.grad[0].numel()


def _coarse_noise(rgb: Float[Tensor, "height width 3"], draws: torch.Generator) -> Float[Tensor, "height width 3"]:
    height, width, _ = rgb.shape
    grains = torch.randn(1, 3, -(-height // _GRAIN), -(-width // _GRAIN), generator=draws)
    return F.interpolate(grains, scale_factor=_GRAIN)[0, :, :height, :width].permute(1, 2, 0).to(rgb)
