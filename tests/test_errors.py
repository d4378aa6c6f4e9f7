"""What a mistake says."""

from types import SimpleNamespace

import pytest

from pds_nerfstudio.checks import at_least, check_parts
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


def test_fields_are_named_as_the_reader_knows_them() -> None:
    draft = SimpleNamespace(check=lambda: at_least(SimpleNamespace(refine_steps=0), 1, "refine_steps"))
    edit = SimpleNamespace(check=lambda: check_parts(SimpleNamespace(draft=draft), "draft"))
    with pytest.raises(UserError) as found:
        check_parts(SimpleNamespace(edit=edit), "edit")
    assert str(found.value) == "edit.draft.refine_steps is 0: give at least 1."
    assert found.value.on_command_line() == "--edit.draft.refine-steps is 0: give at least 1."
    of_text = UserError("a `b c` d: `x_y` and `z`")
    assert (str(of_text), of_text.on_command_line()) == ("a `b c` d: x_y and z", "a `b c` d: --x-y and --z")
