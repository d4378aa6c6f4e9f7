"""Scenes on disk: that nerfstudio reads what was meant, and that nothing is overwritten."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from pds_nerfstudio.scenes.compat import read_points_without_open3d
from pds_nerfstudio.toyworld.dataset import RECORD, photograph, read_record, walk_around, write_scene
from pds_nerfstudio.toyworld.geometry import BOUNDS_CENTER, BOUNDS_RADIUS, build
from pds_nerfstudio.toyworld.grammar import Attributes, caption, edit
from pds_nerfstudio.toyworld.renderer import distance

SOURCE = Attributes("robot", "green", hat="top", sky="sunset")
TARGET = edit(SOURCE, "arms", "raised")
VIEWS, WIDTH, HEIGHT, POINTS = 6, 45, 30, 400
SKY = 25.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "deep" / "robot"
    steps = list(write_scene(folder, SOURCE, TARGET, VIEWS, WIDTH, HEIGHT, seed=3, seed_points=POINTS))
    assert steps == [1, 2, 3, 4, 5, 6]
    return folder


@pytest.fixture(scope="module")
def parsed(scene: Path) -> DataparserOutputs:
    """Return the scene as nerfstudio reads it in an edit: its points without open3d."""
    read_points_without_open3d()
    config = NerfstudioDataParserConfig(
        data=scene,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        eval_mode="all",
        load_3D_points=True,
    )
    return config.setup().get_dataparser_outputs("train")


class TestNerfstudioReadsIt:
    def test_poses_and_intrinsics(self, parsed: DataparserOutputs) -> None:
        ours, theirs = walk_around(VIEWS, 3, WIDTH, HEIGHT), parsed.cameras
        torch.testing.assert_close(theirs.camera_to_worlds, ours.camera_to_world)
        torch.testing.assert_close(theirs.fx[:, 0], ours.focal)
        torch.testing.assert_close(theirs.fy[:, 0], ours.focal)
        assert theirs.cx.unique().tolist() == [WIDTH / 2]
        assert theirs.cy.unique().tolist() == [HEIGHT / 2]
        assert theirs.width.unique().tolist() == [WIDTH]
        assert theirs.height.unique().tolist() == [HEIGHT]
        assert theirs.distortion_params is None or not theirs.distortion_params.any()

    def test_rays(self, parsed: DataparserOutputs) -> None:
        origins, directions = walk_around(VIEWS, 3, WIDTH, HEIGHT).rays()
        bundle = parsed.cameras.generate_rays(camera_indices=4)
        torch.testing.assert_close(bundle.directions.reshape(-1, 3), directions[4], atol=1e-5, rtol=0)
        torch.testing.assert_close(bundle.origins.reshape(-1, 3), origins[4])

    def test_images_are_what_the_cameras_see(self, parsed: DataparserOutputs) -> None:
        exact = list(photograph(SOURCE, walk_around(VIEWS, 3, WIDTH, HEIGHT)))
        assert len(parsed.image_filenames) == VIEWS
        for path, (image, _) in zip(parsed.image_filenames, exact, strict=True):
            assert np.array_equal(np.asarray(Image.open(path)), image)
            assert image.shape == (HEIGHT, WIDTH, 3)

    def test_its_default_orientation_can_be_undone(self, scene: Path) -> None:
        parser = NerfstudioDataParserConfig(data=scene, eval_mode="all").setup()
        outputs = parser.get_dataparser_outputs("train")
        back = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, "opengl")
        torch.testing.assert_close(back, walk_around(VIEWS, 3, WIDTH, HEIGHT).camera_to_world, atol=1e-4, rtol=0)

    def test_points_lie_on_surfaces(self, parsed: DataparserOutputs) -> None:
        points, colors = parsed.metadata["points3D_xyz"], parsed.metadata["points3D_rgb"]
        assert points.shape == colors.shape == (POINTS, 3)
        solids = build([SOURCE])
        to_subject = distance(points[None], solids.cones, solids.boxes)[0].abs()
        from_cameras = torch.cdist(points, walk_around(VIEWS, 3, WIDTH, HEIGHT).camera_to_world[:, :, 3])
        in_sky = ((from_cameras - SKY).abs() < 1e-3).any(1)
        # pictures this small give a point's depth from a quarter of a pixel beside it: on a far ground that is a hand
        on_ground = (points[:, 2].abs() < 0.2) & ~in_sky
        on_subject = (to_subject < 0.03) & ~on_ground & ~in_sky
        near = (points - torch.tensor(BOUNDS_CENTER)).norm(dim=-1) < BOUNDS_RADIUS
        assert min(in_sky.sum(), on_ground.sum(), on_subject.sum()) > 20
        assert (in_sky | on_ground | on_subject).float().mean() > 0.98
        assert (on_subject | on_ground)[near].float().mean() > 0.95

    def test_points_have_the_colors_seen_there(self, parsed: DataparserOutputs, scene: Path) -> None:
        points, colors = parsed.metadata["points3D_xyz"], parsed.metadata["points3D_rgb"]
        cameras = walk_around(VIEWS, 3, WIDTH, HEIGHT)
        first = points[: -(-POINTS // VIEWS)]  # those that the first camera gave
        pose, focal = cameras.camera_to_world[0], cameras.focal[0]
        x, y, z = ((first - pose[:, 3]) @ pose[:, :3]).unbind(-1)
        column, row = (WIDTH / 2 + focal * x / -z).floor().long(), (HEIGHT / 2 - focal * y / -z).floor().long()
        image = torch.from_numpy(np.array(Image.open(scene / "images" / "frame_00001.png")))
        assert torch.equal(image[row, column], colors[: len(first)])


class TestRecord:
    def test_round_trip(self, scene: Path) -> None:
        assert read_record(scene) == (SOURCE, TARGET)

    def test_says_the_prompts(self, scene: Path) -> None:
        record = json.loads((scene / RECORD).read_text())
        assert record["source_prompt"] == caption(SOURCE)
        assert record["target_prompt"] == caption(TARGET)


class TestWriting:
    @staticmethod
    def write(folder: Path, seed: int = 0) -> Iterator[int]:
        return write_scene(folder, SOURCE, TARGET, views=2, width=12, height=10, seed=seed, seed_points=11)

    def test_refuses_to_overwrite(self, tmp_path: Path) -> None:
        list(self.write(tmp_path))
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert len(before) == 5
        with pytest.raises(FileExistsError, match="holds a scene already: give a new folder"):
            list(self.write(tmp_path, seed=1))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_a_cut_run_leaves_no_scene(self, tmp_path: Path) -> None:
        steps = self.write(tmp_path)
        next(steps)
        del steps
        assert not (tmp_path / "transforms.json").exists()
        assert list(self.write(tmp_path)) == [1, 2]

    def test_repeatable(self, tmp_path: Path) -> None:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            list(self.write(tmp_path / name, seed))
        for name in ("transforms.json", "seed_points.ply", "images/frame_00002.png", RECORD):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / "transforms.json").read_text() != (tmp_path / "c" / "transforms.json").read_text()


class TestWalkAround:
    def test_goes_all_the_way_round_above_the_ground(self) -> None:
        cameras = walk_around(16, 0)
        x, y, z = cameras.camera_to_world[:, :, 3].unbind(-1)
        gaps = torch.atan2(y, x).sort().values.diff()
        assert gaps.min() > 0
        assert gaps.max() < 2 * 2 * torch.pi / 16
        assert (z > BOUNDS_CENTER[2]).all()
        assert z.std() > 0.3

    def test_other_seeds_are_other_cameras(self) -> None:
        trained, judged = (walk_around(32, seed).camera_to_world[:, :, 3] for seed in (0, 1000))
        assert torch.cdist(trained, judged).min() > 1e-3
        assert torch.equal(walk_around(32, 0).camera_to_world[:, :, 3], trained)


def test_photographs_say_how_far_things_are() -> None:
    cameras = walk_around(2, 0, 20, 20)
    for i, (image, depth) in enumerate(photograph(SOURCE, cameras)):
        assert image.dtype == np.uint8
        assert image.shape == (20, 20, 3)
        away = (cameras.camera_to_world[i, :, 3] - torch.tensor(BOUNDS_CENTER)).norm()
        assert abs(depth[10, 10] - away) < BOUNDS_RADIUS
        assert depth[0].isinf().any() or depth[0].min() > away
