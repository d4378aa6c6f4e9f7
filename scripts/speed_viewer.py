"""Time what the live editor costs while nobody watches: steps of an edit with the viewer and without it, in turn.

Both edits run in one process, a step of the one after a step of the other, with the embedded model, a scene of the
embedded world and the method pds-splat-toyworld, so that other work on the machine slows both.

    python scripts/speed_viewer.py --steps 200
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from pds_nerfstudio.evaluation.scene_edits import arguments, reconstruct
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes, edit

VIS = ("tensorboard", "viewer+tensorboard")
SETTLING = 10
"""First steps of each edit that don't count. Nor does the last turn, in which the edit is saved."""


@dataclass
class ViewerSpeed:
    """What to measure."""

    steps: int = 200
    """Steps of each edit."""
    method: Literal["pds-splat-toyworld", "pds-nerf-toyworld"] = "pds-splat-toyworld"
    """How the scene is edited."""
    size: int = 128
    """Side of the scene's images, in pixels."""
    threads: int = 1
    """Of PyTorch, for each edit."""
    out: Path = Path("outputs/speed-viewer")
    """Folder for the scene and its reconstruction, which a second call finds there, and for the runs."""


class Turns:
    """The order in which threads work, one after another, and the time of each turn.

    Args:
        n: How many threads take turns.
    """

    def __init__(self, n: int) -> None:
        self.seconds: list[list[float]] = [[] for _ in range(n)]
        self._begun: list[float | None] = [None] * n
        self._next = 0
        self._change = threading.Condition()

    def begin(self, number: int) -> None:
        """Wait for a turn of this thread."""
        with self._change:
            self._change.wait_for(lambda: self._next == number)
            self._begun[number] = time.perf_counter()

    def end(self, number: int) -> None:
        """End this thread's turn, if it has one."""
        with self._change:
            begun = self._begun[number]
            if begun is not None:
                self.seconds[number].append(time.perf_counter() - begun)
                self._next = (number + 1) % len(self._begun)
                self._change.notify_all()


def prepare(speed: ViewerSpeed, scene: Path, start: Path, vis: str) -> EditTrainer:
    """Return an edit from the reconstruction in `start`, ready to run."""
    source = Attributes()
    options = ["--load-dir", start, "--max-num-iterations", speed.steps, "--pipeline.refine-steps", 0]
    options += ["--show-edit", False, "--vis", vis, "--steps-per-save", 10**9]
    given = arguments(speed.method, scene, speed.out, f"run-{vis}", source, edit(source, "arms", "raised"), options)
    config = tyro.cli(AnnotatedBaseConfigUnion, args=given)
    config.pipeline.datamanager.data = config.data  # as ns-train takes it
    config.save_config()
    trainer = config.setup()
    trainer.setup()
    return trainer


def main(speed: ViewerSpeed) -> None:
    """Write and reconstruct the scene, run the two edits, and print the ratio of their steps' times."""
    source = Attributes()
    scene, target = speed.out / f"scene-{speed.size}", edit(source, "arms", "raised")
    if not (scene / "transforms.json").exists():
        for _ in write_scene(scene, source, target, width=speed.size, height=speed.size):
            pass
    print("Reconstructing the scene ...", flush=True)
    start = reconstruct(speed.method, scene, speed.out, source, target)
    turns = Turns(len(VIS))

    def run(trainer: EditTrainer, number: int) -> None:
        torch.set_num_threads(speed.threads)

        def next_turn(step: int) -> None:
            turns.end(number)
            turns.begin(number)

        begins = [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION]
        trainer.callbacks.insert(0, TrainingCallback(begins, next_turn))
        trainer.train()
        turns.end(number)

    threads = []
    for number, vis in enumerate(VIS):
        trainer = prepare(speed, scene, start, vis)
        threads.append(threading.Thread(target=run, args=(trainer, number), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    without, with_viewer = (np.array(seconds[SETTLING:-1]) for seconds in turns.seconds)
    ratios = with_viewer / without
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    print(
        f"{len(ratios)} steps of {speed.method} at {speed.size}x{speed.size}: "
        f"{np.median(without):.4f} s without the viewer, {np.median(with_viewer):.4f} s with it (medians)\n"
        f"ratio of two steps in turn: median {middle:.4f} (quartiles {low:.4f} and {high:.4f}); "
        f"of the sums {with_viewer.sum() / without.sum():.4f}"
    )


if __name__ == "__main__":
    main(tyro.cli(ViewerSpeed, description=__doc__))
