"""Whatever is clicked, in whatever order and in the middle of whatever, nothing is lost."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image

from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.live.session import Action, Request, read_record
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.trainer import EditTrainer

CLICKS = 200
WEIGHTS: dict[Action, float] = {
    "set": 3,
    "edit": 4,
    "queue": 0.3,
    "pause": 0.7,
    "undo": 1.5,
    "redo": 1.5,
    "back": 2,
    "branch": 0.4,
    "snapshot": 1,
    "export": 0.2,
}


def scene_bits(weights: dict[str, torch.Tensor]) -> str:
    """Return what tells one scene from another, whatever else is kept of it."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        if "camera_optimizer" not in name and "lpips" not in name:
            digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_bits(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results(folder: Path) -> dict[Path, str]:
    """Return the content of all that belongs to a finished edit."""
    parts = [folder / name for name in ("config.yml", "report.html", "session.jsonl", "splat.ply")]
    parts += [*folder.glob("nerfstudio_models/*"), *folder.glob("history/*"), *folder.glob("edited_views/images/*")]
    return {path: file_bits(path) for path in parts if path.exists()}


class Clicks:
    """Clicks at random, as often as the loop looks for requests, and looks at what each click has left.

    Args:
        trainer: Of the run; the session's own methods are replaced.
        seed: Of the clicks.
    """

    def __init__(self, trainer: EditTrainer, seed: int) -> None:
        self.trainer, self.draw = trainer, random.Random(seed)
        self.n, self.done, self.before = 0, list[Request](), ""
        self.finished: dict[Path, dict[Path, str]] = {}
        self.kept: dict[Path, str] = {}
        session = trainer.session
        self.take, self.due = session.take, session.due
        session.take, session.due = self._taken, self._is_due  # type: ignore[method-assign]

    def _is_due(self, step: int) -> bool:
        return self.due(step) or self.draw.random() < 0.5

    def _taken(self, step: int) -> list[Request]:
        self.look()
        if self.n < CLICKS:
            self.n += 1
            self.trainer.session.ask(self._click())
        else:
            self.trainer.session.ask(Request("stop"))
        requests = self.take(step)
        self.done += requests
        return requests

    def _click(self) -> Request:
        (action,) = self.draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
        settings: dict[str, Any] = {}
        if action == "set":
            settings = self.draw.choice([{"guidance_scale": float(self.n)}, {"steps_left": 2}, {"localize": 2.0}])
        elif action in ("edit", "queue") and self.draw.random() < 0.8:
            words = self.draw.choice(["a bear", "a fox", "a bear, a fox", " "])
            settings = {"tgt_prompt": words, "round": self.draw.choice(["here", "source"])}
        elif action == "back":
            settings = {"state": self.draw.randint(1, len(self.trainer.session.states) + 1)}
        return Request(action, settings)

    def look(self) -> None:
        """See that all that was there before the last click is there still, to the last bit."""
        trainer, last = self.trainer, self.done[-1:]
        for folder, files in self.finished.items():
            assert {path: file_bits(path) for path in files} == files, (self.n, last, folder)
        for path, bits in self.kept.items():
            assert file_bits(path) == bits, (self.n, last, path)
        if not trainer.has_steps and trainer.at_rest:
            self.finished.setdefault(trainer.base_dir, results(trainer.base_dir))
        self.kept |= {s.checkpoint: file_bits(s.checkpoint) for s in trainer.session.states} if last else {}

    def see_that_scenes_are_kept(self, trainer: EditTrainer) -> None:
        """See that a scene that a request has replaced by another is in a file."""
        scenes = {scene_bits(read_checkpoint(path).model_weights) for path in checkpoints(trainer)}
        assert self.before in scenes, (self.n, self.done[-1:])


def checkpoints(trainer: EditTrainer) -> Iterator[Path]:
    for state in trainer.session.states:
        yield state.checkpoint
    yield from trainer.source_folder.glob("*.ckpt")


def see_that_it_agrees(folder: Path) -> None:
    """See that a finished edit's config, checkpoint, record and report are of one edit."""
    config = yaml.load((folder / "config.yml").read_text(), yaml.Loader)
    words = config.pipeline.tgt_prompt
    assert config.get_base_dir() == folder and len(list(folder.glob("nerfstudio_models/*"))) == 1
    assert f"→</b> {words}</h1>" in (folder / "report.html").read_text(), folder
    said = [r.settings["tgt_prompt"] for _, r in read_record(folder / "session.jsonl") if "tgt_prompt" in r.settings]
    assert words in said, folder
    _, pipeline, _, _ = eval_setup(folder / "config.yml", test_mode="inference")
    model: Any = pipeline.model
    shown = np.array(Image.open(min(folder.glob("edited_views/images/*"))))
    cameras = pipeline.datamanager.train_dataset.cameras  # type: ignore[union-attr]
    assert np.array_equal(to_bytes(render(model, cameras[0:1])), shown), folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_whatever_is_clicked_nothing_is_lost(
    kind: str, make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EditTrainer, "stays_open", property(lambda self: True))
    monkeypatch.setattr("pds_nerfstudio.scenes.live.loop._POLL_SECONDS", 0.0)
    options: dict[str, Any] = {"pipeline__turntable_frames": 0}
    if kind == "nerf":  # which a NeRF that is loaded knows nothing of, and which is over after 1000 steps
        options["pipeline__model__use_proposal_weight_anneal"] = False
    trainer = prepare(make_config(kind, steps=3, reconstruct=1, show_edit=True, **options))
    clicks = Clicks(trainer, seed=7)
    for name in ("restore_source", "restore_state"):
        usual = getattr(trainer, name)

        def watched(*args: Any, usual: Any = usual) -> None:
            clicks.before = scene_bits(trainer.pipeline.model.state_dict())
            clicks.see_that_scenes_are_kept(trainer)
            usual(*args)

        monkeypatch.setattr(trainer, name, watched)
    trainer.train()
    clicks.look()
    assert clicks.n == CLICKS and len(clicks.finished) > 5 and len(clicks.kept) > 10
    folders = [path.parent for path in trainer.base_dir.parent.glob("*/report.html")]
    assert set(clicks.finished) < set(folders)
    for folder in folders:
        see_that_it_agrees(folder)
