"""What dependencies warn of each other is left out; everything else, and what the user asks for, is not."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pds_nerfstudio.quiet import quiet_commands, quiet_dependencies

THEIRS = "`torch.cuda.amp.GradScaler(args...)` is deprecated. Use another."


@pytest.fixture(autouse=True)
def _form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the form of warnings put back after each test."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)


def warn_of_everything() -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        quiet_commands()
        warnings.warn(THEIRS, FutureWarning, stacklevel=1)
        warnings.warn("This DataLoader will create 4 worker processes in total.", UserWarning, stacklevel=1)
        warnings.warn("Something of the user's own", UserWarning, stacklevel=1)
        warnings.warn("`ours` is deprecated", FutureWarning, stacklevel=1)
    return [str(warning.message) for warning in caught]


OWN_SCRIPT = str(Path(__file__).parents[1] / "scripts" / "demo.py")


@pytest.mark.parametrize("command", ["/some/bin/ns-train", "pds-image", "/some/bin/pds-eval", OWN_SCRIPT])
def test_only_the_listed_warnings_are_left_out(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    assert warn_of_everything() == ["Something of the user's own", "`ours` is deprecated"]


@pytest.mark.parametrize("argv", [["/some/where/scripts/my_script.py"], ["-c"], [""], []])
def test_other_programs_keep_their_warnings(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert len(warn_of_everything()) == 4


def test_what_the_user_asks_for_holds() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.filterwarnings("always", category=FutureWarning)
        quiet_dependencies()
        warnings.warn(THEIRS, FutureWarning, stacklevel=1)
    assert len(caught) == 1


def test_torch_calls_it_when_a_command_imports_torch() -> None:
    """That is before nerfstudio, which warns while it imports itself, is imported."""
    program = f"import sys, warnings; sys.argv = ['ns-train']; import torch; warnings.warn({THEIRS!r}, FutureWarning)"
    quiet = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    asked = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True)
    assert THEIRS in asked.stderr


@pytest.mark.parametrize(
    ("command", "shown"), [("pds-svg", "Warning: a.svg: kept\n"), ("own.py", "a.py:3: UserWarning: ")]
)
def test_what_is_for_users_has_no_line_of_python(command: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [command])
    with warnings.catch_warnings():
        quiet_commands()
    assert warnings.formatwarning("a.svg: kept", UserWarning, "a.py", 3).startswith(shown)
    assert warnings.formatwarning("old", FutureWarning, "a.py", 3).startswith("a.py:3: FutureWarning: old")
