"""Outlines of regions: few nodes, corners where there are some, curves where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pds_nerfstudio.vector.edit.bezier_fit import fit_cubics
from pds_nerfstudio.vector.edit.trace import trace

SIDE, FINER = 96, 3
Shape = Callable[[Any, Any], Any]


def region(shape: Shape) -> np.ndarray[Any, Any]:
    """A shape's mask, three pixels to each."""
    y, x = (np.indices((SIDE * FINER, SIDE * FINER)) + 0.5) / FINER
    return np.asarray(shape(x, y))


def ball(x: Any, y: Any, radius: float = 30) -> Any:
    return np.hypot(x - 48, y - 48) < radius


SQUARE: Shape = lambda x, y: (abs(x - 48) < 20) & (abs(y - 48) < 30)  # noqa: E731
TURNED: Shape = lambda x, y: (abs((x - 48) * 0.8 + (y - 48) * 0.6) < 15) & (abs((y - 48) * 0.8 - (x - 48) * 0.6) < 30)  # noqa: E731
HAT: Shape = lambda x, y: ((abs(x - 48) < 15) & (abs(y - 40) < 20)) | ((abs(x - 48) < 25) & (abs(y - 63) < 3))  # noqa: E731
TRIANGLE: Shape = lambda x, y: (y > 20) & (y < 80) & (abs(x - 48) < (y - 20) / 2)  # noqa: E731


@pytest.mark.parametrize(("shape", "corners"), [(SQUARE, 4), (TURNED, 4), (HAT, 8), (TRIANGLE, 3)])
def test_corners_stay_corners_and_edges_straight(shape: Shape, corners: int) -> None:
    ((*outline,),) = trace(region(shape), 0.8, FINER).contours
    assert len(outline) == corners
    assert all(np.array_equal(c[0], c[1]) and np.array_equal(c[2], c[3]) for c in outline)
    assert all(np.array_equal(a[3], b[0]) for a, b in zip(outline, [*outline[1:], outline[0]], strict=True))


def test_a_corner_is_where_it_was() -> None:
    ((*outline,),) = trace(region(SQUARE), 0.8, FINER).contours
    found = sorted(tuple(np.round(c[0])) for c in outline)
    assert found == [(28, 18), (28, 78), (68, 18), (68, 78)]


@pytest.mark.parametrize("radius", [4.0, 12.0, 30.0])
def test_a_ball_is_round(radius: float) -> None:
    ((*outline,),) = trace(region(lambda x, y: ball(x, y, radius)), 0.4, FINER).contours
    assert 2 <= len(outline) <= 4
    t = np.linspace(0, 1, 20)[:, None]
    for a, b, c, d in outline:
        curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        assert np.abs(np.hypot(*(curve - 48).T) - radius).max() < 0.7


def test_a_hole_goes_round_the_other_way() -> None:
    outlines = trace(region(lambda x, y: ball(x, y) & ~ball(x, y, 15)), 0.8, FINER)
    areas = []
    for contour in outlines.contours:
        x, y = np.concatenate([c[:3] for c in contour]).T
        areas.append(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2))
    assert len(areas) == 2 and areas[0] * areas[1] < 0 and outlines.nodes <= 6


def test_what_is_too_small_has_no_outline() -> None:
    assert trace(region(lambda x, y: ball(x, y, 0.4)), 0.8, FINER).contours == ()
    assert trace(region(lambda x, y: x < 0), 0.8, FINER).contours == ()


def test_a_coarser_tolerance_takes_fewer_nodes() -> None:
    wavy = region(lambda x, y: np.hypot(x - 48, y - 48) < 28 + np.cos(9 * np.arctan2(y - 48, x - 48)))
    fine, coarse = (trace(wavy, tolerance, FINER, corners=False).nodes for tolerance in (0.4, 1.6))
    assert coarse < fine


def test_a_cubic_is_found_again() -> None:
    t = np.linspace(0, 1, 60)[:, None]
    a, b, c, d = np.array([[0, 0], [10, 30], [40, 35], [60, 5]], dtype=float)
    points = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    (found,) = fit_cubics(points, None, None, 0.5)
    assert np.abs(found - [a, b, c, d]).max() < 4
