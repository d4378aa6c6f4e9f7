"""Faint fog in free space: what makes a NeRF grow new things where a reconstruction has left nothing."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.ball import looked_at_ball, random_in_ball
from pds_nerfstudio.scenes.fog import fog_density, random_rays, surface_points
from pds_nerfstudio.scenes.nerf import EditNerfModel
from pds_nerfstudio.scenes.trainer import EditTrainer

OPACITY = 0.1


def test_density_of_a_fog() -> None:
    """Light that passes many thin layers of it loses the share asked for."""
    density, radius, layers = fog_density(0.3, 2.5), 2.5, 10**5
    passes = math.prod([1 - density * 2 * radius / layers] * layers)
    assert 1 - passes == pytest.approx(0.3, rel=1e-4)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, config_in: Any, prepare: Any) -> EditTrainer:
    """Has reconstructed the scene for some steps."""
    trainer = prepare(config_in(tmp_path_factory.mktemp("fog"), "nerf", reconstruct=10**6))
    trainer.pipeline.train()
    for step in range(150):
        trainer.train_iteration(step)
    return trainer


@pytest.fixture
def model(trainer: EditTrainer) -> Iterator[EditNerfModel]:
    """The scene with free space as empty as after a long reconstruction: 1e-8 of the density of a fog."""
    model = trainer.pipeline.model
    assert isinstance(model, EditNerfModel)
    before, usual = copy.deepcopy(model.state_dict()), copy.copy(model.config)
    model.config.fog_opacity, model.config.fog_steps = OPACITY, 80
    yield model
    model.load_state_dict(before)
    model.config = usual
