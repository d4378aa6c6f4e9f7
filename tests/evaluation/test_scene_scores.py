"""An edited scene beside its source, on scenes made of one wall, in closed form."""

import math
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from pds_nerfstudio.evaluation.edited_region import NothingKnown
from pds_nerfstudio.evaluation.scene_scores import (
    MOST_DECIBELS,
    SceneJudge,
    SceneScores,
    StateScores,
    look_of,
    neighbour_of,
    pinhole,
)
from tests.evaluation.few_gaussians import splat

WIDTH, HEIGHT, FOCAL = 40, 24, 40.0
APART = 4
"""Pixels by which the wall lies elsewhere from one view to the next."""


def cameras(n: int = 3) -> Cameras:
    """Cameras side by side, which look along −z at a wall 2 away."""
    poses = torch.eye(4)[:3].repeat(n, 1, 1)
    poses[:, 0, 3] = torch.arange(n) * APART * 2 / FOCAL
    return Cameras(poses, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)


def wall(x: Tensor, y: Tensor) -> Tensor:
    """The colours of the wall, by the pixels of the first view: of much detail, and not too bright to be brightened."""
    return 0.4 + 0.3 * torch.stack([(x * a + y * b).sin() for a, b in ((12.9, 78.2), (39.3, 11.1), (73.1, 52.2))], -1)


def photo(index: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH) + APART * index, indexing="ij")
    return wall(x.float(), y.float())


class Scene:
    """Shows the wall, with what an edit has done to each view."""

    kind = "splat"
    device = torch.device("cpu")
    points = torch.tensor([[0.0, 0.0, -2.0]])

    def __init__(self, edit: Any = lambda image, index: image) -> None:
        self.edit = edit

    def get_outputs_for_camera(self, camera: Cameras) -> dict[str, Tensor]:
        index = round(camera.camera_to_worlds[0, 0, 3].item() * FOCAL / 2 / APART)
        ones = torch.ones(HEIGHT, WIDTH, 1)
        return {"rgb": self.edit(photo(index), index), "depth": 2 * ones, "accumulation": ones}


