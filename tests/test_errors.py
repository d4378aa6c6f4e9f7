"""What a mistake says."""

import pytest

from pds_nerfstudio.errors import UserError, first_line


def test_a_mistake_is_one_line_in_which_nothing_is_acted_on() -> None:
    assert (
        str(UserError("--data a\n\x1b[31mb holds no [red]transforms.json."))
        == "--data a b holds no [red]transforms.json."
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the file is cut off"), "the file is cut off"),
        (RuntimeError("\n  Weights don't fit:\n  a lot of them\n"), "Weights don't fit"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (KeyError(), "KeyError"),
        (RuntimeError(" \n "), "RuntimeError"),
    ],
)
def test_an_error_of_a_library_is_quoted_by_its_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
