import pytest

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.transforms import parse_origin, parse_transform, read_transform

VIEW = Viewport(100, 50, 10)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("translate(3)", (4, 2)),
        ("translate(3 4)", (4, 6)),
        ("scale(2)", (2, 4)),
        ("scale(2,-1)", (2, -2)),
        ("rotate(90)", (-2, 1)),
        ("rotate(90, 1, 1)", (0, 1)),
        ("skewX(45)", (3, 2)),
        ("skewY(45)", (1, 3)),
        ("matrix(1 2 3 4 5 6)", (12, 16)),
        ("translate(3-4)", (4, -2)),
        ("matrix(1 0 0-1 10.5.5)", (11.5, -1.5)),
        ("translate(10px, 50%)", (11, 27)),
        ("translateX(1em) translateY(2)", (11, 4)),
        ("rotate(.25turn)", (-2, 1)),
        ("rotate(100grad)scaleX(3)", (-2, 3)),
        ("skew(45deg, 0)", (3, 2)),
        ("skewY(-90)", (1, 2 - 1e9)),
        ("SCALE(50%)", (0.5, 1)),
        ("none", (1, 2)),
        ("translate(1,1) , scale(3)", (4, 7)),
        ("translate(1,1) wobble(3)", (1, 2)),
        ("rotate(1,2)", (1, 2)),
        ("translate(1e300,0)", (1, 2)),
    ],
)
def test_transforms(text: str, point: tuple[float, float]) -> None:
    assert affine.apply(parse_transform(text, VIEW), 1, 2) == pytest.approx(point)


@pytest.mark.parametrize(
    "text", ["turn(3)", "scale(2) x", "rotate(1,2)", "translate(1furlong)", "rotate3d(1,1,1,9deg)"]
)
def test_what_is_no_transform_is_known(text: str) -> None:
    assert read_transform(text) is None


@pytest.mark.parametrize(
    ("text", "point"),
    [
        (None, (0, 0)),
        ("60 30", (60, 30)),
        ("center", (50, 25)),
        ("TOP", (50, 0)),
        ("bottom right", (100, 50)),
        ("1em 10%", (10, 5)),
        ("25% bottom 3px", (25, 50)),
        ("left left", None),
        ("1 2 3 4", None),
        ("somewhere", None),
    ],
)
def test_origins(text: str | None, point: tuple[float, float] | None) -> None:
    assert parse_origin(text, VIEW) == point
