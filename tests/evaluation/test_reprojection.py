"""Views carried over to each other, on planes whose colours and depths are known."""

import math
from dataclasses import replace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.evaluation.reprojection import carried_over, view_difference
from pds_nerfstudio.scenes.models.look import Look

WIDTH, HEIGHT, FOCAL = 40, 30, 50.0
CENTER = (18.0, 16.0)


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> Tensor:
    """A camera at a place, turned about the vertical axis by some radians, which otherwise looks along −z."""
    c, s = math.cos(turn), math.sin(turn)
    return torch.tensor([[c, 0, s, x], [0, 1, 0, y], [-s, 0, c, z]])


def smooth(points: Tensor) -> Tensor:
    """Colours of points of the world that change little from one pixel to the next."""
    return 0.5 + 0.4 * torch.stack(
        [points[..., 0].sin(), points[..., 1].cos(), (points[..., 0] + points[..., 1]).sin()], -1
    )


def noisy(points: Tensor) -> Tensor:
    """Colours of points of the world that have nothing to do with each other from one pixel to the next."""
    x, y = (points[..., :2] * FOCAL / 2).floor().unbind(-1)
    return torch.stack([(x * a + y * b).sin() for a, b in ((12.9, 78.2), (39.3, 11.1), (73.1, 52.2))], -1) / 2 + 0.5


def wall(camera_to_world: Tensor, texture: object, at: float = -2.0) -> Look:
    """What a camera sees of the plane z = `at`, by ray and plane."""
    flat = Look(
        torch.zeros(HEIGHT, WIDTH, 3),
        torch.ones(HEIGHT, WIDTH),
        torch.ones(HEIGHT, WIDTH),
        camera_to_world,
        torch.tensor([FOCAL, FOCAL]),
        torch.tensor(CENTER),
    )
    origin = camera_to_world[:, 3]
    rays = flat.points() - origin
    depth = (at - origin[2]) / rays[..., 2]
    look = replace(flat, depth=depth)
    assert callable(texture)
    return replace(look, color=texture(look.points()))


def test_points_are_where_nerfstudio_s_rays_meet_them() -> None:
    camera_to_world = pose(0.3, -0.2, 0.5, turn=0.4)
    look = wall(camera_to_world, smooth)
    rays = Cameras(camera_to_world[None], FOCAL, FOCAL, *CENTER, WIDTH, HEIGHT).generate_rays(0)
    on_wall = rays.origins + rays.directions * ((-2 - rays.origins[..., 2:]) / rays.directions[..., 2:])
    torch.testing.assert_close(look.points(), on_wall, atol=1e-5, rtol=0)


def test_a_point_is_projected_to_the_pixel_that_shows_it() -> None:
    look = wall(pose(0.3, -0.2, 0.5, turn=0.4), smooth)
    at, depth = look.project(look.points())
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    torch.testing.assert_close(at, torch.stack([x, y], -1), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, look.depth)


def test_a_wall_seen_from_two_places_that_lie_whole_pixels_apart_agrees_in_all_detail() -> None:
    look, neighbour = (wall(pose(x, y), noisy) for x, y in ((0, 0), (6 * 2 / FOCAL, -4 * 2 / FOCAL)))
    colors, seen = carried_over(look, neighbour)
    assert seen.sum() == (WIDTH - 6) * (HEIGHT - 4)
    assert (colors - look.color)[seen].abs().max() < 1e-3
    assert view_difference(look, neighbour) < 1e-4
    assert (look.color - neighbour.color).abs().mean() > 0.1  # though the pictures differ


def test_a_wall_seen_from_the_side_agrees_up_to_interpolation() -> None:
    look, neighbour = wall(pose(), smooth), wall(pose(0.8, 0.1, 0.3, turn=0.3), smooth)
    _, seen = carried_over(look, neighbour)
    assert 0.3 < seen.float().mean() < 1
    assert view_difference(look, neighbour) < 1e-3


def test_a_colour_that_depends_on_the_view_is_measured_as_it_is() -> None:
    look, neighbour = wall(pose(), smooth), wall(pose(0.08), smooth)
    glossy = replace(neighbour, color=neighbour.color + 0.1)
    assert view_difference(look, glossy).item() == pytest.approx(0.1, abs=1e-3)


def test_what_is_hidden_from_the_neighbour_does_not_count() -> None:
    look, neighbour = (wall(pose(x), noisy) for x in (0, 6 * 2 / FOCAL))
    depth, color = neighbour.depth.clone(), neighbour.color.clone()
    depth[10:20, 10:20], color[10:20, 10:20] = 1.0, 0.0  # something before the wall
    _, seen = carried_over(look, replace(neighbour, depth=depth, color=color))
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[:, 6:] = True
    expected[10:20, 16:26] = False
    assert torch.equal(seen, expected)
    assert view_difference(look, replace(neighbour, depth=depth, color=color)) < 1e-4


@pytest.mark.parametrize("which", [0, 1])
def test_neither_does_what_one_looks_through(which: int) -> None:
    looks = [wall(pose(x), smooth) for x in (0, 6 * 2 / FOCAL)]
    looks[which] = replace(looks[which], opacity=torch.full((HEIGHT, WIDTH), 0.3))
    assert not carried_over(*looks)[1].any()
    assert view_difference(looks[0], looks[1]).isnan()


def test_only_pixels_that_are_asked_for_count() -> None:
    look, neighbour = wall(pose(), smooth), wall(pose(0.08), smooth)
    left = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    left[:, :20] = True
    wrong = look.color.clone()
    wrong[:, :20] += 0.25
    assert view_difference(replace(look, color=wrong), neighbour, ~left) < 1e-3
    assert view_difference(replace(look, color=wrong), neighbour, left).item() == pytest.approx(0.25, abs=1e-3)


def test_what_lies_behind_the_neighbour_is_not_seen() -> None:
    _, seen = carried_over(wall(pose(), smooth), wall(pose(turn=math.pi), smooth, at=2.0))
    assert not seen.any()
