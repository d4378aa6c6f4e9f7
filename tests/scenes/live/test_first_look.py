"""What a browser shows first."""

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser.transforms as vtf
from nerfstudio.cameras.cameras import Cameras, CameraType

from pds_nerfstudio.scenes.live.first_look import distance_of_photo, field_of_view, look_from


def camera(kind: CameraType = CameraType.PERSPECTIVE) -> Cameras:
    pose = torch.eye(4)[:3]
    pose[:, 3] = torch.tensor([1.0, 2.0, 3.0])
    return Cameras(pose[None], fx=50.0, fy=50.0, cx=40.0, cy=30.0, width=80, height=60, camera_type=kind)


@pytest.mark.parametrize("aspect", [0.3, 1.0, 4 / 3, 3.0])
def test_a_picture_of_any_shape_shows_all_that_the_camera_sees(aspect: float) -> None:
    half = math.tan(field_of_view(camera(), aspect) / 2)
    assert half >= 0.6 - 1e-9 and half * aspect >= 0.8 - 1e-9  # half its height and width, at a distance of one
    assert half == pytest.approx(0.6) or half * aspect == pytest.approx(0.8)


@pytest.mark.parametrize("kind", [CameraType.PERSPECTIVE, CameraType.EQUIRECTANGULAR])
def test_it_looks_from_the_camera_along_its_axis(kind: CameraType) -> None:
    browser: Any = SimpleNamespace(camera=SimpleNamespace(aspect=1.0, fov=0.7), atomic=nullcontext)
    look_from(browser, camera(kind)[0], scale=0.2)
    assert browser.camera.position == pytest.approx([10, 20, 30 - 1.1 * distance_of_photo(camera()[0], 0.2)])
    ahead = vtf.SO3(np.array(browser.camera.wxyz)).as_matrix()[:, 2]
    assert ahead == pytest.approx([0, 0, -1], abs=1e-6)
    assert (browser.camera.fov == 0.7) == (kind is not CameraType.PERSPECTIVE)


def test_a_photo_hangs_where_viser_draws_it() -> None:
    at = distance_of_photo(camera()[0], scale=0.2)
    high, wide = 0.8 * at, 0.8 * at * 40 / 30
    assert high * wide * at / 3 == pytest.approx(0.2**3)
    narrow = camera()[0]
    narrow.fx = narrow.fx * 10
    assert distance_of_photo(narrow, scale=0.2) > 4 * at
