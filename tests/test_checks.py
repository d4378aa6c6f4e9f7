"""What a configuration is told about a field out of its range."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from pds_nerfstudio.checks import at_least, finite, known, require, share
from pds_nerfstudio.errors import UserError


def _verdict(check: Callable[[SimpleNamespace], None], value: object) -> str:
    """What a check of the field `x` says about a value; nothing if it may be given."""
    try:
        check(SimpleNamespace(x=value))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("check", "good", "bad", "says"),
    [
        (lambda config: at_least(config, 1, "x"), [1, 7], [0, -1], "at least 1"),
        (lambda config: at_least(config, 0, "x"), [0, 7], [-1], "0 or more"),
        (lambda config: at_least(config, 1, "x", give="a number of steps"), [1], [0], "a number of steps"),
        (lambda config: finite(config, "x"), [0, 0.5, 9e9], [-1e-9, math.inf, math.nan], "a finite number from 0 up"),
        (lambda config: finite(config, "x", above=True), [1e-9, 9e9], [0.0, -1, math.inf], "a finite number above 0"),
        (lambda config: share(config, "x"), [0, 0.5, 1], [-0.1, 1.1, math.nan], "a share between 0 and 1"),
        (lambda config: share(config, "x", above=True), [0.1, 1], [0, 1.1, -1], "a share above 0, up to 1"),
        (lambda config: share(config, "x", below=True), [0, 0.9], [1, 1.1, -1], "a share from 0 to below 1"),
        (lambda config: share(config, "x", above=True, below=True), [0.5], [0, 1], "a share above 0 and below 1"),
        (lambda config: share(config, "x", of="the light"), [0, 1], [2], "a share of the light between 0 and 1"),
        (lambda config: share(config, "x", give="a part of it"), [0, 1], [2], "a part of it"),
        (lambda config: require(config, ["x"], lambda x: x != 3, "anything else"), [2, 4], [3], "anything else"),
    ],
)
def test_a_number_out_of_range_is_refused(
    check: Callable[[SimpleNamespace], None], good: list[float], bad: list[float], says: str
) -> None:
    assert [_verdict(check, value) for value in good] == [""] * len(good)
    assert [_verdict(check, value) for value in bad] == [f"x is {value}: give {says}." for value in bad]


def test_the_first_wrong_field_is_named_as_its_option_is_called() -> None:
    with pytest.raises(UserError, match=r"^refinement\.second is 0: give at least 1\.$"):
        at_least(SimpleNamespace(first=1, second=0, third=-1), 1, "first", "second", "third", prefix="refinement.")


def test_a_word_that_is_no_choice_is_refused_with_the_choices() -> None:
    assert _verdict(lambda config: known(config, "x", ("red", "green")), "green") == ""
    assert (
        _verdict(lambda config: known(config, "x", ("red", "green")), "blue")
        == "There is no x 'blue': choose red, green."
    )
    assert _verdict(lambda config: known(config, "x", {"red": 1, "green": 2}, " or "), "blue") == (
        "There is no x 'blue': choose red or green."
    )
