import pytest

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.svg.transforms import parse_transform


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
        ("translate(1,1) , scale(3)", (4, 7)),
        ("translate(1,1) wobble(3)", (1, 2)),
        ("rotate(1,2)", (1, 2)),
        ("translate(1e300,0)", (1, 2)),
    ],
)
def test_transforms(text: str, point: tuple[float, float]) -> None:
    assert affine.apply(parse_transform(text), 1, 2) == pytest.approx(point)
