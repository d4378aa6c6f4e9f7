import math

import pytest
import torch

from pds_nerfstudio.vector.paint import (
    interpolate_stops,
    linear_parameter,
    radial_parameter,
    spread_parameter,
)


def _points(*pairs):
    return torch.tensor(pairs, dtype=torch.float64)[None]


def test_linear_parameter_runs_from_start_to_end():
    geometry = torch.tensor([1.0, 1, 5, 4, 0, 0], dtype=torch.float64)
    t = linear_parameter(_points((1, 1), (5, 4), (3, 2.5), (3 - 3, 2.5 + 4)), geometry)
    torch.testing.assert_close(t, torch.tensor([[0, 1, 0.5, 0.5]], dtype=torch.float64))
    assert (linear_parameter(_points((0, 0)), torch.zeros(6)) == 1).all()


def test_radial_parameter_of_concentric_circles():
    geometry = torch.tensor([3.0, 4, 10, 3, 4, 2], dtype=torch.float64)
    t = radial_parameter(
        _points((3 + 2, 4), (3, 4 + 10), (3 + 6 * math.sqrt(0.5), 4 + 6 * math.sqrt(0.5))), geometry
    )
    torch.testing.assert_close(t, torch.tensor([[0, 1, 0.5]], dtype=torch.float64))


def test_radial_parameter_puts_every_point_on_its_circle():
    """|p − (f + t (c − f))| = fr + t (r − fr)."""
    geometry = torch.tensor([3.0, 4, 10, 6, 1, 2], dtype=torch.float64)
    points = torch.rand(8, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 40 - 15
    t = radial_parameter(points, geometry)
    centre = geometry[3:5] + t[..., None] * (geometry[:2] - geometry[3:5])
    torch.testing.assert_close((points - centre).norm(dim=-1), (2 + t * 8).abs())


def test_a_focus_outside_of_the_circle_is_moved_into_it():
    far, edge = (torch.tensor([0.0, 0, 1, x, 0, 0], dtype=torch.float64) for x in (7, 0.998))
    points = _points((0.3, 0.2), (-2, 0.1))
    torch.testing.assert_close(radial_parameter(points, far), radial_parameter(points, edge))


@pytest.mark.parametrize(
    "spread, expected",
    [
        ("pad", [-0.75, 0.5, 1.25, 2.5]),
        ("repeat", [0.25, 0.5, 0.25, 0.5]),
        ("reflect", [0.75, 0.5, 0.75, 0.5]),
    ],
)
def test_spread(spread, expected):
    t = torch.tensor([-0.75, 0.5, 1.25, 2.5])
    torch.testing.assert_close(spread_parameter(t, spread), torch.tensor(expected))


def test_stops_interpolate_and_pad():
    offsets = torch.tensor([0.2, 0.5, 0.5, 0.3])
    values = torch.tensor([[0.0], [1.0], [2.0], [4.0]])
    t = torch.tensor([[-1, 0.2, 0.35, 0.499999, 0.5, 2]])
    found = interpolate_stops(t, offsets, values)[0, 0]
    torch.testing.assert_close(found, torch.tensor([0, 0, 0.5, 1, 4, 4]), atol=1e-5, rtol=0)
