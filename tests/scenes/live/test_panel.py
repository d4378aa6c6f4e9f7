"""What the panel shows of what people wrote."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pds_nerfstudio.guidance.objectives import OBJECTIVES
from pds_nerfstudio.scenes.live.fields import add_settings, objectives
from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import EditSession
from pds_nerfstudio.scenes.run import SETTINGS, Status

STRING = re.compile(r'\{"((?:[^\W_]| |\\u\{[0-9a-f]+\})*)"\}')
"""A string of JavaScript that ends nowhere but at its end, whatever it holds."""


def as_shown(mdx: str) -> str:
    """Put the texts of strings in the places where MDX shows them, and marks around them."""

    def text(string: re.Match[str]) -> str:
        return "«" + re.sub(r"\\u\{([0-9a-f]+)\}", lambda code: chr(int(code[1], 16)), string[1]) + "»"

    return STRING.sub(text, mdx)


def panel(session: EditSession) -> Any:
    scene: Any = SimpleNamespace(model=None)
    made: Any = EditPanel(scene, session)
    made._folder, made._method = Path("runs/a {b}_<c>"), "pds-nerf-toyworld"
    return made


@pytest.mark.parametrize(
    "written",
    [
        "a fox",
        "a <b>fox</b> <script>alert(1)</script>",
        "{alert(1)} ${x}",
        '"}{alert(1)}{"',
        "\\",
        "**a** _b_ `c` ~~d~~ # e",
        "![x](/etc/passwd) [y](javascript:alert(1)) www.x.example a@x.example https://x.example",
        "&lt; &#60;",
        "狐狸 👨‍🎨 é",
    ],
)
def test_a_prompt_is_shown_as_it_stands(written: str) -> None:
    session = EditSession({"src_prompt": "", "tgt_prompt": written})
    session.live, session.status = True, Status("editing", edit_step=1, edit_steps=4, message=written)
    status = as_shown(panel(session)._status_text())
    assert status == f"*«»* → **«{written}»**\n\nEditing: edit step 1 of 4\n\n**«{written}»**"


def test_a_prompt_is_no_line_of_its_own() -> None:
    session = EditSession({"src_prompt": "a\n\nimport 'https://x.example/x.js'\n\n", "tgt_prompt": "\x1b[31mb"})
    session.live, session.status = True, Status("paused", edit_steps=4)
    status = as_shown(panel(session)._status_text())
    assert status == "*«a import 'https://x.example/x.js'»* → **«b»**\n\nPaused: edit step 0 of 4"


def test_an_objective_with_options_of_its_own_is_offered_beside_the_others() -> None:
    assert objectives("pds") == tuple(OBJECTIVES)
    assert objectives("dreamcatalyst,delta=0.05") == (*OBJECTIVES, "dreamcatalyst,delta=0.05")


def test_every_setting_has_a_hint() -> None:
    hints: list[str] = []

    class Gui:
        def __getattr__(self, name: str) -> Any:
            return lambda label, *_, hint="", **__: hints.append(hint)

    gui: Any = Gui()
    fields = add_settings(gui, dict.fromkeys(SETTINGS, 0))
    named = {"t_min", "t_max"} | fields.keys() - {"t_range"}
    assert named == {*SETTINGS} - {"src_prompt", "tgt_prompt", "only", "steps_left"}
    assert len(hints) == len(fields) and all(hints)


def test_so_is_the_command_to_go_on_with() -> None:
    status = as_shown(panel(EditSession({"src_prompt": "a", "tgt_prompt": "b"}))._status_text())
    checkpoints = Path("runs/a {b}_<c>/nerfstudio_models").resolve()
    assert status.endswith(f"To go on: «ns-train pds-nerf-toyworld --load-dir {checkpoints}»")


def test_or_that_of_the_run_itself(tmp_path: Path) -> None:
    made = panel(EditSession({"src_prompt": "a", "tgt_prompt": "b"}))
    made._folder = tmp_path
    (tmp_path / "again.sh").touch()
    assert f"To go on: «sh {tmp_path}/again.sh --load-dir {tmp_path}/nerfstudio_models" in as_shown(made._status_text())
