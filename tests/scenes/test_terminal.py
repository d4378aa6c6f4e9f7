"""Lines in the terminal."""

import io

import pytest
from rich.console import Console

from pds_nerfstudio.scenes import terminal
from pds_nerfstudio.scenes.terminal import say

WRITTEN = (
    "[red]a[/] [/nothing] :cat: [link=http://x]b\\[bold] 'c' 1.5\n\x1b[2J\x1b]0;title\x07 d\r\x9b31me " + "f" * 300
)
SHOWN = "[red]a[/] [/nothing] :cat: [link=http://x]b\\[bold] 'c' 1.5 d e " + "f" * 300


def test_what_is_written_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say(WRITTEN, before="  of it  ")
    assert capsys.readouterr().out == f"  of it  {SHOWN}\n"


def test_on_a_terminal_only_the_style_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "CONSOLE", Console(file=screen, force_terminal=True, color_system="standard"))
    say(WRITTEN, "yellow")
    assert screen.getvalue() == f"\x1b[33m{SHOWN}\x1b[0m\n"
