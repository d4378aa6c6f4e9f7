"""What a refused start leaves."""

from pathlib import Path

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.signals import nothing_left_if_refused


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "man" / "pds-splat" / "now"
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text("config")
    return folder


def refuse(folder: Path, above: Path) -> None:
    with pytest.raises(UserError), nothing_left_if_refused(folder, above):
        raise UserError("No.")


def test_nothing_is_left(run_folder: Path, tmp_path: Path) -> None:
    refuse(run_folder, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_runs_stay(run_folder: Path, tmp_path: Path) -> None:
    other = run_folder.with_name("before")
    other.mkdir()
    refuse(run_folder, tmp_path)
    assert list(run_folder.parent.iterdir()) == [other]


def test_a_run_that_has_written_more_stays(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "splat.ply").touch()
    refuse(run_folder, tmp_path)
    assert {path.name for path in run_folder.iterdir()} == {"config.yml", "splat.ply"}


def test_all_that_a_start_writes_goes(run_folder: Path, tmp_path: Path) -> None:
    for name in ("again.sh", "events.out.tfevents.1", "viewer_log_filename.txt", "orbit/images/a.png"):
        (run_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run_folder / name).touch()
    with pytest.raises(OSError, match="full"), nothing_left_if_refused(run_folder, tmp_path):
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_mistake_of_the_user_leaves_all(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), nothing_left_if_refused(run_folder, tmp_path):
        raise RuntimeError
    assert (run_folder / "config.yml").exists()


def test_where_there_is_nothing_yet(tmp_path: Path) -> None:
    refuse(tmp_path / "outputs" / "man", tmp_path)
    assert list(tmp_path.iterdir()) == []
