"""What hardly is a scene, or hardly an edit: it runs, and leaves finite numbers, or ends in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.scenes.inputs import folders


@pytest.fixture
def black(tmp_path: Path) -> Path:
    """A scene of black pictures."""
    folders.transforms(
        tmp_path / "scene", save=lambda path, picture, i: folders.save_plain(path, np.zeros_like(picture), i)
    )
    return tmp_path / "scene"


@pytest.mark.parametrize("method", ["splat", "nerf"])
def test_black_pictures_are_edited(method: str, black: Path, make_config: Any, run: Any, last_state: Any) -> None:
    config = make_config(method, data=black, pipeline__datamanager__data=black, show_edit=True)
    trainer = run(config)
    assert (trainer.base_dir / "report.html").exists()
    assert all(bool(w.isfinite().all()) for w in last_state(trainer)["pipeline"].values() if torch.is_tensor(w))


@pytest.mark.parametrize("method", ["splat", "nerf"])
def test_an_absurd_guidance_scale_leaves_finite_numbers(
    method: str, make_config: Any, run: Any, last_state: Any
) -> None:
    trainer = run(make_config(method, pipeline__guidance__guidance_scale=1e6))
    assert all(bool(w.isfinite().all()) for w in last_state(trainer)["pipeline"].values() if torch.is_tensor(w))
