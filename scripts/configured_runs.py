"""Runs of ns-train, configured and not begun, for scripts that measure them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass
class TimedEdit:
    """An edit of a scene of the embedded world, to be timed."""

    method: TimedMethod = "pds-splat"
    """What is edited; those of the embedded world on a CPU."""
    model: TimedModel = "sd15"
    """Stable Diffusion 1.5 or 2.1 with random weights, or the embedded model."""
    size: int = 512
    """Side of the views in pixels."""
    views: int = 8
    """How many views there are."""
    gaussians: int = 200_000
    """How many Gaussians a splat begins with."""
    options: str = ""
    """Further options of ns-train, in one string."""
    out: Path = Path("outputs/timed-edit.json")
    """Where the figures go; the scene and a model of random weights are kept beside them."""

    def configured(self, arguments: Sequence[object], folder: Path) -> EditTrainerConfig:
        """Return the run, as ns-train would have it configured.

        Args:
            arguments: Of ns-train, which `options` come after.
            folder: For the run.
        """
        source = Attributes()
        target = edit(source, "arms", "raised")
        data = self.out.parent / f"scene-{self.views}-{self.size}-{self.gaussians}"
        if not (data / "transforms.json").exists():
            for _ in write_scene(data, source, target, self.views, self.size, self.size, seed_points=self.gaussians):
                pass
        path: object = self.model
        if self.model != "toyworld":
            path = RandomModel(out=self.out.parent / f"{self.model}-random", architecture=self.model).write()
        first: list[object] = [
            *(self.method, "--data", data, "--output-dir", folder, "--vis", "tensorboard"),
            *("--pipeline.src-prompt", caption(source), "--pipeline.tgt-prompt", caption(target)),
            *("--pipeline.guidance.model", path, "--viewer.quit-on-train-completion", True),
        ]
        return configured_run([*first, *arguments, *shlex.split(self.options)], data)
