"""What a run prints: its progress in one line and, when it is done, the commands to go on with."""

from __future__ import annotations

import ctypes
import math
import resource
import shlex
import sys
import time
from pathlib import Path

import torch
from nerfstudio.utils.rich_utils import CONSOLE

from pds_nerfstudio import again
from pds_nerfstudio.scenes.pace import TimeLeft
from pds_nerfstudio.scenes.run import Run, Status
from pds_nerfstudio.scenes.terminal import say

_SECONDS_ON_TERMINAL = 0.5
_SECONDS_IN_LOG = 20.0


def progress_text(status: Status) -> str:
    """Return a run's step, speed, time left and loss in one line."""
    if status.state == "reconstructing":
        parts = [f"Reconstructing: step {status.step + 1} of {status.reconstruct_steps}"]
    else:
        parts = [f"{status.state.capitalize()}: edit step {status.edit_step} of {status.edit_steps}"]
    if status.seconds_per_step:
        parts.append(f"{status.seconds_per_step:.2g} s a step")
    if status.time_left.seconds and status.state in ("reconstructing", "editing", "refining"):
        parts.append(f"{in_words(status.time_left)} left")
    if math.isfinite(status.loss):
        parts.append(f"loss {status.loss:.4g}")
    return ", ".join(parts)


def in_words(left: TimeLeft) -> str:
    """Return an estimate of time; it is called one while it rests on a guess."""
    return f"about {clock(left.seconds)}" if left.guessed else clock(left.seconds)


def clock(seconds: float) -> str:
    """Return a duration as minutes:seconds or hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def peak_memory_gb() -> float:
    """Return the most memory that this process has had, in GB: on the GPU if it uses one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class ProgressLine:
    """Prints the progress: in place on a terminal, as a line now and then in a log."""

    def __init__(self) -> None:
        self._printed = -math.inf
        self._open = False

    def show(self, status: Status) -> None:
        """Print the progress, if the last line is old enough."""
        pause = _SECONDS_ON_TERMINAL if CONSOLE.is_terminal else _SECONDS_IN_LOG
        if time.monotonic() - self._printed < pause:
            return
        self._printed = time.monotonic()
        line = f"{progress_text(status)}, {peak_memory_gb():.1f} GB"
        if CONSOLE.is_terminal:
            self._open = True
            CONSOLE.print(line[: CONSOLE.width - 1].ljust(CONSOLE.width - 1), end="\r", highlight=False)
        else:
            CONSOLE.print(line, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """End the progress line, so that other output begins below it."""
        if self._open:
            CONSOLE.print()
        self._open, self._printed = False, -math.inf


def say_what_next(run: Run) -> None:
    """Say what a finished run has done, and commands to go on with."""
    folder = run.base_dir
    config = _as_typed(folder / "config.yml")
    rows = []
    if (folder / "report.html").exists():
        rows.append(("look at it", f"{folder}/report.html (any browser)"))
    rows += [
        ("walk around in it", f"ns-viewer --load-config {config}"),
        *_ways_on(run),
        *_export_rows(run, config),
    ]
    seconds = sum(moment.seconds for moment in run.history.moments)
    say(
        f"The edit is done: {len(run.history.moments)} steps in {clock(seconds)}, "
        f"at most {peak_memory_gb():.1f} GB of memory.",
        before="\n",
    )
    for title, text in rows:
        say(text, before=f"  {title:20}")
    if run.stays_open:
        say("The viewer stays open for the next edit. Ctrl-C ends it.")


def _ways_on(run: Run) -> list[tuple[str, str]]:
    """Return commands that go on from a run, each of which runs as it stands."""
    if not (run.base_dir / again.NAME).exists():
        return []
    plan, words = run.pipeline.plan, run.pipeline.settings["tgt_prompt"]
    edited = ["--load-dir", str(run.checkpoint_dir)]
    steps = plan.end - plan.start + run.round_steps
    return [
        ("the same again", again.printed(run.base_dir)),
        (
            "other words",
            again.printed(run.base_dir, "--load-dir", str(run.source_folder), "--pipeline.tgt-prompt", words),
        ),
        ("more steps", again.printed(run.base_dir, *edited, "--max-num-iterations", str(steps))),
        ("steer it", again.reopening(run.base_dir, run.checkpoint_dir)),
    ]


def _export_rows(run: Run, config: str) -> list[tuple[str, str]]:
    """Return the path of the scene in a format that other programs read, or the command that makes such a file."""
    is_splat = run.pipeline.model.kind == "splat"
    if (run.base_dir / "splat.ply").exists():
        return [("a .ply file", f"{run.base_dir}/splat.ply (for any viewer of splats)")]
    title, command = ("a .ply file", "gaussian-splat") if is_splat else ("a mesh", "poisson")
    needs = export_needs()
    row = title, f"ns-export {command} --load-config {config} --output-dir exports"
    return [row, ("", f"({needs})")] if needs else [row]


def _as_typed(path: Path | str) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))


def export_needs() -> str:
    """Return what ns-export lacks on this machine; an empty text if it lacks nothing.

    It imports open3d at its top, which on Linux loads a system library.
    """
    if not sys.platform.startswith("linux"):
        return ""
    try:
        ctypes.CDLL("libusb-1.0.so.0")
    except OSError:
        return "it needs the system package libusb-1.0-0: apt-get install libusb-1.0-0"
    return ""
