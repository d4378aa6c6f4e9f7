"""A picture of what an edit may change."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.output.pictures import heat, to_bytes
from pds_nerfstudio.scenes.output.results import contact_sheet, shown_views
from pds_nerfstudio.scenes.views import SourceViews
from pds_nerfstudio.whole_files import whole_file


@torch.no_grad()
def write_heat_map(path: Path, model: EditSplatModel, views: SourceViews, shares: Float[Tensor, " gaussians"]) -> Path:
    """Write some source views above heat maps of the scene, and return the file.

    Args:
        path: Of the picture.
        model: Of the scene.
        views: Of the scene.
        shares: How much each Gaussian may change, from 0 (held: dark) to 1 (white).
    """
    seen = [views[index] for index in shown_views(views)]
    sources = [view.image[0].permute(1, 2, 0) for view in seen]
    amounts = [model.picture_of(shares[:, None], view.camera, *view.image.shape[-2:])[..., 0] for view in seen]
    sheet = contact_sheet(
        {
            "Source": [to_bytes(source) for source in sources],
            "What may change": [to_bytes(heat(a, under)) for a, under in zip(amounts, sources, strict=True)],
        }
    )
    with whole_file(path) as unfinished:
        sheet.save(unfinished, quality=90)
    return path
