import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.paint import (
    cone_cover,
    gradient_colors,
    linear_parameter,
    radial_parameter,
    spread_parameter,
)
from tests.vector.conftest import Check


def _points(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.float64)[None]


def test_linear_parameter_runs_from_start_to_end() -> None:
    geometry = torch.tensor([1.0, 1, 5, 4, 0, 0], dtype=torch.float64)
    t = linear_parameter(_points((1, 1), (5, 4), (3, 2.5), (3 - 3, 2.5 + 4)), geometry)
    torch.testing.assert_close(t, torch.tensor([[0, 1, 0.5, 0.5]], dtype=torch.float64))
    assert (linear_parameter(_points((0, 0)), torch.zeros(6)) == 1).all()


def test_radial_parameter_of_concentric_circles() -> None:
    geometry = torch.tensor([3.0, 4, 10, 3, 4, 2], dtype=torch.float64)
    t = radial_parameter(_points((3 + 2, 4), (3, 4 + 10), (3 + 6 * math.sqrt(0.5), 4 + 6 * math.sqrt(0.5))), geometry)
    torch.testing.assert_close(t, torch.tensor([[0, 1, 0.5]], dtype=torch.float64))


def test_radial_parameter_puts_every_point_on_its_circle() -> None:
    """|p − (f + t (c − f))| = fr + t (r − fr)."""
    geometry = torch.tensor([3.0, 4, 10, 6, 1, 2], dtype=torch.float64)
    points = torch.rand(8, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 40 - 15
    t = radial_parameter(points, geometry)
    centre = geometry[3:5] + t[..., None] * (geometry[:2] - geometry[3:5])
    torch.testing.assert_close((points - centre).norm(dim=-1), (2 + t * 8).abs())


def test_a_focus_on_the_circle_is_moved_into_it() -> None:
    on, edge = (torch.tensor([0.0, 0, 1, x, 0, 0], dtype=torch.float64) for x in (1.001, 0.998))
    points = _points((0.3, 0.2), (-2, 0.1))
    torch.testing.assert_close(radial_parameter(points, on), radial_parameter(points, edge))


@pytest.mark.parametrize("radii", [(1.0, 0.0), (1.0, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_a_focus_outside_of_the_circle_makes_a_cone(radii: tuple[float, float]) -> None:
    """Whatever lies on some circle between the two, or beyond them, is painted with the last of those circles."""
    geometry = torch.tensor([0.0, 0, radii[0], 4, 1, radii[1]], dtype=torch.float64)
    points = torch.rand(8, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8 - 3
    t, cover = radial_parameter(points, geometry), cone_cover(points, geometry)
    steps = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    radius = radii[1] + steps * (radii[0] - radii[1])
    centre = geometry[3:5] + steps[:, None] * (geometry[:2] - geometry[3:5])
    for point, found, painted in zip(points.reshape(-1, 2), t.flatten(), cover.flatten(), strict=True):
        outside = (point - centre).norm(dim=1) - radius
        crossings = steps[1:][(outside[1:] * outside[:-1] <= 0) & (radius[1:] >= 0)]
        assert bool(painted) == bool(len(crossings))
        if len(crossings):
            assert float(found) == pytest.approx(float(crossings.max()), abs=2e-3)
    assert 0 < cover.mean() < 1


@pytest.mark.parametrize(
    ("spread", "expected"),
    [
        ("pad", [-0.75, 0.5, 1.25, 2.5]),
        ("repeat", [0.25, 0.5, 0.25, 0.5]),
        ("reflect", [0.75, 0.5, 0.75, 0.5]),
    ],
)
def test_spread(spread: str, expected: list[float]) -> None:
    t = torch.tensor([-0.75, 0.5, 1.25, 2.5])
    torch.testing.assert_close(spread_parameter(t, spread), torch.tensor(expected))


def _ramp(n: int, low: float, high: float) -> Tensor:
    """Return a parameter that grows along x, the same in each row."""
    return torch.linspace(low, high, n, dtype=torch.float64).expand(3, n)


def test_stops_interpolate_and_pad() -> None:
    offsets = torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    values = torch.tensor([[0.0], [1.0], [2.0], [4.0]], dtype=torch.float64)
    t = torch.tensor([[-1, 0.2, 0.35, 0.5, 0.6, 2]], dtype=torch.float64)
    found = gradient_colors(t, "pad", offsets, values)[0, 0]
    torch.testing.assert_close(found, torch.tensor([0, 0, 0.5, 1, 1.5, 4], dtype=torch.float64))


def test_a_sharp_stop_is_as_smooth_as_an_edge() -> None:
    """A pixel that a jump divides gets the share of each side."""
    offsets = torch.tensor([0.5, 0.5], dtype=torch.float64)
    values = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found = gradient_colors(_ramp(11, 0.02, 1.02), "pad", offsets, values)[0, 1]
    expected = torch.tensor([0] * 5 + [0.7] + [1] * 5, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    backwards = gradient_colors(_ramp(11, 0.02, 1.02), "pad", torch.tensor([0.5, 0.3]).double(), values)
    torch.testing.assert_close(backwards[0, 1], expected)


def test_the_seam_of_a_repeated_gradient_is_smooth() -> None:
    offsets = torch.tensor([0.0, 1.0], dtype=torch.float64)
    values = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found = gradient_colors(_ramp(21, 0.02, 2.02), "repeat", offsets, values)[0, 1]
    torch.testing.assert_close(found[[3, 9, 11]], torch.tensor([0.32, 0.92, 0.12], dtype=torch.float64))
    torch.testing.assert_close(found[[10, 20]], torch.tensor([0.3, 0.3], dtype=torch.float64))


@pytest.mark.parametrize("spread", ["pad", "reflect", "repeat"])
def test_gradient_by_geometry_stops_and_colours(spread: str, gradient_error: Check) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 12, 13, generator=generator, dtype=torch.float64)
    step = torch.arange(13, dtype=torch.float64) + 0.5
    points = torch.stack(torch.meshgrid(step, step[:12], indexing="xy"), -1)
    values = torch.rand(4, 2, generator=generator, dtype=torch.float64)
    offsets = torch.tensor([0.1, 0.4, 0.41, 0.8], dtype=torch.float64)
    for parameter, geometry in (
        (linear_parameter, torch.tensor([2.1, 3.2, 8.3, 6.4, 0, 0])),
        (radial_parameter, torch.tensor([6.1, 5.2, 5.3, 7.4, 6.5, 0.7])),
    ):

        def loss(g: Tensor, o: Tensor, v: Tensor, parameter: Callable[[Tensor, Tensor], Tensor] = parameter) -> Tensor:
            return (gradient_colors(parameter(points, g), spread, o, v) * weight).sum()

        geometry = geometry.double()
        assert gradient_error(partial(loss, o=offsets, v=values), geometry) < 1e-5
        assert gradient_error(partial(loss, geometry, v=values), offsets) < 1e-5
        assert gradient_error(partial(loss, geometry, offsets), values) < 1e-7
