"""A NeRF's colours, fitted to redrawn views before anything else of it is.

In nerfacto one small network turns features of places, and directions, into colours. Where all of a scene is to look
otherwise, as by another light, most of that is the same for whatever has the same colour now; fitted alone, that
network takes it up, and no density has moved by then. A fit of everything at once would find haze before each camera
sooner.
"""

from __future__ import annotations

import torch
from nerfstudio.utils.comms import get_rank
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track

from pds_nerfstudio.scenes.distributed import average_gradients
from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.views import SourceViews

_STEPS = 100
_LEARNING_RATE = 1e-2
"""At first; it falls to 0."""


def recolor_field(model: EditNerfModel, views: SourceViews, redrawn: RedrawnViews) -> None:
    """Fit the network that makes colours to redrawn views, and nothing else.

    Args:
        model: Of the scene, in the middle of an edit.
        views: The training views.
        redrawn: Those of them that were redrawn: on several GPUs, each has its own.
    """
    network = list(model.field.mlp_head.parameters())
    optimizer = torch.optim.Adam(network, lr=_LEARNING_RATE, eps=1e-15)
    for k in track(range(_STEPS), "Fitting colours first", console=CONSOLE, disable=get_rank() != 0):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 - k / _STEPS)
        model.zero_grad()
        with torch.enable_grad():
            model.fit_redrawn(views[0], redrawn, k)["photometric_loss"].backward()
        average_gradients(network)
        optimizer.step()
    model.zero_grad()
