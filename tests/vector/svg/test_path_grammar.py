import itertools
import math

import pytest

from pds_nerfstudio.vector.svg.path_grammar import Point, arc_to_cubics, format_path, parse_path


def _ends(text: str) -> tuple[list[tuple[list[Point], bool]], bool]:
    """Return the end points of all segments, contour by contour, and whether each is closed."""
    outline, complete = parse_path(text)
    points = outline.points
    return [([points[s[0][0]]] + [points[k[3]] for k in s], closed) for s, closed in outline.contours], complete


@pytest.mark.parametrize(
    ("text", "ends", "closed"),
    [
        ("M1 2L3 4", [(1, 2), (3, 4)], False),
        ("m1,2 3,4 5,6", [(1, 2), (4, 6), (9, 12)], False),
        ("M1 2H5V7h-1v-1z", [(1, 2), (5, 2), (5, 7), (4, 7), (4, 6), (1, 2)], True),
        ("M0 0L10 0 10 10 0 0Z", [(0, 0), (10, 0), (10, 10), (0, 0)], True),
        ("M.5.5-1-1e0", [(0.5, 0.5), (-1, -1)], False),
        ("M0 0c1 1 2 2 3 3s1 1 2 2", [(0, 0), (3, 3), (5, 5)], False),
        ("M0 0a1 1 0 0110 10", None, False),
    ],
)
def test_commands(text: str, ends: list[Point] | None, closed: bool) -> None:
    (contour,), complete = _ends(text)
    assert complete and contour[1] == closed
    if ends is None:
        assert contour[0][-1] == pytest.approx((10, 10))
    else:
        assert sum(contour[0], ()) == pytest.approx(sum(ends, ()))


def test_a_line_has_no_controls_and_a_closed_contour_ends_where_it_starts() -> None:
    outline, _ = parse_path("M0 0L4 0 4 4zm1 1l1 0")
    assert outline.contours[0] == ([(0, 0, 1, 1), (1, 1, 2, 2), (2, 2, 0, 0)], True)
    assert outline.points[outline.contours[1][0][0][0]] == (1, 1)
    assert len(outline.points) == 5


def test_a_command_after_closing_starts_at_the_closed_point() -> None:
    contours, _ = _ends("M1 1L4 1 4 4zL9 9")
    assert contours[1] == ([(1, 1), (9, 9)], False)


def test_smooth_controls_mirror_only_those_of_their_kind() -> None:
    def controls(text: str) -> list[tuple[float, ...]]:
        outline, _ = parse_path(text)
        return [(*outline.points[s[1]], *outline.points[s[2]]) for s in outline.contours[0][0]]

    assert controls("M0 0C1 2 3 4 5 5S8 8 9 9")[1] == (7, 6, 8, 8)
    assert controls("M0 0Q1 2 3 3S8 8 9 9")[1] == (3, 3, 8, 8)
    quadratic = controls("M0 0Q3 6 6 0T12 0")
    assert quadratic[0] == pytest.approx((2, 4, 4, 4)) and quadratic[1] == pytest.approx((8, -4, 10, -4))
    assert controls("M0 0L6 0T12 3")[1] == pytest.approx((6, 0, 8, 1))


@pytest.mark.parametrize(("large", "sweep"), [(False, False), (False, True), (True, False), (True, True)])
def test_arcs_lie_on_their_ellipse(large: bool, sweep: bool) -> None:
    cubics = arc_to_cubics((3, 1), 5, 3, 30, large, sweep, (6, 4))
    assert cubics[-1][2] == (6, 4)
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    start, inside = (3.0, 1.0), []
    for first, second, end in cubics:
        for t in (0, 0.25, 0.5, 0.75, 1):
            u = 1 - t
            x, y = (
                u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d
                for a, b, c, d in zip(start, first, second, end, strict=True)
            )
            inside.append(((cos * x + sin * y) / 5, (cos * y - sin * x) / 3))
        start = end
    # on a unit circle the chord between two points gives the centre; every point is at distance 1 from it
    (u0, v0), (u1, v1) = inside[0], inside[-1]
    half = math.hypot(u1 - u0, v1 - v0) / 2
    height = math.sqrt(1 - half * half) * (1 if large != sweep else -1)
    centre = (
        (u0 + u1) / 2 - height * (v1 - v0) / (2 * half),
        (v0 + v1) / 2 + height * (u1 - u0) / (2 * half),
    )
    turned = [math.atan2(v - centre[1], u - centre[0]) for u, v in inside]
    assert all(math.hypot(u - centre[0], v - centre[1]) == pytest.approx(1, abs=4e-4) for u, v in inside)
    angle = sum((b - a + math.pi) % (2 * math.pi) - math.pi for a, b in itertools.pairwise(turned))
    assert (abs(angle) > math.pi) == large and (angle > 0) == sweep


def test_degenerate_arcs() -> None:
    assert arc_to_cubics((1, 1), 5, 5, 0, True, True, (1, 1)) == []
    assert arc_to_cubics((1, 1), 0, 5, 0, True, True, (2, 2)) == [((1, 1), (2, 2), (2, 2))]
    # radii that are too small grow until the ends lie opposite
    assert arc_to_cubics((0, 0), 1, 1, 0, False, True, (10, 0))[0][2] == pytest.approx((5, -5))


@pytest.mark.parametrize(
    "text", ["L1 1", "M0 0L1 1zz 5", "M0 0L1 1 2", "M0 0L1 1X", "M0 0L1 1L1e99 3", "M0 0L1 1a1 1 0 2 0 3 3"]
)
def test_errors_keep_what_came_before(text: str) -> None:
    contours, complete = _ends(text)
    assert not complete
    assert all(ends[:2] == [(0, 0), (1, 1)] for ends, _ in contours)


def test_format_writes_what_it_read() -> None:
    text = "M0 0L10 0C10 5 5.5 10 0 10ZM3 3L4 4.25"
    outline, _ = parse_path(text)
    assert format_path(outline.points, outline.contours, 3) == text


def test_coordinates_stay_within_bounds() -> None:
    outline, _ = parse_path("M0 0" + "l9e8 -9e8" * 3 + "a1e-320 1 0 0 1 5 5")
    assert all(abs(c) <= 1e9 for point in outline.points for c in point)