class Left:
    """A region: the left half of each view but the last, of which nothing is known."""

    words = "the right half"

    def inside(self, index: int, camera: Cameras) -> Tensor | None:
        mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        mask[:, : WIDTH // 2] = True
        return None if index == 2 else mask


def judged(edit: Scene, source: Scene | None, region: Any) -> SceneScores:
    views: Any = SimpleNamespace(
        cameras=cameras(),
        full_size_camera=lambda index: cameras()[index : index + 1],
        full_size_image=photo,
    )
    make: Any = SceneJudge
    judge = make(views, edit, source, region)
    for index in range(3):
        seen = judge.see(index)
        assert torch.equal(seen.photo, photo(index).permute(2, 0, 1))
    return judge.scores()


def only_left(image: Tensor, index: int) -> Tensor:
    """Change the left half out of recognition."""
    return torch.cat([1 - image[:, : WIDTH // 2].flip(0), image[:, WIDTH // 2 :]], 1)


def test_a_scene_that_is_its_photos_is_perfect() -> None:
    scores = judged(Scene(), Scene(), NothingKnown())
    assert scores.outside_share == 1
    for state in (scores.edit, scores.reconstruction):
        assert state is not None
        assert state.psnr_to_photos == MOST_DECIBELS and state.perceptual_to_photos == 0
        assert state.sharpness_outside == 1 and math.isnan(state.sharpness_inside)
        assert state.view_difference < 1e-4
    assert scores.edit.psnr_to_reconstruction == MOST_DECIBELS and scores.edit.perceptual_to_reconstruction == 0


def test_an_edit_inside_its_mask_leaves_the_outside_perfect() -> None:
    outside, whole = (judged(Scene(only_left), Scene(), region) for region in (Left(), NothingKnown()))
    assert outside.edit.psnr_to_photos == outside.edit.psnr_to_reconstruction == MOST_DECIBELS
    assert outside.edit.perceptual_to_photos == 0 < whole.edit.perceptual_to_photos
    assert outside.edit.sharpness_outside == 1
    assert outside.outside_share == 0.5
    assert whole.edit.psnr_to_photos < 15


def test_a_brighter_scene_is_as_far_as_it_is_bright_and_as_sharp() -> None:
    scores = judged(Scene(lambda image, _: image + 0.1), Scene(lambda image, _: image - 0.01), Left())
    assert scores.edit.psnr_to_photos == pytest.approx(20, abs=1e-3)
    assert scores.edit.psnr_to_reconstruction == pytest.approx(-20 * math.log10(0.11), abs=1e-3)
    assert scores.reconstruction is not None
    assert scores.reconstruction.psnr_to_photos == pytest.approx(40, abs=1e-3)
    assert scores.edit.sharpness_outside == pytest.approx(1, abs=1e-4)


def test_of_a_scene_with_half_the_contrast_a_quarter_of_the_sharpness_is_left_where_it_is_so() -> None:
    def flatter_left(image: Tensor, index: int) -> Tensor:
        return torch.cat([0.4 + (image[:, : WIDTH // 2] - 0.4) / 2, image[:, WIDTH // 2 :]], 1)

    scores = judged(Scene(flatter_left), Scene(), Left())
    assert scores.edit.sharpness_inside == pytest.approx(0.25, abs=1e-4)
    assert scores.edit.sharpness_outside == pytest.approx(1, abs=1e-6)


def test_views_that_differ_by_a_brightness_each_disagree_by_it() -> None:
    scores = judged(Scene(lambda image, index: image + 0.06 * index), Scene(lambda image, i: image + 0.03 * i), Left())
    # Of three views, the middle one is compared with one beside it, the outer ones with each other.
    assert scores.edit.view_difference == pytest.approx((0.12 + 0.06 + 0.12) / 3, rel=1e-2)
    assert scores.view_difference_ratio == pytest.approx(2, rel=1e-2)


def test_without_a_reconstruction_it_is_left_out() -> None:
    scores = judged(Scene(), None, Left())
    assert scores.reconstruction is None
    assert math.isnan(scores.edit.psnr_to_reconstruction) and math.isnan(scores.view_difference_ratio)
    assert scores.edit.psnr_to_photos == MOST_DECIBELS


def test_the_neighbour_is_the_view_nearest_to_ten_degrees_beside() -> None:
    degrees = [0, 2, 9, 30, 180]
    directions = torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d)), 0.0] for d in degrees])
    scaled = directions * torch.tensor([1.0, 3, 2, 5, 1])[:, None]
    assert [neighbour_of(i, scaled) for i in range(5)] == [2, 2, 0, 2, 3]
    assert neighbour_of(0, directions[:1]) is None


def test_a_camera_with_a_lens_is_taken_as_a_pinhole_at_its_place() -> None:
    plain = cameras(1)
    assert pinhole(plain) is plain
    bent = cameras(1)
    bent.distortion_params = torch.tensor([[0.1, 0, 0, 0, 0, 0]])
    panorama = cameras(1)
    panorama.camera_type = torch.full_like(panorama.camera_type, CameraType.EQUIRECTANGULAR.value)
    for camera in (bent, panorama):
        without = pinhole(camera)
        assert torch.equal(without.camera_to_worlds, camera.camera_to_worlds)
        assert without.distortion_params is None and without.camera_type.item() == CameraType.PERSPECTIVE.value
    assert pinhole(bent).fx.item() == FOCAL
    assert pinhole(panorama).fx.item() == WIDTH / 2  # 90° across


def test_the_depth_of_a_nerf_is_a_distance_along_the_ray() -> None:
    camera = cameras(1)
    rays = camera.generate_rays(0)
    distance = (-2 / rays.directions[..., 2:]).reshape(HEIGHT, WIDTH, 1)

    class Nerf(Scene):
        kind = "nerf"

        def get_outputs_for_camera(self, camera: Cameras) -> dict[str, Tensor]:
            return super().get_outputs_for_camera(camera) | {"depth": distance}

    nerf: Any = Nerf()
    look = look_of(nerf, camera)
    torch.testing.assert_close(look.depth, torch.full((HEIGHT, WIDTH), 2.0))
    torch.testing.assert_close(look.points()[..., 2], torch.full((HEIGHT, WIDTH), -2.0))


def test_the_depth_of_a_splat_is_along_the_axis() -> None:
    place = torch.tensor([0.5, -0.25, -2.0])
    look = look_of(splat([place.tolist()]), cameras(1))
    x, y = int(WIDTH / 2 + FOCAL * 0.25), int(HEIGHT / 2 + FOCAL * 0.125)
    assert look.opacity[y, x] > 0.8
    assert look.depth[y, x].item() == pytest.approx(2, abs=1e-4)
    torch.testing.assert_close(look.points()[y, x], place, atol=2 / FOCAL, rtol=0)


def test_every_number_may_be_missing() -> None:
    assert all(math.isnan(value) for value in asdict(StateScores()).values())
