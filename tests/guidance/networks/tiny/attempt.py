"""What happens when somebody edits a picture with a model."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.images.cli import ImageEdit, run
from tests.guidance.networks.tiny.layouts import model_name, offline_hub

SIDE = 64
"""Pixels of the picture and of what the model sees."""
STEPS = 3
"""Of the edit."""


@dataclass(frozen=True)
class Attempt:
    """How an edit ended, if not in a traceback."""

    refusal: str | None
    """What the command says when it refuses the model; None if it ran."""
    gradients: tuple[float, ...] = ()
    """Root mean square of each step's gradient."""
    share_changed: float = 0.0
    """Of the picture's pixels."""

    @property
    def runs(self) -> bool:
        """Whether each step had a gradient, and the picture changed."""
        moved = all(np.isfinite(rms) and rms > 0 for rms in self.gradients)
        return self.refusal is None and len(self.gradients) == STEPS and moved and self.share_changed > 0


def attempt(folder: Path, outputs: Path) -> Attempt:
    """Edit a picture in a few steps on the CPU, as `pds-image` does, with a model that was built in a folder."""
    config = ImageEdit(
        image=_picture(outputs / "picture.png"),
        src_prompt="a photo of a man in a park",
        tgt_prompt="a photo of a clown in a park",
        output_dir=outputs,
        device="cpu",
    )
    # Steps so long that three of them show in a picture, through an autoencoder that was never trained.
    config.edit.steps, config.edit.refine_steps, config.edit.latent_lr = STEPS, 2, 1.0
    config.guidance = dataclasses.replace(config.guidance, model=model_name(folder), resolution=SIDE)
    try:
        with offline_hub(folder):
            result = run(config)
    except UserError as error:
        return Attempt(str(error))
    metrics = json.loads((result.parent / "metrics.json").read_text(encoding="utf-8"))
    gradients = tuple(float("nan") if step["skipped"] else step["gradient_rms"] for step in metrics["steps"])
    return Attempt(None, gradients, metrics["share_of_pixels_changed"])


def _picture(path: Path) -> Path:
    """Save a picture of a bright spot in front of a slope of colour."""
    across, down = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2)
    spot = np.exp(-6 * (across**2 + down**2))
    channels = (0.5 + 0.4 * across, 0.5 + 0.4 * down, 0.3 + 0.6 * spot)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.stack(channels, 2) * 255).astype(np.uint8)).save(path)
    return path
