"""Edits of scenes of the embedded world by `ns-train`, for the scripts that compare many of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pds_nerfstudio.toyworld.grammar import Attributes, caption

ROOT = Path(__file__).parent.parent


def reconstruct(method: str, scene: Path, out: Path, source: Attributes, target: Attributes) -> Path:
    """A folder of checkpoints from which `edit_scene` can start; made in `out` if it isn't there yet."""
    checkpoints = out / "reconstruct" / method / "run" / "reconstruction"
    if not checkpoints.exists():
        options = ["--max-num-iterations", 1, "--pipeline.refine-steps", 0, "--show-edit", False]
        edit_scene(method, scene, out, "reconstruct", source, target, options)
    return checkpoints


def arguments(
    method: str, scene: Path, out: Path, name: str, source: Attributes, target: Attributes, options: Sequence[object]
) -> list[str]:
    """What `edit_scene`, which takes the same, gives to ns-train."""
    given = [
        *(method, "--data", scene, "--output-dir", out, "--experiment-name", name, "--timestamp", "run"),
        *("--pipeline.src-prompt", caption(source), "--pipeline.tgt-prompt", caption(target), *options),
    ]
    return [*map(str, given)]


def edit_scene(
    method: str, scene: Path, out: Path, name: str, source: Attributes, target: Attributes, options: Sequence[object]
) -> float:
    """Run ns-train; returns its peak memory in GB.

    Args:
        method: pds-splat-toyworld or pds-nerf-toyworld.
        scene: The data set.
        out: Folder for runs; the run is `out`/`name`/`method`/run, its output `out`/`name`/train.log.
        name: Of the run.
        source: What the scene shows.
        target: What it should show.
        options: Further ones for ns-train.

    Raises:
        SystemExit: If it fails, with the place of its output.
    """
    command = [
        str(Path(sys.executable).with_name("ns-train")),
        *arguments(method, scene, out, name, source, target, options),
    ]
    (out / name).mkdir(parents=True, exist_ok=True)
    with open(out / name / "train.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"Error: {name} failed; its output is in {out / name / 'train.log'}")
    return usage.ru_maxrss / 2**20
