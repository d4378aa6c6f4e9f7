"""No module writes a file under its final name: each goes through `whole_files`.

Read from the source: what is written by a name such as `path.write_text` or `image.save(path)` must be written to what
`whole_file` or `whole_folder` has given, which is called `unfinished` everywhere.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRITES = {"write_text", "write_bytes", "save", "savefig", "save_image", "writestr"}
MODES = set("wax+")

ALLOWED = {
    "page.py": "`jpeg` writes into memory",
    "whole_files.py": "it is what all others use",
    "evaluation/scene_edits.py": "a log, which is read while it grows",
    "evaluation/by_words.py": "a folder for the time of a call",
    "scenes/files/ply.py": "its callers give it an unfinished file",
    "scenes/files/spz.py": "its callers give it an unfinished file",
    "personalization/results.py": "`save` of a LoRA is whole by itself",
}


def is_open_to_write(call: ast.Call, name: str) -> bool:
    if name != "open":
        return False
    mode = call.args[0 if isinstance(call.func, ast.Attribute) else 1 :][:1]
    return bool(mode) and isinstance(mode[0], ast.Constant) and bool(MODES & set(str(mode[0].value)))


def direct_writes(path: Path) -> Iterator[int]:
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if not (name in WRITES or is_open_to_write(call, name)) or not (call.args or call.keywords):
            continue
        imported = isinstance(call.func, ast.Name) and name in ("write_text", "write_bytes")
        if not imported and "unfinished" not in ast.unparse(call):
            yield call.lineno


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pds_nerfstudio").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_is_written_under_its_final_name(path: Path) -> None:
    if str(path.relative_to(ROOT / "pds_nerfstudio")) not in ALLOWED:
        assert list(direct_writes(path)) == []
