"""Rays of views beside nerfstudio's, lens by lens."""

from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle

from pds_nerfstudio.scenes.models.view_rays import ViewRays

BENT = torch.tensor([0.1, -0.05, 0.01, 0.002, 0.003, -0.004])


def poses(n: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(n, 3, 3, generator=rng))
    return torch.cat([turned, torch.randn(n, 3, 1, generator=rng)], dim=-1)


def cameras(n: int = 3, **others: Any) -> Cameras:
    lens: dict[str, Any] = {"fx": 30.0, "fy": 31.0, "cx": 12.5, "cy": 8.0, "width": 24, "height": 17, **others}
    return Cameras(camera_to_worlds=lens.pop("poses", poses(n)), **lens)


def assert_as_nerfstudio_has_them(all_cameras: Cameras, views: ViewRays) -> None:
    for index in range(len(all_cameras)):
        camera = all_cameras[index : index + 1]
        camera.metadata = {**(camera.metadata or {}), "cam_idx": index}
        ours, theirs = views(camera, index), camera.generate_rays(camera_indices=0, keep_shape=True)
        assert ours.shape == theirs.shape
        for name in ("origins", "directions", "pixel_area", "camera_indices"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.times, theirs.times)
        assert ours.metadata.keys() == theirs.metadata.keys() and ours.metadata["cam_idx"] == index
        torch.testing.assert_close(ours.metadata["directions_norm"], theirs.metadata["directions_norm"])


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"distortion_params": BENT},
        {"camera_type": CameraType.FISHEYE, "distortion_params": BENT},
        {"camera_type": CameraType.EQUIRECTANGULAR},
        {"camera_type": CameraType.ORTHOPHOTO},
        {"fx": torch.tensor([[30.0], [32.0], [30.0]])},
        {"times": torch.tensor([[0.0], [0.5], [1.0]])},
        {"poses": 2 * poses(3)},
        {"poses": poses(3) + 0.2},
    ],
    ids=["plain", "bent", "fisheye", "sphere", "from above", "two lenses", "times", "scaled", "sheared"],
)
def test_they_are_nerfstudios(others: dict[str, Any]) -> None:
    views = ViewRays()
    for _ in range(2):
        assert_as_nerfstudio_has_them(cameras(**others), views)


def test_a_lens_is_asked_once_however_many_views_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    usual = Cameras.generate_rays

    def counted(*args: Any, **options: Any) -> RayBundle:
        asked.append(1)
        return usual(*args, **options)

    monkeypatch.setattr(Cameras, "generate_rays", counted)
    views, several = ViewRays(), cameras(5)
    for index in [*range(5), *range(5)]:
        views(several[index : index + 1], index)
    assert len(asked) == 1


def test_rays_of_few_lenses_are_kept_and_those_of_many_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    lenses, views = cameras(9, fx=torch.linspace(20, 40, 9)[:, None]), ViewRays()
    for _ in range(2):
        assert_as_nerfstudio_has_them(lenses, views)
    assert len(views._rays) == 4


def test_half_precision_around_it_changes_nothing() -> None:
    camera = cameras(1)
    with torch.autocast("cpu", torch.bfloat16):
        rays = ViewRays()(camera, 0)
    assert torch.equal(rays.directions, ViewRays()(camera, 0).directions)
