"""Runs of ns-train, configured and not begun, for scripts that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from random_models import RandomModel

from pds_nerfstudio.scenes.trainer import EditTrainerConfig
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes, caption, edit

TimedMethod = Literal["pds-splat", "pds-splat-quick", "pds-nerf", "pds-splat-toyworld", "pds-nerf-toyworld"]
TimedModel = Literal["sd15", "sd21", "toyworld"]


def configured_run(arguments: Sequence[object], data: Path) -> EditTrainerConfig:
    """Return a run as ns-train would have it configured, its folder made.

    Args:
        arguments: Of ns-train, from the method's name on.
        data: The folder of the scene.
    """
    config = tyro.cli(AnnotatedBaseConfigUnion, args=[str(argument) for argument in arguments])
    assert isinstance(config, EditTrainerConfig)
    config.pipeline.datamanager.data = data
    config.set_timestamp()
    config.save_config()
    return config


def configured_edit(
    method: TimedMethod,
    model: TimedModel,
    scene: tuple[int, int, int],
    arguments: Sequence[object],
    folder: Path,
    kept: Path,
) -> EditTrainerConfig:
    """Return an edit of a scene of the embedded world.

    Args:
        method: Of ns-train.
        model: Its name; Stable Diffusion is built with random weights.
        scene: How many views, their side in pixels, and how many points splats begin with.
        arguments: Further ones of ns-train.
        folder: For the run.
        kept: Folder in which scenes and models of random weights are written, and found again.
    """
    source = Attributes()
    target = edit(source, "arms", "raised")
    views, size, points = scene
    data = kept / f"scene-{views}-{size}-{points}"
    if not (data / "transforms.json").exists():
        for _ in write_scene(data, source, target, views, size, size, seed_points=points):
            pass
    path: object = model
    if model != "toyworld":
        path = RandomModel(out=kept / f"{model}-random", architecture=model).write()
    first: list[object] = [
        *(method, "--data", data, "--output-dir", folder, "--vis", "tensorboard"),
        *("--pipeline.src-prompt", caption(source), "--pipeline.tgt-prompt", caption(target)),
        *("--pipeline.guidance.model", path, "--viewer.quit-on-train-completion", True),
    ]
    return configured_run([*first, *arguments], data)
