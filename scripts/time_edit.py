"""Time a whole edit: until its views are first drawn, until the draft of the scene, and until the end.

python scripts/time_edit.py                                                              # a GPU
python scripts/time_edit.py --method pds-splat-toyworld --model toyworld --size 128 --views 32 --gaussians 8000  # a CPU

The scene is one of the embedded world's, as it is before anything has been learned. Stable Diffusion is built with
random weights: what it draws is noise, which takes as long, or longer, as more of it is fitted. The clock begins
when networks have been compiled and nothing of the edit has been drawn.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from configured_runs import TimedEdit, TimedMethod
from speed_timing import machine, peak_memory_gb, reset_peak_memory, synchronize

from pds_nerfstudio.scenes.trainer import EditTrainer


@dataclass
class WholeEdit(TimedEdit):
    """What is edited."""

    method: TimedMethod = "pds-splat-quick"
    """What is edited; those of the embedded world on a CPU."""
    views: int = 100
    """How many views there are."""
    out: Path = Path("outputs/time-edit.json")
    """Where the figures go; the scene and a model of random weights are kept beside them."""

    def run(self) -> None:
        """Measure, print, and write it down."""
        with tempfile.TemporaryDirectory() as folder:
            # One step of reconstruction, since some edits go back to what was reconstructed.
            arguments = ["--show-edit", False, "--steps-per-picture", 0, "--pipeline.reconstruct-steps", 1]
            config = self.configured(arguments, Path(folder))
            torch.backends.cudnn.benchmark = True  # as ns-train does
            torch.manual_seed(config.machine.seed)
            trainer: EditTrainer = config.setup(local_rank=0, world_size=1)
            trainer.setup()
            self._time(trainer)

    def _time(self, trainer: EditTrainer) -> None:
        device = torch.device(trainer.device)
        warm_up(trainer)
        reset_peak_memory(device)
        clock = Clock(trainer, device)
        trainer.train()
        clock.note("end")
        memory, gaussians = peak_memory_gb(device), len(trainer.pipeline.model.points)
        figures: dict[str, Any] = {"machine": machine(device), "torch": torch.__version__, "seconds": clock.seconds}
        figures |= {"memory_gb": memory, "points_at_the_end": gaussians}
        print(f"\n{self.method}, {self.views} × {self.size} × {self.size}, {self.model}; {machine(device)}")
        for name, seconds in clock.seconds.items():
            print(f"  {name:24s} {seconds:8.1f} s")
        print(f"  peak memory {memory:21.2f} GB; points at the end {gaussians}")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps({**asdict(self), **figures}, indent=1, default=str) + "\n")
        print(f"Wrote {self.out}")


def warm_up(trainer: EditTrainer) -> None:
    """Have everything compiled that the edit will call, and forget what it was called with."""
    pipeline = trainer.pipeline
    guidance, view = pipeline.guidance, pipeline.views[0]
    assert guidance is not None
    state = guidance.state_dict()
    for fitting in (pipeline._together, pipeline._refining):
        fitting.redraw(view)
        fitting.forget()
    guidance(view.image, view.image, progress=0.0, keys=[view.index])
    guidance.load_state_dict(state)
    guidance.forget_sources()


class Clock:
    """Seconds from the beginning of an edit until its parts are done.

    Args:
        trainer: Of the edit, which has run no step.
        device: Where it runs.
    """

    def __init__(self, trainer: EditTrainer, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        """By the name of what was done then."""
        self._device, self._pipeline = device, trainer.pipeline
        self._began: float | None = None
        self._watch(self._pipeline, "redraw_all", lambda step: f"views drawn before step {step}")
        self._watch(trainer, "train_iteration", self._part)

    def note(self, name: str) -> None:
        """Note that something is done now."""
        synchronize(self._device)
        assert self._began is not None
        self.seconds[name] = time.perf_counter() - self._began

    def _part(self, step: int) -> str | None:
        """Return what ends with a step."""
        plan = self._pipeline.plan
        parts = {plan.end: "all steps", plan.refine_start: "edit steps", self._pipeline._together_end: "draft"}
        return parts.get(step + 1) if plan.edits(step) else None

    def _watch(self, owner: Any, name: str, done: Callable[[int], str | None]) -> None:
        usual = getattr(owner, name)

        def watched(step: int) -> Any:
            if self._began is None and step >= self._pipeline.plan.start:
                synchronize(self._device)
                self._began = time.perf_counter()
            result = usual(step)
            if (part := done(step)) is not None:
                self.note(part)
            return result

        setattr(owner, name, watched)


if __name__ == "__main__":
    tyro.cli(WholeEdit).run()
