"""Splats of hardly any Gaussians: one is a scene, and none is said to be none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from pds_nerfstudio.scenes.files.formats import write_splats
from pds_nerfstudio.scenes.files.splats import Splats
from tests.scenes.splats import numbers, splat

ALL_GO = {
    "pipeline__model__edit_cull_alpha_thresh": 1.0,
    "pipeline__model__edit_refine_every": 2,
    "pipeline__guidance__localize": 0.0,
}


def write_seeds(path: Path, n: int) -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (n, 3))
    columns = [(axis, "f4") for axis in "xyz"] + [(color, "u1") for color in ("red", "green", "blue")]
    rows = np.array([(*point, 200, 100, 50) for point in points], columns)
    PlyData([PlyElement.describe(rows, "vertex")]).write(path)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("strewn", [0, 5])
def test_a_scene_of_few_seed_points_is_edited(
    n: int, strewn: int, make_config: Any, run: Any, own_scene: Path, last_state: Any
) -> None:
    write_seeds(own_scene / "seed_points.ply", n)
    options = {"data": own_scene, "pipeline__datamanager__data": own_scene, "show_edit": True}
    trainer = run(make_config("splat", **options, pipeline__model__strewn_gaussians=strewn))
    assert splat(trainer).num_points >= n
    assert all(bool(values.isfinite().all()) for values in numbers(splat(trainer)).values())
    assert last_state(trainer)["step"] == 4


def test_a_file_of_one_gaussian_is_edited(make_config: Any, run: Any, tmp_path: Path) -> None:
    one = Splats(
        means=torch.zeros(1, 3),
        scales=torch.full((1, 3), -2.0),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        opacities=torch.full((1,), 3.0),
        base=torch.zeros(1, 3),
        rest=torch.zeros(1, 0, 3),
    )
    file = write_splats(tmp_path / "one.ply", one, [])
    trainer = run(make_config("splat", load_ply=file, show_edit=True, pipeline__model__strewn_gaussians=0))
    assert splat(trainer).num_points >= 1  # it may have been split


def test_where_culling_leaves_none_the_run_says_so_and_the_last_checkpoint_stays(
    make_config: Any, run: Any, fails: Any, tmp_path: Path
) -> None:
    first = run(make_config("splat", "first", steps=1))
    kept = {path: path.read_bytes() for path in first.base_dir.rglob("*.ckpt")}
    line = fails(lambda: run(make_config("splat", "first", steps=9, load_dir=first.checkpoint_dir, **ALL_GO)))
    assert "no Gaussian is left" in line and "--pipeline.model.edit-cull-alpha-thresh" in line
    assert f"--load-dir {first.checkpoint_dir}" in line
    after = {path: path.read_bytes() for path in first.base_dir.rglob("*.ckpt")}
    assert after == kept
