import pytest
from PIL import ImageColor

from pds_nerfstudio.vector.svg.color import NAMED, format_color, parse_color


def test_the_names_are_those_of_css() -> None:
    assert len(NAMED) == 148
    for name in ImageColor.colormap:
        assert bytes.fromhex(NAMED[name]) == bytes(ImageColor.getrgb(name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#f80", (255, 136, 0, 1)),
        ("#F808", (255, 136, 0, 136 / 255)),
        ("#ff8800", (255, 136, 0, 1)),
        ("#ff880033", (255, 136, 0, 0.2)),
        (" RED ", (255, 0, 0, 1)),
        ("transparent", (0, 0, 0, 0)),
        ("rgb(255, 136, 0)", (255, 136, 0, 1)),
        ("rgb(100% 50% 0% / 25%)", (255, 127.5, 0, 0.25)),
        ("rgba(300,-5,10.5,.5)", (255, 0, 10.5, 0.5)),
        ("hsl(120, 100%, 25%)", (0, 127.5, 0, 1)),
        ("hsla(0.5turn 100% 50% / 0.5)", (0, 255, 255, 0.5)),
        ("hsl(-120deg, 100%, 50%)", (0, 0, 255, 1)),
        ("hwb(0 20% 40%)", (153, 51, 51, 1)),
        ("hwb(0 80% 80%)", (127.5, 127.5, 127.5, 1)),
    ],
)
def test_colours(text: str, expected: tuple[float, ...]) -> None:
    found = parse_color(text)
    assert found is not None
    assert [c * 255 for c in found[:3]] + [found[3]] == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "#12", "#ggg", "rgb(1,2)", "rgb(1,2,x)", "none", "currentColor", "hsl(50%,1%,1%)"]
)
def test_what_is_no_colour(text: str) -> None:
    assert parse_color(text) is None


def test_format() -> None:
    assert format_color(1, 0.5, -3) == "#ff8000"
    assert format_color(0, 0, 1, 0.25) == "rgba(0, 0, 255, 0.25)"
    assert parse_color(format_color(0.2, 0.4, 0.6, 0.5)) == pytest.approx((0.2, 0.4, 0.6, 0.5))
