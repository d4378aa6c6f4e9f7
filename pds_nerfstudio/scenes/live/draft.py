"""What an edit may come to show of what somebody looks at, within seconds of the words: drawn in 2D, by itself."""

from __future__ import annotations

import math

import numpy as np
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState, get_camera

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.page import Picture
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.run import Scene, Settings


def view_of(camera: CameraState) -> Settings:
    """Return what of a browser's camera a request for a draft holds."""
    return {"pose": camera.c2w.double().tolist(), "fov": float(camera.fov), "aspect": float(camera.aspect)}


def draft_of(scene: Scene, view: Settings, source: str, target: str) -> Picture:
    """Return a view of the scene, and right of it a draft of its edit.

    Args:
        scene: While it is edited.
        view: As of `view_of`.
        source: What the scene shows.
        target: What it should show.

    Raises:
        UserError: If there is no model that could draw it, or a prompt is empty.
    """
    guidance = scene.guidance
    if guidance is None:
        raise UserError("There is no diffusion model to draw a draft with: this run edits nothing.")
    side, aspect = guidance.config.resolution or guidance.denoiser.resolution, view["aspect"]
    height = max(1, round(side / math.sqrt(aspect)))
    state = CameraState(view["fov"], aspect, torch.tensor(view["pose"]), CameraType.PERSPECTIVE)
    camera = get_camera(state, height, max(1, round(height * aspect))).to(scene.model.device)
    training = scene.training
    scene.eval()
    try:
        shown = scene.model.get_outputs_for_camera(camera)["rgb"].clamp(0, 1).float()
    finally:
        scene.train(training)
    drawn = guidance.draft(shown.permute(2, 0, 1)[None], source, target)[0].permute(1, 2, 0)
    return np.concatenate([to_bytes(shown), to_bytes(drawn)], axis=1)
