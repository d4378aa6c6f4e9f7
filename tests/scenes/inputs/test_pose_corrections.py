"""Camera optimisers, on lenses of all kinds: an edit keeps what the reconstruction has corrected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.methods import pds_splat
from tests.scenes.inputs.kinds import KINDS


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("splat", "plain"),
        ("splat", "distortion"),
        ("splat", "fisheye"),
        ("nerf", "distortion"),
        ("nerf", "fisheye"),
        ("nerf", "equirectangular"),
        ("nerf", "mixed sizes"),
    ],
)
def test_an_edit_keeps_them(
    method: str, name: str, make_config: Any, run: Any, last_state: Any, tmp_path: Path
) -> None:
    data = tmp_path / "scene"
    data.mkdir()
    KINDS[name].write(data)
    options = {}
    if method == "splat":
        model: Any = pds_splat.config.pipeline.model
        correcting = replace(model.camera_optimizer, mode="SO3xR3")
        options["pipeline__model__camera_optimizer"] = correcting
    trainer = run(
        make_config(
            method, steps=2, reconstruct=3, show_edit=False, data=data, pipeline__datamanager__data=data, **options
        )
    )
    (kept,) = (trainer.base_dir / "reconstruction").iterdir()
    key = "_model.camera_optimizer.pose_adjustment"
    before = torch.load(kept, map_location="cpu", weights_only=True)["pipeline"][key]
    after = last_state(trainer)["pipeline"][key]
    assert before.shape == (len(trainer.pipeline.views), 6) and bool(before.any()) and bool(before.isfinite().all())
    assert torch.equal(before, after)
