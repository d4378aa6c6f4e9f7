"""How much of each Gaussian the prompts ask to change, before anything has changed.

Where the model tells the two prompts apart in the source views, the edit is going to act: its masks, averaged over some
times and lifted into the scene, say what the edit is about. One mask of one view is noisy; what a Gaussian adds to
dozens of views is in the masks of most of them, or of few.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.comms import get_rank, get_world_size
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.distributed import sum_over_ranks
from pds_nerfstudio.scenes.selection.select import Gaussians
from pds_nerfstudio.scenes.views import SourceViews, views_of

_MOST_VIEWS = 48
"""Views that are looked at, evenly among all."""
_LOOKS = 4
"""Masks of each of them that are averaged."""
_UNSEEN = 1e-3
"""Light of a Gaussian, in pixels a view, below which its centre says where it is: inside of what is to go, say."""


def shares_asked(
    guidance: Guidance,
    gaussians: Gaussians,
    views: SourceViews,
    batch: int,
    known: dict[int, Tensor] | None = None,
) -> Float[Tensor, " gaussians"]:
    """Return the share of what each Gaussian adds to the views that lies where the text is to act, in 0..1.

    A Gaussian that others hide in all views counts where its centre lies in them; one outside all of them has share 0.
    The same on all ranks, each of which looks at views of its own.

    Args:
        guidance: With its prompts.
        gaussians: Of the scene.
        views: Of the scene.
        batch: Latents in one call of the model in an edit's step.
        known: Where the text is to act, by the numbers of the views that were looked at before; it is added to.
    """
    known = {} if known is None else known
    own = views_of(len(views), get_rank(), get_world_size())
    n = min(len(own), -(-_MOST_VIEWS // get_world_size()))
    sums = torch.zeros(len(gaussians.means), 2, device=gaussians.means.device)
    quiet = get_rank() != 0
    for k in track(range(n), "Looking for what the prompts ask to change", console=CONSOLE, disable=quiet):
        view = views[own[k * len(own) // n]]
        if view.index not in known:
            known[view.index] = guidance.look(
                view.image, _LOOKS, guidance.config.seed + view.index, [view.index], batch
            )
        inside = F.interpolate(known[view.index].to(view.image), view.image.shape[-2:], mode="bilinear")[0, 0]
        weights = torch.stack([inside, torch.ones_like(inside)], -1)
        sums += gaussians.contributions(view.camera, weights)
        sums += _UNSEEN * at_centers(weights, view.camera, gaussians.means.detach())
    sum_over_ranks(sums)
    return sums[:, 0] / sums[:, 1].clamp_min(torch.finfo(sums.dtype).tiny)


def at_centers(
    picture: Float[Tensor, "height width channels"], camera: Cameras, points: Float[Tensor, "points 3"]
) -> Float[Tensor, "points channels"]:
    """Return the pixels of a picture that some points lie in, whatever is before them; 0 of points outside it.

    Args:
        picture: Of the camera's size.
        camera: One camera, of perspective.
        points: In the scene's coordinates.
    """
    height, width, _ = picture.shape
    pose = camera.camera_to_worlds[0].to(points)
    x, y, z = ((points - pose[:, 3]) @ pose[:, :3]).unbind(-1)  # to the right, up, and against what it looks at
    depth = (-z).clamp_min(torch.finfo(z.dtype).eps)
    across = camera.fx[0].to(points) * x / depth + camera.cx[0].to(points)
    down = camera.cy[0].to(points) - camera.fy[0].to(points) * y / depth
    within = (z < 0) & (across >= 0) & (across < width) & (down >= 0) & (down < height)
    row, column = (torch.where(within, side, 0).long() for side in (down, across))
    return picture[row, column] * within[:, None]
