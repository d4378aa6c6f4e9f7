"""The source views: that each camera sees what its image shows."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image
from torch import Tensor

from pds_nerfstudio.scenes.views import SourceViews, tile_of, view_at

BACKGROUND = torch.tensor([0.2, 0.6, 0.4])
LANDSCAPE, PORTRAIT = (60, 40), (40, 60)
LENS = {"k1": 0.15, "k2": -0.03, "p1": 0.004, "p2": -0.003}


def colors(camera: Cameras) -> Tensor:
    """What a camera sees of a world in which each direction, in the camera's own frame, has a colour."""
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    local = rays.directions @ camera.camera_to_worlds[0, :, :3]
    return local / local.norm(dim=-1, keepdim=True) * 0.5 + 0.5


def write_views(
    folder: Path, sizes: list[tuple[int, int]], lens: dict[str, float] | None = None, alpha: bool = False
) -> Path:
    """A data set whose pictures are `colors` of its cameras; with `alpha`, their left halves are transparent."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i, (width, height) in enumerate(sizes):
        lens_values = [(lens or {}).get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2")]
        turn = torch.tensor(0.7 * i)
        pose = torch.eye(4)
        pose[0, 0], pose[0, 1], pose[1, 0], pose[1, 1] = turn.cos(), -turn.sin(), turn.sin(), turn.cos()
        pose[:3, 3] = torch.tensor([turn.cos(), turn.sin(), 0.1 * i])
        intrinsics = {"fl_x": 50.0, "fl_y": 47.0, "cx": width / 2 + 1.5, "cy": height / 2 - 1}
        camera = Cameras(
            pose[None, :3],
            intrinsics["fl_x"],
            intrinsics["fl_y"],
            intrinsics["cx"],
            intrinsics["cy"],
            width=width,
            height=height,
            distortion_params=torch.tensor([lens_values]),
        )
        picture = (colors(camera) * 255).round().to(torch.uint8).numpy()
        if alpha:
            opacity = np.full((*picture.shape[:2], 1), 255, np.uint8)
            opacity[:, : width // 2] = 0
            picture = np.concatenate([picture, opacity], -1)
        name = f"images/{i:02d}.png"
        Image.fromarray(picture).save(folder / name)
        frames.append(
            {"file_path": name, "w": width, "h": height, "transform_matrix": pose.tolist()} | intrinsics | (lens or {})
        )
    (folder / "transforms.json").write_text(json.dumps({"camera_model": "OPENCV", "frames": frames}))
    return folder


def open_views(
    kind: str, folder: Path, side: int = 1000, manager: dict[str, Any] | None = None, **options: Any
) -> SourceViews:
    config: Any
    if kind == "splat":
        config = FullImageDatamanagerConfig(cache_images="gpu", cache_images_type="uint8")
    else:
        config = VanillaDataManagerConfig(**(manager or {}))
    config.dataparser = NerfstudioDataParserConfig(data=folder, eval_mode="all", **options)
    datamanager = config.setup(device="cpu", test_mode="test")
    return SourceViews(datamanager, side, BACKGROUND, "cpu")


@pytest.mark.parametrize("side", [1000, 30, 17])
@pytest.mark.parametrize("lens", [None, LENS])
@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_the_camera_sees_what_the_image_shows(
    kind: str, lens: dict[str, float] | None, side: int, tmp_path: Path
) -> None:
    """Sizes mixed, portrait and landscape, undistorted or not, full size or smaller."""
    views = open_views(kind, write_views(tmp_path / "data", [LANDSCAPE, PORTRAIT, (50, 50)], lens), side)
    assert len(views) == 3
    for i in range(3):
        view = views[i]
        size = int(view.camera.height.item()), int(view.camera.width.item())
        assert view.index == i and view.image.shape == (1, 3, *size)
        assert size[0] * size[1] <= side**2 * 1.05
        seen = colors(view.camera).permute(2, 0, 1)[None]
        inside = (..., slice(1, -1), slice(1, -1))  # a smaller image averages over what is beyond its border
        # A step of a byte, and the curvature of colours within a pixel; a shift by half a pixel is ten times that.
        assert (seen - view.image)[inside].abs().max() < (0.006 if side == 1000 else 0.012)


def test_what_a_lens_did_is_undone_for_splats_only(tmp_path: Path) -> None:
    folder = write_views(tmp_path / "data", [LANDSCAPE, PORTRAIT, LANDSCAPE], LENS)
    splat, nerf = open_views("splat", folder), open_views("nerf", folder)
    assert not splat.full_size_camera(0).distortion_params.any()  # type: ignore[union-attr]
    assert nerf.full_size_camera(0).distortion_params[0].tolist() == pytest.approx(  # type: ignore[index]
        [0.15, -0.03, 0, 0, 0.004, -0.003]
    )
    assert splat.cameras.fx[0] != pytest.approx(50)
    assert nerf.cameras.fx[0] == pytest.approx(50)


def test_a_wide_lens_is_a_plain_one_after_undistortion(tmp_path: Path) -> None:
    folder = write_views(tmp_path / "data", [LANDSCAPE] * 3, {"k1": 0.05})
    text = (folder / "transforms.json").read_text().replace('"OPENCV"', '"OPENCV_FISHEYE"')
    (folder / "transforms.json").write_text(text)
    for kind, expected in (("splat", CameraType.PERSPECTIVE), ("nerf", CameraType.FISHEYE)):
        view = open_views(kind, folder)[0]
        assert view.camera.camera_type.item() == expected.value
        assert view.image.shape[2:] == (view.camera.height.item(), view.camera.width.item())


@pytest.mark.parametrize("kind", ["splat", "nerf"])
def test_a_transparent_image_lies_on_the_background(kind: str, tmp_path: Path) -> None:
    views = open_views(kind, write_views(tmp_path / "data", [LANDSCAPE] * 3, alpha=True))
    image, camera = views.full_size_image(1), views.full_size_camera(1)
    assert torch.allclose(image[:, :30], BACKGROUND.expand(40, 30, 3), atol=1e-6)
    assert (image[:, 30:] - colors(camera)[:, 30:]).abs().max() < 0.006


def test_looking_at_a_view_changes_none(tmp_path: Path) -> None:
    views = open_views("splat", write_views(tmp_path / "data", [LANDSCAPE] * 3, LENS), side=20)
    before = [getattr(views.cameras, name).clone() for name in ("fx", "cy", "width", "distortion_params")]
    again = [views[0] for _ in range(3)]
    assert all(torch.equal(view.image, again[0].image) and view.camera.fx == again[0].camera.fx for view in again)
    after = [getattr(views.cameras, name) for name in ("fx", "cy", "width", "distortion_params")]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_the_camera_says_which_one_it_is(tmp_path: Path) -> None:
    """Splatfacto finds its pose correction by this."""
    views = open_views("splat", write_views(tmp_path / "data", [LANDSCAPE] * 3))
    assert [views[i].camera.metadata["cam_idx"] for i in range(3)] == [0, 1, 2]  # type: ignore[index]


class TestViewAt:
    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_every_view_comes_once_a_round(self, n: int) -> None:
        for round_ in range(5):
            assert Counter(view_at(round_ * n + k, n, 3) for k in range(n)) == Counter(range(n))

    def test_it_depends_on_the_seed_and_the_round(self) -> None:
        def order(seed: int, round_: int) -> list[int]:
            return [view_at(round_ * 20 + k, 20, seed) for k in range(20)]

        assert order(0, 0) == order(0, 0)
        assert len({tuple(order(seed, round_)) for seed in (0, 1, 10) for round_ in (0, 1, 10)}) == 9

    def test_it_touches_no_global_random_state(self) -> None:
        import random

        random.seed(1)
        first = view_at(3, 10, 0), random.random()
        random.seed(1)
        view_at(8, 10, 0)
        assert random.random() == first[1]
        random.seed(2)
        assert view_at(3, 10, 0) == first[0]


class TestFullSize:
    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("kept", ["splat", "nerf", "files"])
    def test_parts_and_pixels_are_those_of_the_whole(self, kept: str, alpha: bool, tmp_path: Path) -> None:
        """Wherever the images are: in either data manager's memory, or where it keeps only some, in files."""
        folder = write_views(tmp_path / "data", [LANDSCAPE, PORTRAIT, LANDSCAPE, LANDSCAPE], alpha=alpha)
        few = {"train_num_images_to_sample_from": 2} if kept == "files" else {}
        views = open_views("splat" if kept == "splat" else "nerf", folder, manager=few)
        whole = {i: views.full_size_image(i) for i in range(4)}
        assert all(image.shape == ((60, 40, 3) if i == 1 else (40, 60, 3)) for i, image in whole.items())
        for i in range(4):
            assert (whole[i][:, -18:] - colors(views.full_size_camera(i))[:, -18:]).abs().max() < 0.003
        part = views.full_size_image(1, slice(10, 35), slice(4, 40))
        assert torch.equal(part, whole[1][10:35, 4:40])
        indices, rows, columns = (torch.randint(n, (500,)) for n in (4, 40, 40))
        expected = torch.stack([whole[i][y, x] for i, y, x in torch.stack([indices, rows, columns], 1).tolist()])
        assert torch.equal(views.full_size_pixels(indices, rows, columns), expected)

    def test_the_camera_of_a_tile_sees_a_part_of_what_the_whole_one_sees(self, tmp_path: Path) -> None:
        views = open_views("splat", write_views(tmp_path / "data", [LANDSCAPE, PORTRAIT]))
        camera = views.full_size_camera(0)
        tile = tile_of(camera, slice(7, 30), slice(20, 60))
        seen = colors(tile)
        assert seen.shape == (23, 40, 3) and tile.metadata == {"cam_idx": 0}
        torch.testing.assert_close(seen, colors(camera)[7:30, 20:60], atol=1e-6, rtol=0)
        assert (camera.height.item(), camera.width.item()) == (40, 60)
