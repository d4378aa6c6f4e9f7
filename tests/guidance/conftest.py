"""Miniature models that the tests of this folder share."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.guidance.denoiser import Denoiser
from tests.guidance.miniature import save_pipeline


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 1.x model's folder. Shared by all tests: copy it to change it."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "sd1", {}, {})


@pytest.fixture(scope="session")
def velocity_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 2.x model's folder: predicts the velocity, projects linearly, heads per block."""
    unet_options = {"use_linear_projection": True, "attention_head_dim": (2, 4)}
    folder = tmp_path_factory.mktemp("models") / "sd2"
    return save_pipeline(folder, {"prediction_type": "v_prediction"}, unet_options)


@pytest.fixture
def own_model_folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def denoiser(model_folder: Path) -> Denoiser:
    """The model, loaded in float32."""
    return Denoiser.from_pretrained(str(model_folder), "cpu", torch.float32)


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Changes fields of a JSON file; a value of None removes the field."""

    def edit(path: Path, **changes: Any) -> None:
        content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
        kept = {name: value for name, value in content.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return edit
