import pytest

from pds_nerfstudio.vector.svg.basic_shapes import ShapeSource, fit_shape, read_shape
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.path_grammar import Outline

VIEW = Viewport(200, 100)
SHAPES = {
    "rect": {"x": "5", "y": "10%", "width": "50%", "height": "20"},
    "rounded": {"x": "1", "width": "10", "height": "8", "rx": "2", "ry": "9"},
    "circle": {"cx": "7", "cy": "8", "r": "3"},
    "ellipse": {"cx": "7", "cy": "8", "rx": "3"},
    "line": {"x1": "1", "y1": "2", "x2": "3", "y2": "4"},
}


def _shape(tag: str, attributes: dict[str, str]) -> ShapeSource:
    source = read_shape(tag, attributes.get, VIEW)
    assert source is not None
    return source


def _read(name: str) -> ShapeSource:
    return _shape("rect" if name == "rounded" else name, SHAPES[name])


def _box(outline: Outline) -> tuple[float, float, float, float]:
    xs, ys = zip(*outline.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.parametrize(
    ("name", "box", "segments"),
    [
        ("rect", (5, 10, 105, 30), 4),
        ("rounded", (1, 0, 11, 8), 8),
        ("circle", (4, 5, 10, 11), 4),
        ("ellipse", (4, 5, 10, 11), 4),
        ("line", (1, 2, 3, 4), 1),
    ],
)
def test_outlines(name: str, box: tuple[float, float, float, float], segments: int) -> None:
    source = _read(name)
    assert _box(source.outline) == pytest.approx(box)
    ((found, closed),) = source.outline.contours
    assert len(found) == segments and closed == (name != "line")


def test_points_lists() -> None:
    polygon = _shape("polygon", {"points": "0,0 4,0 4 4 9"}).outline
    assert len(polygon.points) == 3 and polygon.contours[0][1]
    polyline = _shape("polyline", {"points": "0,0 4,0 4 4"}).outline
    assert len(polyline.contours[0][0]) == 2 and not polyline.contours[0][1]


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("rect", {"width": "5"}),
        ("rect", {"width": "-5", "height": "5"}),
        ("circle", {}),
        ("ellipse", {"rx": "0", "ry": "3"}),
        ("path", {}),
        ("polygon", {"points": "1,1"}),
    ],
)
def test_what_draws_nothing(tag: str, attributes: dict[str, str]) -> None:
    assert read_shape(tag, attributes.get, VIEW) is None


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_that_was_moved_and_stretched_still_is_one(name: str) -> None:
    source = _read(name)
    stretch = 2 if name == "circle" else 3
    points = [(2 * x + 5, stretch * y - 1) for x, y in source.outline.points]
    numbers = fit_shape(source, points, 1e-6)
    expected = {
        "rect": {"x": 15, "y": 29, "width": 200, "height": 60, "rx": 0, "ry": 0},
        "rounded": {"x": 7, "y": -1, "width": 20, "height": 24, "rx": 4, "ry": 12},
        "circle": {"cx": 19, "cy": 15, "r": 6},
        "ellipse": {"cx": 19, "cy": 23, "rx": 6, "ry": 9},
        "line": {"x1": 7, "y1": 5, "x2": 11, "y2": 11},
    }[name]
    assert numbers == pytest.approx(expected)


@pytest.mark.parametrize("name", ["rect", "rounded", "circle", "ellipse"])
def test_a_shape_with_one_point_out_of_place_is_none(name: str) -> None:
    source = _read(name)
    points = list(source.outline.points)
    points[1] = (points[1][0] + 0.5, points[1][1] + 0.5)
    assert fit_shape(source, points, 0.1) is None
