"""Any scene in: each kind of folder is edited, from views that show what their cameras see, or is refused in a line."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from PIL import Image
from torch import Tensor

from pds_nerfstudio.scenes.files.formats import write_splats
from pds_nerfstudio.scenes.files.splats import Splats
from pds_nerfstudio.scenes.trainer import EditTrainer, EditTrainerConfig
from tests.scenes.inputs.kinds import KINDS, Kind
from tests.scenes.inputs.shots import Shots, rays_of, seen, shoot, surface

METHODS = ["splat", "nerf"]
FILMED = [KINDS[name] for name in ("fisheye", "equirectangular", "one view, not scaled")]
"""Where a camera that goes around the scene is not like any of the views."""
SH_0 = 0.28209479177387814
"""The harmonic of degree 0."""

pytestmark = [
    # nerfstudio's parser of Phototourism and Dycheck; of NumPy, Torch and Pillow
    pytest.mark.filterwarnings("ignore::UserWarning:nerfstudio"),
    pytest.mark.filterwarnings("ignore:The seed points .* are not there"),
]


@pytest.fixture(scope="session")
def splat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A splat of the embedded world's thing, in its own coordinates."""
    points, colors, spacing = surface()
    n = len(points)
    splats = Splats(
        means=points,
        scales=spacing.log()[:, None].expand(-1, 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(n, -1),
        opacities=torch.full((n,), 3.0),
        base=(colors - 0.5) / SH_0,
        rest=torch.zeros(n, 0, 3),
    )
    return write_splats(tmp_path_factory.mktemp("splats") / "thing.ply", splats, [])


@pytest.fixture
def configured(make_config: Any, splat_file: Path) -> Callable[..., EditTrainerConfig]:
    """The config of a short edit of a kind of folder."""

    def make(method: str, kind: Kind, folder: Path, **options: Any) -> EditTrainerConfig:
        data = folder / kind.data
        of_file = {"load_ply": splat_file, "ply_coordinates": "world"} if method == "splat" and kind.world else {}
        given = {
            "data": data,
            "pipeline__datamanager__data": data,
            "pipeline__datamanager__dataparser": copy.deepcopy(kind.parser),
            "pipeline__turntable_frames": 2 if kind in FILMED else 0,
            **({"pipeline__model__strewn_gaussians": 10} if method == "splat" else {}),
            **of_file,
        }
        return make_config(method, steps=2, reconstruct=1, show_edit=True, **{**given, **options})

    return make


def of_kinds(refused: bool) -> Any:
    cases = [
        pytest.param(method, name, id=f"{name}-{method}")
        for name, kind in KINDS.items()
        for method in METHODS
        if (kind.refused(method) is not None) == refused
    ]
    return pytest.mark.parametrize(("method", "name"), cases)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


def check_likeness(pictures: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Each is as it should be, and upright; and all in all they would be farther off if they were mirrored."""
    errors, mirrored = [], []
    for picture, truth in zip(pictures, expected, strict=True):
        errors.append(difference(picture, truth))
        mirrored.append(difference(picture.flip(1), truth))
        assert errors[-1] < tolerance
        assert all(difference(picture.flip(turn), truth) > 2 * errors[-1] for turn in ((0,), (0, 1)))
    assert sum(mirrored) > sum(errors)


class Gauge:
    """The way back from nerfstudio's coordinates to the world's, found from where two cameras are."""

    def __init__(self, cameras: Cameras, numbers: list[int], shots: Shots) -> None:
        poses = cameras.camera_to_worlds.double()
        truth = torch.stack([torch.from_numpy(shots.pose(i))[:3] for i in numbers])
        self.turn = truth[0, :, :3] @ poses[0, :, :3].T
        self.middle, self.true_middle = poses[0, :, 3], truth[0, :, 3]
        self.scale = 1.0
        if len(numbers) > 1:
            self.scale = float((truth[-1] - truth[0])[:, 3].norm() / (poses[-1] - poses[0])[:, 3].norm())

    def world(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        places = (origins.double() - self.middle) @ self.turn.T * self.scale + self.true_middle
        return places.float(), (directions.double() @ self.turn.T).float()


def what_it_sees(camera: Cameras, gauge: Gauge, shots: Shots, number: int) -> Tensor:
    """The world by a camera of nerfstudio's; a photograph of it, if there is one along the same rays."""
    rays = gauge.world(*rays_of(camera))
    known = rays_of(shots.cameras[number : number + 1])
    if all(a.shape == b.shape and torch.allclose(a, b, atol=1e-3) for a, b in zip(rays, known, strict=True)):
        return torch.from_numpy(shots.pictures[number]).float() / 255
    return seen(*rays)


@of_kinds(refused=False)
def test_it_is_edited(
    method: str, name: str, configured: Callable[..., EditTrainerConfig], run: Any, tmp_path: Path
) -> None:
    kind, folder = KINDS[name], made(tmp_path / "scene")
    shown = kind.write(folder)
    trainer: EditTrainer = run(configured(method, kind, folder))
    pipeline = trainer.pipeline
    views, background = pipeline.views, pipeline.model.edit_background.cpu()

    numbers = [shown[Path(path).resolve()] for path in views.outputs.image_filenames]
    shots = shoot(max(shown.values()) + 1)  # all sizes and lenses stand in the same places
    gauge = Gauge(views.cameras, numbers, shots)
    edited = sorted((trainer.base_dir / "edited_views" / "images").iterdir())
    frames = json.loads((trainer.base_dir / "edited_views" / "transforms.json").read_text())["frames"]
    assert len(views) == len(numbers) == len(edited) == len(frames) >= 1
    sources, results, seen_by_views, seen_at_full_size = [], [], [], []
    for k, frame in enumerate(frames):
        view, camera = views[k], views.full_size_camera(k)
        sources.append(view.image[0].permute(1, 2, 0))
        truth = what_it_sees(view.camera, gauge, shots, numbers[k])
        seen_by_views.append(kind.looks(truth, background))
        with Image.open(trainer.base_dir / "edited_views" / frame["file_path"]) as file:
            results.append(torch.from_numpy(np.array(file)).float() / 255)
        as_large = view.camera.width == camera.width and view.camera.height == camera.height
        seen_at_full_size.append(truth if as_large else what_it_sees(camera, gauge, shots, numbers[k]))
        assert results[-1].shape == (int(camera.height), int(camera.width), 3)
        if kind.world:
            assert np.allclose(np.array(frame["transform_matrix"]), shots.pose(numbers[k]), atol=2e-3)
    check_likeness(sources, seen_by_views, kind.tolerance)
    assert (trainer.base_dir / "turntable.mp4").exists() == (kind in FILMED)
    if method == "splat" and kind.world:
        check_likeness(results, seen_at_full_size, 0.12)
        pipeline.train()
        losses = VanillaPipeline.get_train_loss_dict(pipeline, 0)[1]  # nerfstudio's own, of a photo and its camera
        assert float(losses["main_loss"].detach()) < 0.35


@of_kinds(refused=True)
def test_it_is_refused_in_one_line(
    method: str, name: str, configured: Callable[..., EditTrainerConfig], prepare: Any, fails: Any, tmp_path: Path
) -> None:
    kind, folder = KINDS[name], made(tmp_path / "scene")
    kind.write(folder)
    config = configured(method, kind, folder)
    line = fails(lambda: prepare(config))
    print(f"{name} ({method}): {line}")
    wanted = kind.refused(method)
    assert wanted is not None
    assert wanted.format(folder=folder, data=folder / kind.data) in line
    assert not config.output_dir.exists()


def test_the_page_says_the_same() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guide" / "inputs.md").read_text("utf8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", page[page.index("## What was tried") :], re.M))
    assert rows.keys() - {"folder"} == KINDS.keys()
    for name, kind in KINDS.items():
        said = rows[name].split(" | ")
        said = [said[0], said[0] if said[1] == "the same" else said[1]]
        for method, cell in zip(METHODS, said, strict=True):
            line = kind.refused(method)
            if line is None:
                assert cell == "works", name
            else:
                assert line.format(folder="man", data=(Path("man") / kind.data).as_posix()) in cell, name
