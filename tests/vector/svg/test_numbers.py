import pytest

from pds_nerfstudio.vector.svg.numbers import (
    Viewport,
    format_number,
    is_list,
    parse_length,
    parse_number,
    parse_numbers,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3),
        ("1e2px", 100),
        ("72pt", 96),
        ("1in", 96),
        ("2.54cm", 96),
        ("25.4mm", 96),
        ("6pc", 96),
        ("50%", 100),
        ("2em", 32),
        ("2ex", 16),
        ("-.5", -0.5),
    ],
)
def test_lengths(text: str, expected: float) -> None:
    assert parse_length(text, 200) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", None, "auto", "1 2", "1e400", "nan", "3furlongs"])
def test_what_is_no_length(text: str | None) -> None:
    assert parse_length(text, 1) is None


def test_numbers_stop_at_the_first_that_is_none() -> None:
    assert parse_numbers(" 1,2  3e1 , x 4") == [1, 2, 30]
    assert parse_numbers("1 2px 3") == [1] and is_list("1,2 -3.5.5") and not is_list("1 2px 3")
    assert parse_number("1e10") is None and parse_number("-1.5") == -1.5


def test_signs_and_second_points_separate_numbers() -> None:
    assert parse_numbers("20-5+.5.5 60.5-3.5-1e-1-2") == [20, -5, 0.5, 0.5, 60.5, -3.5, -0.1, -2]


def test_em_are_of_the_font() -> None:
    view = Viewport(100, 50, 10, 20)
    lengths = [view.length(text, view.width) for text in ("2em", "2REM", "2ex", "1Q", "5%")]
    assert lengths == pytest.approx([20, 40, 10, 96 / 101.6, 5])


def test_the_diagonal_is_a_mean() -> None:
    assert Viewport(30, 40).diagonal == pytest.approx(50 / 2**0.5)


def test_format() -> None:
    assert [format_number(v, 3) for v in (1.0, -0.0001, 2.5004, 10, 1 / 3)] == [
        "1",
        "0",
        "2.5",
        "10",
        "0.333",
    ]
