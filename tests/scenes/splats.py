"""What tests of held Gaussians share."""

from typing import Any

from torch import Tensor

from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.trainer import EditTrainer

GROWING = {
    "pipeline__model__edit_refine_every": 2,
    "pipeline__model__edit_densify_grad_thresh": 1e-12,
    "pipeline__model__densify_size_thresh": 1e9,  # duplicated, not split, which draws random numbers
}
"""Growth at every second step, wherever it is let."""
BOX = {"pipeline__only__obb_center": (0.0, 0.0, 0.0), "pipeline__only__obb_scale": (0.6, 0.6, 0.6)}


def splat(trainer: EditTrainer) -> EditSplatModel:
    model = trainer.pipeline.model
    assert isinstance(model, EditSplatModel)
    return model


def numbers(model: EditSplatModel, which: Any = slice(None)) -> dict[str, Tensor]:
    return {name: parameter.detach()[which].clone() for name, parameter in model.gauss_params.items()}
