"""Time what the live editor costs, with the embedded model and a scene of the embedded world.

While nobody watches: steps of an edit with the viewer and without it, in turn. Both edits run in one process, a step of
the one after a step of the other, so that other work on the machine slows both.

    python scripts/speed_viewer.py --steps 200

While some watch: steps of one edit while browsers watch it and while none does, a phase of the one after a phase of the
other; and how soon each browser has its first picture, and a sharp one.

    python scripts/speed_viewer.py --browsers 2 --steps 400
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
PHASE = 40
"""Steps of a phase with browsers or without."""
SHARP = 512
"""Pixels of the longer side of a picture that stands still, as nerfstudio renders it."""
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
    browsers: int = 0
    """How many watch; 0 compares the viewer that nobody watches with none."""
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


class Watcher:
    """A browser that watches, in a process of its own.

    Args:
        url: Of the viewer.
    """

    def __init__(self, url: str) -> None:
        self.pictures: list[dict[str, float]] = []
        script = str(Path(__file__).with_name("watching.py"))
        self._process = subprocess.Popen([sys.executable, script, url], stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.pictures.append(json.loads(line))

    @property
    def first(self) -> float | None:
        """Seconds to the first picture."""
        return self.pictures[0]["after"] if self.pictures else None

    @property
    def first_sharp(self) -> float | None:
        """Seconds to the first sharp picture."""
        return next((picture["after"] for picture in self.pictures if picture["side"] >= SHARP), None)

    @property
    def ended(self) -> bool:
        """Whether its process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """Leave."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()


class Phases:
    """Steps with browsers and without, in turn; called before each step.

    Args:
        url: Of the viewer.
        n: How many browsers.
    """

    def __init__(self, url: str, n: int) -> None:
        self.seconds: list[list[tuple[float, float]]] = [[]]
        """Of the steps of each phase, by the clock and of the processor, which other work on the machine does not slow.
        Phases of odd numbers are watched."""
        self.firsts: list[tuple[float, float]] = []
        self._url, self._n = url, n
        self._watchers: list[Watcher] = []
        self._counted, self._began = -SETTLING, (time.perf_counter(), time.process_time())

    def before_step(self, step: int) -> None:
        """Take the time of the last step, and let browsers come or leave."""
        if any(watcher.ended for watcher in self._watchers):
            raise SystemExit("A browser has ended by itself: what it says is above.")
        now, before = (time.perf_counter(), time.process_time()), self._began
        seconds, self._began = (now[0] - before[0], now[1] - before[1]), now
        if not all(watcher.first_sharp for watcher in self._watchers):
            return  # they have just come
        self._counted += 1
        if self._counted > 0:
            self.seconds[-1].append(seconds)
        if self._counted < PHASE:
            return
        self._counted = -SETTLING
        self.seconds.append([])
        if self._watchers:
            self.close()
        else:
            self._watchers = [Watcher(self._url) for _ in range(self._n)]

    @property
    def ratios(self) -> list[list[float]]:
        """Mean time of a step in each watched phase by that in the phases before and after it, by both clocks."""
        means = [np.mean(seconds, axis=0) for seconds in self.seconds if len(seconds) == PHASE]
        return [(2 * means[i] / (means[i - 1] + means[i + 1])).tolist() for i in range(1, len(means) - 1, 2)]

    def close(self) -> None:
        """Let all browsers leave."""
        for watcher in self._watchers:
            watcher.close()
            if watcher.first is not None and watcher.first_sharp is not None:
                self.firsts.append((watcher.first, watcher.first_sharp))
        self._watchers = []


def time_watched(speed: ViewerSpeed, scene: Path, start: Path) -> None:
    """Run one edit, watched in turn, and print what that costs and how soon pictures come."""
    torch.set_num_threads(speed.threads)
    trainer = prepare(speed, scene, start, "viewer+tensorboard")
    viewer: Any = trainer.viewer_state
    phases = Phases(f"ws://127.0.0.1:{viewer.viser_server.get_port()}", speed.browsers)
    begins = [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION]
    trainer.callbacks.insert(0, TrainingCallback(begins, phases.before_step))
    trainer.train()
    phases.close()
    alone, watched = (np.array([times for phase in phases.seconds[which::2] for times in phase]) for which in (0, 1))
    print(
        f"{len(alone)} steps of {speed.method} alone, {len(watched)} with {speed.browsers} browsers: "
        f"{alone[:, 0].mean():.4f} s and {watched[:, 0].mean():.4f} s (means)"
    )
    for name, ratios in zip(("time", "processor time"), np.array(phases.ratios).T, strict=True):
        print(
            f"{name} of watched phases of {PHASE} steps by those around them: median {np.median(ratios):.3f} "
            f"of {np.round(ratios, 3).tolist()}"
        )
    first, sharp = np.array(phases.firsts).T
    print(
        f"{len(first)} browsers: first picture after {np.median(first):.2f} s, sharp after {np.median(sharp):.2f} s "
        f"(medians; at most {first.max():.2f} and {sharp.max():.2f})"
    )


def main(speed: ViewerSpeed) -> None:
    """Write and reconstruct the scene, and measure."""
    source = Attributes()
    scene, target = speed.out / f"scene-{speed.size}", edit(source, "arms", "raised")
    if not (scene / "transforms.json").exists():
        for _ in write_scene(scene, source, target, width=speed.size, height=speed.size):
            pass
    print("Reconstructing the scene ...", flush=True)
    start = reconstruct(speed.method, scene, speed.out, source, target)
    if speed.browsers:
        time_watched(speed, scene, start)
    else:
        time_unwatched(speed, scene, start)


def time_unwatched(speed: ViewerSpeed, scene: Path, start: Path) -> None:
    """Run an edit with the viewer and one without, in turn, and print the ratio of their steps' times."""
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
