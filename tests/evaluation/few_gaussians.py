"""Splats of a few Gaussians, made by hand."""

from typing import Any

import torch
from nerfstudio.data.scene_box import SceneBox

from pds_nerfstudio.scenes.models.splat import EditSplatModel, EditSplatModelConfig


def splat(means: list[list[float]], opacity: float = 0.9, **options: Any) -> EditSplatModel:
    """Round Gaussians of one size and colours drawn at random, on white."""
    n = len(means)
    config = EditSplatModelConfig(num_random=n + 4, background_color="white", **options)
    model = config.setup(scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=1)
    values = {
        "means": torch.tensor(means),
        "scales": torch.full((n, 3), -1.5),
        "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        "opacities": torch.full((n, 1), opacity).logit(),
    }
    state = model.state_dict()
    torch.manual_seed(3)
    drawn = {
        name: torch.randn(n, *state[f"gauss_params.{name}"].shape[1:]) for name in ("features_dc", "features_rest")
    }
    model.load_state_dict(state | {f"gauss_params.{name}": value for name, value in (values | drawn).items()})
    return model.eval()
