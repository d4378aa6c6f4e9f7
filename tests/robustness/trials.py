"""End runs in many ways, and see each time that nothing is lost."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.robustness.checks import differences, digest, half_files, last_state, start_of
from tests.robustness.runs import Ended, Inputs, Run

KILLED_IN = ("reconstruction", "edit", "saving", "redrawing", "results", "export", "branch", "source")
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
WAYS = (*(f"kill: {phase}" for phase in KILLED_IN), "full disk", *(signum.name for signum in SIGNALS), "deaf")

_STRIDE = 3  # so that a few trials end in ways unlike each other


@dataclass(frozen=True)
class Scenario:
    """A run as it goes if nothing ends it."""

    kind: str
    start: Path | None
    state: Any
    """Its last checkpoint."""
    seconds: dict[str, list[float]]
    """How long it does what, each time."""
    writes: int


@dataclass
class Trials:
    """Ends of runs, and what was found.

    Args:
        folder: For all of it.
        seed: Of what is drawn.
    """

    folder: Path
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    """Trials by the way in which they ended."""
    saved: Counter[str] = field(default_factory=Counter)
    """Those of them that left a checkpoint."""
    found: list[str] = field(default_factory=list)
    """What was wrong."""

    def __post_init__(self) -> None:
        self._draws = random.Random(self.seed)
        self.inputs = Inputs(self.folder / "inputs")
        straight = [self._straight("splat", None), self._straight("nerf", None)]
        scene = self.folder / "inputs" / "reconstruction"  # as in a run's folder
        shutil.copytree(self.folder / "straight" / "splat" / "reconstruction", scene)
        self.scenarios = [*straight, self._straight("splat", scene)]
        self._digest = digest(self.inputs.folder)

    def run(self, trials: int) -> Iterator[int]:
        """End so many runs, one way after the other; yield their number so far."""
        for number in range(trials):
            way = WAYS[(self.seed + _STRIDE * number) % len(WAYS)]
            self._trial(number, way, self._scenario(way, number))
            yield number + 1

    def table(self) -> str:
        """Return what was done, and what was found."""
        rows = [f"| {way} | {self.done[way]} | {self.saved[way]} |" for way in WAYS if self.done[way]]
        found = self.found or ["nothing was lost"]
        return "\n".join(["| ended by | runs | left a checkpoint |", "| --- | --: | --: |", *rows, "", *found])

    def _scenario(self, way: str, number: int) -> Scenario:
        phase = way.partition(": ")[2]
        able = [one for one in self.scenarios if phase in ("", *one.seconds)]
        return able[number // len(WAYS) % len(able)]

    def _straight(self, kind: str, start: Path | None) -> Scenario:
        name = kind if start is None else f"{kind}_from_scene"
        run = Run(self.inputs.config(kind, self.folder / "out", name, start, asks=True))
        seconds: dict[str, list[float]] = {}
        before, count, began = "loading", 0, time.monotonic()
        while run.running:
            if (run.phase.name, run.phase.count) != (before, count):
                seconds.setdefault(before, []).append(time.monotonic() - began)
                before, count, began = run.phase.name, run.phase.count, time.monotonic()
            time.sleep(0.0005)
        ended = run.ended()
        if ended.code:
            raise RuntimeError(f"The run {name} fails without being disturbed:\n{ended.said}")
        folder = self.folder / "straight" / name
        folder.parent.mkdir(exist_ok=True)
        shutil.move(self.folder / "out" / "test" / f"pds-{kind}" / name, folder)
        shutil.rmtree(self.folder / "out")
        return Scenario(kind, start, last_state(folder), seconds, ended.writes)

    def _trial(self, number: int, way: str, scenario: Scenario) -> None:
        out = self.folder / "out"
        full_at = self._draws.randrange(scenario.writes) if way == "full disk" else None
        config = self.inputs.config(scenario.kind, out, "run", scenario.start, asks=True)
        run = Run(config, full_at)
        if way.startswith("kill"):
            self._kill(run, way.partition(": ")[2], scenario)
        elif way.startswith("SIG"):
            run.wait_for("edit", self._draws.randrange(4))
            run.kill(getattr(signal, way))
        elif way == "deaf":
            run.wait_for("edit", self._draws.randrange(4))
            run.stop_reading()
        ended = run.ended()
        folder = out / "test" / f"pds-{scenario.kind}" / "run"
        wrong = [*self._wrong(way, ended, folder), *half_files(out)]
        start = start_of(folder)
        self.done[way] += 1
        self.saved[way] += start is not None
        wrong += self._resumed(scenario, folder, start)
        if digest(self.inputs.folder) != self._digest:
            wrong.append("inputs were changed")
        self.found += [f"trial {number}, {way}, {scenario.kind}, full at {full_at}: {one}" for one in wrong]
        if wrong:
            shutil.copytree(out, self.folder / "wrong" / str(number))
            (self.folder / "wrong" / str(number) / "said").write_text(ended.said)
        shutil.rmtree(out)

    def _kill(self, run: Run, phase: str, scenario: Scenario) -> None:
        durations = scenario.seconds[phase]
        at = self._draws.randrange(len(durations))
        if run.wait_for(phase, at):
            time.sleep(self._draws.random() * durations[at])
            run.kill(signal.SIGKILL)

    def _wrong(self, way: str, ended: Ended, folder: Path) -> Iterator[str]:
        """Yield what is wrong in the way a run has ended. A signal may come when all its steps are done."""
        if "Traceback" in ended.said:
            yield f"a traceback: {ended.said[-1500:]}"
        if way.startswith("SIG"):
            expected = 0 if way == "SIGINT" else 128 + getattr(signal, way)
            complete = ended.code == 0 and (folder / "report.html").exists()
            if not complete and (ended.code != expected or "--load-dir" not in ended.said):
                yield f"exit status {ended.code}: {ended.said[-1500:]}"
        elif way == "full disk" and ended.code != 1:
            yield f"exit status {ended.code} on a full disk"
        elif way == "deaf" and ended.code != 0:
            yield f"exit status {ended.code} without a reader"

    def _resumed(self, scenario: Scenario, folder: Path, start: Path | None) -> Iterator[str]:
        """Resume a run, unless it is complete; yield what is wrong in what that comes to."""
        if not (folder / "report.html").exists():
            config = self.inputs.config(scenario.kind, self.folder / "out", "run", start or scenario.start, asks=False)
            again = Run(config)
            ended = again.ended()
            if ended.code:
                yield f"can't be resumed: {ended.said[-1500:]}"
                return
            runs = sorted(folder.parent.glob("run*"), key=lambda path: path.stat().st_mtime)
            complete = [run for run in runs if (run / "report.html").exists()]
            if not complete:
                yield "no results"
                return
            folder = complete[-1]
            yield from (one for one in half_files(folder))
        if different := list(differences(last_state(folder), scenario.state)):
            yield f"other bits: {', '.join(different[:8])}"
