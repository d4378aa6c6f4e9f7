import pytest

from pds_nerfstudio.vector.svg.color import parse_color


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        # by the matrices of CSS Color 4; what sRGB lacks is cut off
        ("color(display-p3 0.8824 0 0.5961)", (246, 0, 155)),
        ("color(display-p3 50% .5 0.5)", (128, 128, 128)),
        ("color(srgb 1 none .2)", (255, 0, 51)),
        ("color(srgb-linear .2140 1 0)", (128, 255, 0)),
        ("oklch(62.796% .25768 29.234deg)", (255, 0, 0)),
        ("oklab(.86644 -.233888 .179498)", (0, 255, 0)),
        ("OKLCH(100% 0 none)", (255, 255, 255)),
    ],
)
def test_colours_beyond_srgb(text: str, levels: tuple[int, int, int]) -> None:
    color = parse_color(text)
    assert color is not None and color[3] == 1
    assert [255 * c for c in color[:3]] == pytest.approx(levels, abs=0.6)


def test_their_alpha() -> None:
    assert parse_color("color(srgb 1 0 0 / 40%)") == pytest.approx((1, 0, 0, 0.4))


@pytest.mark.parametrize(
    "text", ["color(srgb 1 0)", "color(no 1 0 0)", "color()", "oklch(1 x 0)", "oklab(1 0 0", "lab(1 2 3)"]
)
def test_what_is_no_such_colour(text: str) -> None:
    assert parse_color(text) is None
