"""Runs of ns-train, configured and not begun, for scripts that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

from pds_nerfstudio.scenes.trainer import EditTrainerConfig


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
