"""Drafts of what somebody looks at, while an edit runs."""

from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState

from pds_nerfstudio.scenes.live.draft import draft_of, view_of
from pds_nerfstudio.scenes.live.session import Request, read_record
from pds_nerfstudio.scenes.trainer import EditTrainer


def _view(trainer: EditTrainer, aspect: float) -> dict[str, Any]:
    pose = trainer.pipeline.views[2].camera.camera_to_worlds.flatten()[:12].reshape(3, 4).cpu()
    return view_of(CameraState(0.8, aspect, pose, CameraType.PERSPECTIVE))


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_a_draft_changes_nothing_and_is_on_no_record(
    kind: str, make_config: Any, run_asking: Any, last_state: Any, differences: Any
) -> None:
    trainers, drafts = [], []
    for name in ("plain", "drafted"):
        config = make_config(kind, name, steps=3, reconstruct=1)

        def look(trainer: EditTrainer, call: int, name: str = name) -> None:
            if name == "drafted" and call in (0, 1):
                words = {"src_prompt": "a cat", "tgt_prompt": "a dog"} if call else {}
                trainer.session.ask(Request("draft", {"view": _view(trainer, 1.5), **words}))
            if name == "drafted" and call > 0:
                drafts.append(trainer.session.draft)

        trainers.append(run_asking(config, {}, look))
    plain, drafted = trainers
    assert not differences(last_state(plain), last_state(drafted))
    assert drafted.pipeline.settings["tgt_prompt"] == plain.pipeline.settings["tgt_prompt"]
    first, second = drafts
    assert first is not None
    assert second is not None
    assert first.shape == second.shape
    height, width, _ = first.shape
    side = drafted.pipeline.guidance.denoiser.resolution
    assert height * width // 2 == pytest.approx(side * side, rel=0.1) and width / 2 / height == pytest.approx(1.5, 0.1)
    assert not np.array_equal(first[:, width // 2 :], second[:, width // 2 :])  # other words
    actions = [[request.action for _, request in read_record(t.base_dir / "session.jsonl")] for t in trainers]
    assert actions[0] == actions[1]


def test_what_is_drawn_is_the_view_that_somebody_has(make_config: Any, run_asking: Any) -> None:
    trainer = run_asking(make_config("splat", steps=2, reconstruct=1), {})
    seen = []
    for index in (1, 2):
        camera = trainer.pipeline.views[index].camera
        pose = camera.camera_to_worlds.flatten()[:12].reshape(3, 4).cpu()
        fov = 2 * float(torch.atan(camera.height.flatten()[0] / 2 / camera.fy.flatten()[0]))
        view = view_of(CameraState(fov, 1.0, pose, CameraType.PERSPECTIVE))
        shown = draft_of(trainer.pipeline, view, "a cat", "a dog")
        trainer.pipeline.eval()
        small = trainer.pipeline.model.get_outputs_for_camera(camera.to(trainer.device))["rgb"].clamp(0, 1)
        picture = torch.nn.functional.interpolate(
            small.permute(2, 0, 1)[None], shown.shape[:1] * 2, mode="bilinear", antialias=True
        )[0].permute(1, 2, 0)
        left = torch.from_numpy(shown[:, : shown.shape[0]].copy()).float() / 255
        assert (left - picture).abs().mean() < 0.03
        seen.append(left)
    assert (seen[0] - seen[1]).abs().mean() > 0.03
