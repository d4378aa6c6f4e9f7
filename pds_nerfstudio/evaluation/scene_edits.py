"""Edit scenes of the embedded world by `ns-train`, each run in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.toyworld.grammar import Attributes, caption


def reconstruct(method: str, scene: Path, out: Path, source: Attributes, target: Attributes) -> Path:
    """Return a folder of checkpoints from which `edit_scene` can start; make it in `out` if it isn't there yet."""
    checkpoints = out / "reconstruct" / method / "run" / "reconstruction"
    if not checkpoints.exists():
        options = ["--max-num-iterations", 1, "--pipeline.refine-steps", 0, "--show-edit", False]
        edit_scene(method, scene, out, "reconstruct", source, target, options)
    return checkpoints


def arguments(
    method: str, scene: Path, out: Path, name: str, source: Attributes, target: Attributes, options: Sequence[object]
) -> list[str]:
    """Return what `edit_scene`, which takes the same, gives to ns-train."""
    given = [
        *(method, "--data", scene, "--output-dir", out, "--experiment-name", name, "--timestamp", "run"),
        *("--vis", "tensorboard", "--viewer.quit-on-train-completion", True),
        *("--pipeline.src-prompt", caption(source), "--pipeline.tgt-prompt", caption(target), *options),
    ]
    return [*map(str, given)]


def edit_scene(
    method: str, scene: Path, out: Path, name: str, source: Attributes, target: Attributes, options: Sequence[object]
) -> None:
    """Run ns-train.

    Args:
        method: pds-splat-toyworld or pds-nerf-toyworld.
        scene: The data set.
        out: Folder for runs; the run is `out`/`name`/`method`/run, its output `out`/`name`/train.log.
        name: Of the run.
        source: What the scene shows.
        target: What it should show.
        options: Further ones for ns-train.

    Raises:
        UserError: If it fails, with the place of its output.
    """
    program = str(Path(sys.executable).with_name("ns-train"))
    shutil.rmtree(out / name / method / "run", ignore_errors=True)  # of one that was cut: ns-train writes over no run
    (out / name).mkdir(parents=True, exist_ok=True)
    with open(out / name / "train.log", "w") as log:
        command = [program, *arguments(method, scene, out, name, source, target, options)]
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if status:
        raise UserError(f"The run {name} failed; its output is in {out / name / 'train.log'}.")
