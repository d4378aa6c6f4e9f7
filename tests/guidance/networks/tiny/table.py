"""Prints what happens with models of every kind, in Markdown: python -m tests.guidance.networks.tiny.table."""

import contextlib
import json
import sys
import tempfile
import traceback
from pathlib import Path

from tests.guidance.networks.tiny import KINDS, build
from tests.guidance.networks.tiny.attempt import attempt


def pipeline_class(folder: Path) -> str:
    """Return what the index of a model calls its pipeline, or a dash if there is no index."""
    indices = sorted(folder.rglob("model_index.json"))
    return json.loads(indices[0].read_text(encoding="utf-8"))["_class_name"] if indices else "–"


def outcome(folder: Path, outputs: Path) -> str:
    """Return in one line what happens with a model that was built in a folder."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # progress bars
            done = attempt(folder, outputs)
    except Exception as error:  # a defect, and the table has a line for it
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).splitlines() or [""]
        return f"**{type(error).__name__}** {text[0]} ({Path(last.filename).name}, line {last.lineno})"
    if done.refusal is not None:
        return "refused: " + done.refusal.replace(str(folder), "MODEL").replace("|", "\\|")
    return "runs" if done.runs else f"**ran**, with gradients {done.gradients} and {done.share_changed:.0%} changed"


def main(kinds: list[str]) -> None:
    """Print a line for each kind."""
    print("| kind | pipeline | what happens |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as parent:
        for kind in kinds or KINDS:
            folder = build(kind, Path(parent) / kind)
            print(f"| {kind} | {pipeline_class(folder)} | {outcome(folder, folder / 'outputs')} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
