import pytest

from pds_nerfstudio.vector.raster.affine import apply
from pds_nerfstudio.vector.svg.viewbox import fit_view_box, parse_view_box


def test_view_boxes() -> None:
    assert parse_view_box("1, 2 3 4") == (1, 2, 3, 4)
    for text in (None, "", "1 2 3", "0 0 0 5", "0 0 5 -1"):
        assert parse_view_box(text) is None


@pytest.mark.parametrize(
    ("preserve", "corner", "opposite"),
    [
        (None, (50, 0), (150, 100)),
        ("xMinYMin meet", (0, 0), (100, 100)),
        ("xMaxYMid", (100, 0), (200, 100)),
        ("xMidYMid slice", (0, -50), (200, 150)),
        ("xMidYMax slice", (0, -100), (200, 100)),
        ("none", (0, 0), (200, 100)),
    ],
)
def test_fit(preserve: str | None, corner: tuple[float, float], opposite: tuple[float, float]) -> None:
    matrix = fit_view_box((10, 10, 20, 20), 200, 100, preserve)
    assert apply(matrix, 10, 10) == pytest.approx(corner)
    assert apply(matrix, 30, 30) == pytest.approx(opposite)
