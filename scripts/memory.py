"""Measure how much memory long and large edits take, each part in a process of its own.

python scripts/memory.py steps        # 2,000 steps of a small splat edit: the memory does not grow
python scripts/memory.py views        # 1,000 small views
python scripts/memory.py photos       # 20 photographs of 12 megapixels, with the smaller copies of ns-process-data
python scripts/memory.py whole-photos # the same without those
python scripts/memory.py gaussians    # a million Gaussians, a step that reconstructs and one that edits

The scene is one of the embedded world's, the model the embedded one, and a GPU is left alone. Figures are of the
process's resident memory, which holds Python and all libraries, too.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from configured_runs import configured_run
from PIL import Image

from pds_nerfstudio.scenes.trainer import EditTrainerConfig
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes, caption, edit

_GB = 1 << 30
_LENGTHS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
_COPIES = (2, 4, 8)


@dataclass
class Part:
    """What is edited."""

    views: int
    """How many there are."""
    size: int
    """Their side in pixels, as they are drawn."""
    steps: int = 1
    """Steps of the edit."""
    enlarged: int = 1
    """How many times as large they are made, then."""
    options: tuple[str, ...] = ()
    """Further options of ns-train."""


PARTS = {
    "steps": Part(
        views=8,
        size=32,
        steps=2000,
        options=("--pipeline.guidance.resolution", "64", "--pipeline.model.edit-refine-every", "0"),
    ),
    "views": Part(views=1000, size=64),
    "photos": Part(views=20, size=250, enlarged=14),
    "whole-photos": Part(views=20, size=250, enlarged=14, options=("nerfstudio-data", "--downscale-factor", "1")),
    "gaussians": Part(
        views=3,
        size=64,
        options=(
            *("--pipeline.model.random-init", "True", "--pipeline.model.num-random", "1000000"),
            *("--pipeline.reconstruct-steps", "1"),
        ),
    ),
}


def resident_gb() -> float:
    """Return how much memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _GB


def peak_gb() -> float:
    """Return how much it has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GB


def enlarge(folder: Path, times: int) -> None:
    """Make a scene's pictures larger, with smaller copies of them as ns-process-data leaves them."""
    path = folder / "transforms.json"
    scene = json.loads(path.read_text())
    scene |= {name: times * scene[name] for name in _LENGTHS}
    for frame in scene["frames"]:
        picture = folder / frame["file_path"]
        frame["file_path"] = f"images/{picture.stem}.jpg"
        with Image.open(picture) as small:
            large = small.convert("RGB").resize((times * small.width, times * small.height), Image.Resampling.BICUBIC)
        picture.unlink()
        for copy in (1, *_COPIES):
            file = folder / ("images" if copy == 1 else f"images_{copy}") / f"{picture.stem}.jpg"
            file.parent.mkdir(exist_ok=True)
            large.resize((large.width // copy, large.height // copy)).save(file)
    path.write_text(json.dumps(scene))


def configured(part: Part, folder: Path) -> EditTrainerConfig:
    """Write a scene, and return the run, as ns-train would have it configured."""
    source, target = Attributes(), edit(Attributes(), "arms", "raised")
    for _ in write_scene(folder / "scene", source, target, part.views, part.size, part.size):
        pass
    if part.enlarged > 1:
        enlarge(folder / "scene", part.enlarged)
    arguments: list[object] = [
        *("pds-splat-toyworld", "--data", folder / "scene", "--output-dir", folder, "--vis", "tensorboard"),
        *("--max-num-iterations", part.steps, "--pipeline.reconstruct-steps", 0, "--pipeline.refine-steps", 0),
        *("--pipeline.strategy", "distil", "--show-edit", False),
        *("--viewer.quit-on-train-completion", True, "--machine.device-type", "cpu"),
        *("--pipeline.src-prompt", caption(source), "--pipeline.tgt-prompt", caption(target), *part.options),
    ]
    return configured_run(arguments, folder / "scene")


def at_steps(trainer: Any, told: Callable[[int], None]) -> None:
    """Have each step's number told when it is done."""
    usual = trainer.train_iteration

    def watched(step: int) -> Any:
        result = usual(step)
        told(step)
        return result

    trainer.train_iteration = watched


def measure(part: Part) -> dict[str, float]:
    """Edit, and return what that took, by what it was taken for."""
    with tempfile.TemporaryDirectory() as folder:
        config = configured(part, Path(folder))
        found = {"before": resident_gb()}
        trainer: Any = config.setup()
        trainer.setup()
        found["loaded"] = resident_gb()
        marks = {part.steps // 10, part.steps // 2, part.steps}
        done = [0]

        def note(step: int) -> None:
            done[0] += 1
            if done[0] in marks:
                count = trainer.pipeline.model.num_points
                found[f"step {done[0]:,}, {count:,} Gaussians"] = resident_gb()

        at_steps(trainer, note)
        trainer.train()
        found["at most"] = peak_gb()
    return found


def main(name: Annotated[str, tyro.conf.Positional], steps: int = 0, views: int = 0) -> None:
    """Measure a part.

    Args:
        name: steps, views, photos, whole-photos or gaussians.
        steps: Of the edit, if not as many as usual.
        views: Of the scene, if not as many as usual.
    """
    part = PARTS[name]
    part.steps, part.views = steps or part.steps, views or part.views
    figures = measure(part)
    print(f"\n{name}: {part.views} views of {part.enlarged * part.size} × {part.enlarged * part.size}")
    for what, gigabytes in figures.items():
        print(f"  {what:36s} {gigabytes:6.2f} GB")


if __name__ == "__main__":
    tyro.cli(main)
