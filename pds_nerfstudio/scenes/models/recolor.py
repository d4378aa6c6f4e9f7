"""A scene's colours, fitted to redrawn views before anything else of it is, where an edit changes all that is seen.

When day is to become night, a fit by small steps has everything to change at once. Dark Gaussians grow before each
camera sooner than all the bright ones behind them turn dark, and the scene ends in fog. But a picture is linear in its
Gaussians' colours and in that of the background, w·c with the weights w of blending, which sum to 1 in each pixel. Of
such systems the simultaneous iterative reconstruction technique (SIRT; Gilbert 1972) approaches the least squares:
each colour moves by the mean of what is left to change in the pixels that show it, c_i += Σ_p w_ip·r_p / Σ_p w_ip.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from nerfstudio.models.splatfacto import RGB2SH
from torch import Tensor

from pds_nerfstudio.scenes.distributed import sum_over_ranks
from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.recolor_field import recolor_field
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.views import SourceViews

_MOST = 0.5
"""Share of the views' pixels that an edit of everything changes. Less is of some thing, whose place may be another."""
_ROUNDS = 2
"""The first leaves some hundredth of what is to change, squared, and those after the second hardly less."""
_SEEN = 1e-3
"""Weight, in pixels of all views together, below which nothing is known of a colour."""


def recolor(model: SceneModel, views: SourceViews, redrawn: RedrawnViews) -> bool:
    """Fit the colours of what may change to redrawn views that change most of what is seen.

    Of a splat of which all may change, that of its background, too. Of a NeRF see `recolor_field`.

    Args:
        model: Of the scene, in the middle of an edit.
        views: The training views.
        redrawn: Those of them that were redrawn: on several GPUs, each has its own.

    Returns:
        Whether the views change so much. If not, nothing was done.
    """
    numbers = [index for index in range(len(views)) if index in redrawn]
    changed = torch.zeros(2, device=model.device)
    for index in numbers:
        changed += torch.stack([redrawn.changed(index).float().mean(), changed.new_ones(())]).to(changed)
    sum_over_ranks(changed)
    if changed[0] <= _MOST * changed[1]:
        return False
    if isinstance(model, EditSplatModel):
        for _ in range(_ROUNDS):
            _move(model, _mean_left(model, views, redrawn, numbers))
    elif isinstance(model, EditNerfModel):
        recolor_field(model, views, redrawn)
    return True


def _mean_left(
    model: EditSplatModel, views: SourceViews, redrawn: RedrawnViews, numbers: Sequence[int]
) -> Float[Tensor, "gaussians_and_background 3"]:
    """Return what is left to change where each Gaussian is seen, and last the background: 0 where they are not."""
    sums = torch.zeros(model.num_points + 1, 4, device=model.device)
    for index in numbers:
        view, target = views[index], redrawn.picture(index)
        left = target - model.see(view).rgb.detach().to(target)
        weights = torch.cat([left, torch.ones_like(left[..., :1])], dim=-1)
        if view.mask is not None:
            weights = weights * view.mask[0].permute(1, 2, 0).to(weights)
        white = torch.ones(model.num_points, 4, device=model.device, requires_grad=True)
        with torch.enable_grad():
            opacity = model.picture_of(white, view.camera, *target.shape[:2])
            (of_gaussians,) = torch.autograd.grad((opacity * weights).sum(), white)
        of_background = ((1 - opacity.detach()) * weights).sum((0, 1))
        sums += torch.cat([of_gaussians, of_background[None]])
    sum_over_ranks(sums)
    mean = sums[:, :3] / sums[:, 3:].clamp_min(_SEEN)
    return torch.where(sums[:, 3:] >= _SEEN, mean, 0)


@torch.no_grad()
def _move(model: EditSplatModel, left: Float[Tensor, "gaussians_and_background 3"]) -> None:
    """Add to the colours that the Gaussians have from all sides, and to the background's."""
    free = model.free
    of_gaussians = left[:-1] if free is None else left[:-1] * free[:, None]
    base = model.features_dc
    if model.config.sh_degree > 0:
        base += RGB2SH(0.5 + of_gaussians)  # which is 0 for a grey of one half
    else:
        moved = (base.sigmoid() + of_gaussians).logit(eps=1 / 255)
        base.copy_(torch.where(of_gaussians == 0, base, moved))
    if free is None:
        before = model.edit_background if model.edited_background is None else model.edited_background
        model.edited_background = (before.to(left) + left[-1]).clamp(0, 1)
