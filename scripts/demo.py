"""Edit a splat scene of the embedded world by text, from nothing to scores, in one command and without a GPU.

Writes a scene (a man in a blue shirt, photographed from all around), reconstructs it as Gaussian splats, edits it with
`ns-train pds-splat-toyworld`, and scores the result against the true edit. A second call with another edit starts from
the reconstruction of the first.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.toyworld.grammar import Attributes, asked_edit, caption


@dataclass
class Demo:
    """What the demo does."""

    edit: str = "arms=raised"
    """The edit, as attribute=value: arms=raised, hat=top, color=red, subject=robot ..."""
    method: Literal["pds-splat-toyworld", "pds-nerf-toyworld"] = "pds-splat-toyworld"
    """A splat, or a NeRF (slower without a GPU)."""
    out: Path = Path("outputs/demo")
    """Folder for the scene and the runs."""
    seed: int = 0
    """Seed of the guidance's noise."""
    live: bool = False
    """Open the live editor in a browser, to watch and steer the edit; without scores. Ctrl-C ends it."""


def main(demo: Demo) -> None:
    """Write the scene, reconstruct and edit it, and score the edit.

    Raises:
        UserError: If there is no such edit.
    """
    began = time.monotonic()
    source = Attributes()
    target = asked_edit(source, demo.edit)
    scene = demo.out / "scene"
    if not (scene / "transforms.json").exists():
        run("pds-toyworld", "scene", "--out", scene, "--edit", demo.edit)
    name = demo.edit.replace("=", "-")
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    command: list[object] = [
        *(demo.method, "--data", scene, "--output-dir", demo.out, "--experiment-name", name),
        *("--timestamp", stamp, "--pipeline.guidance.seed", demo.seed),
        *("--pipeline.src-prompt", caption(source), "--pipeline.tgt-prompt", caption(target)),
    ]
    reconstructions = sorted(demo.out.glob(f"*/{demo.method}/*/reconstruction"))
    if reconstructions:
        command += ["--load-dir", reconstructions[-1]]
    shown = "viewer" if demo.live else "tensorboard"
    run("ns-train", *command, "--vis", shown, "--viewer.quit-on-train-completion", not demo.live)
    if demo.live:
        return
    config = demo.out / name / demo.method / stamp / "config.yml"
    run("pds-eval", "--load-config", config, "--edit", demo.edit)
    folder = config.parent
    print(
        f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Look at\n"
        f"    {folder}/report.html                 the edit on one page: before and after, all around, step by step\n"
        f"    {folder}/evaluation/pictures.png     beside the true edit, from views never trained on\n"
        f"and walk around in it with\n    {Path(sys.executable).parent}/ns-viewer --load-config {config}"
    )


def run(program: str, *arguments: object) -> None:
    """Run a command of the environment that this script runs in; end the demo if it fails."""
    words = [program, *map(str, arguments)]
    print(f"\n$ {shlex.join(words)}", flush=True)
    if code := subprocess.run([str(Path(sys.executable).with_name(program)), *words[1:]]).returncode:
        raise SystemExit(code)


if __name__ == "__main__":
    try:
        main(tyro.cli(Demo, description=__doc__))
    except UserError as error:
        sys.exit(f"Error: {error}")
