"""Text of people, made safe to show."""

import pytest

from pds_nerfstudio.one_line import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  a  fox\r\n\tin a hat ", "a fox in a hat"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07 and \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "and link"),
        ("\x9b31mred \x1bcreset \x1b", "red reset"),
        ("a\x00b\x07c\x7fd\x85e", "abcd e"),
        ("in\u202everse\u2066", "inverse"),
        ("caf\udce9", "caf�"),
        ("狐狸 👨‍🎨 é <b> {x} $y", "狐狸 👨‍🎨 é <b> {x} $y"),
        ("", ""),
    ],
)
def test_what_would_be_acted_on_goes(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_long_text_is_cut_and_says_so() -> None:
    assert one_line("a fox in a hat", 14) == "a fox in a hat"
    assert one_line("a fox in a hat", 7) == "a fox…"
    assert one_line("a fox", 1) == "…"
