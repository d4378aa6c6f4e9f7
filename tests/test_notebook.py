"""The notebook runs as it is committed, and is committed without what a run leaves."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook after a run in a kernel and a folder of its own."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    return NotebookClient(notebook, timeout=None, resources={"metadata": {"path": folder}}).execute()


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_it_shows_a_picture_for_each_edit_and_no_warning(executed: nbformat.NotebookNode) -> None:
    pictures = [output for output in outputs(executed) if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert [output.text for output in outputs(executed) if output.get("name") == "stderr"] == []


def test_both_edits_come_nearer_to_the_true_one(executed: nbformat.NotebookNode) -> None:
    text = "".join(output.text for output in outputs(executed) if output.output_type == "stream")
    scores = {name: float(score) for name, score in re.findall(r"^(\S.*?) +([\d.]+) dB$", text, re.MULTILINE)}
    assert list(scores) == ["no edit", "ten lines", "pds-image"]
    assert scores["ten lines"] > scores["no edit"] + 2
    assert scores["pds-image"] > scores["no edit"] + 2


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
