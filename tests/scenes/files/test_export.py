"""pds-export, on runs and on files."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.export import Export, main, run
from pds_nerfstudio.scenes.files.formats import read_splats, write_splats
from pds_nerfstudio.scenes.files.placement import placement
from pds_nerfstudio.scenes.files.splats import Splats


def assert_same(a: Splats, b: Splats, atol: float = 0.0) -> None:
    for name, values in vars(a).items():
        torch.testing.assert_close(getattr(b, name), values, atol=atol, rtol=0)


@pytest.fixture
def folder(finished: Any, tmp_path: Path) -> Path:
    """A copy of a run's folder, as if it were on another machine without the data."""
    return Path(shutil.copytree(finished("splat").base_dir, tmp_path / "run"))


def test_a_runs_splat_is_that_of_its_results(folder: Path, tmp_path: Path) -> None:
    path = run(Export(tmp_path / "out" / "a.ply", folder / "config.yml"))
    assert_same(read_splats(folder / "splat.ply"), read_splats(path))


def test_the_world_is_where_the_data_lie(finished: Any, folder: Path, tmp_path: Path) -> None:
    path = run(Export(tmp_path / "a.ply", folder / "config.yml", coordinates="world"))
    move = placement(finished("splat").pipeline.views.outputs)
    assert_same(read_splats(folder / "splat.ply"), read_splats(path).moved(move), 1e-5)
    assert (read_splats(path).means - read_splats(folder / "splat.ply").means).abs().max() > 0.1


def test_a_run_of_splatfacto_without_harmonics(plain_run: Any, tmp_path: Path) -> None:
    """Its colours are sigmoids: grey is 0 there, and in the file."""
    models = plain_run("splat", sh_degree=0)
    checkpoint = next(models.glob("*.ckpt"))
    state = torch.load(checkpoint, weights_only=True)
    state["pipeline"]["_model.gauss_params.features_dc"][:] = torch.tensor([0.0, 30, -30])
    torch.save(state, checkpoint)
    read = read_splats(run(Export(tmp_path / "a.ply", models.parent / "config.yml")))
    c0 = 0.28209479177387814
    torch.testing.assert_close(read.base[0], torch.tensor([0, 0.5 / c0, -0.5 / c0]))


def test_a_file_becomes_another(make_splats: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    write_splats(tmp_path / "a.ply", make_splats(600), [])
    for ending in ".compressed.ply", ".spz", ".ply":
        out = tmp_path / f"b{ending}"
        monkeypatch.setattr("sys.argv", ["pds-export", "--load-ply", f"{tmp_path}/a.ply", "--out", str(out)])
        main()
        assert f"Wrote {out} (0." in capsys.readouterr().out
        assert len(read_splats(out)) == 600
    assert_same(make_splats(600), read_splats(tmp_path / "b.ply"))


class TestRefusals:
    def refused(self, export: Export) -> str:
        with pytest.raises(UserError) as caught:
            run(export)
        return str(caught.value)

    def test_nothing_and_too_much(self, tmp_path: Path) -> None:
        assert "nothing to export" in self.refused(Export(tmp_path / "a.ply"))
        assert "leave out one" in self.refused(Export(tmp_path / "a.ply", tmp_path / "config.yml", tmp_path / "b.ply"))
        assert "no such file" in self.refused(Export(tmp_path / "a.ply", tmp_path / "config.yml"))

    def test_a_nerf(self, plain_run: Any, tmp_path: Path) -> None:
        config = plain_run("nerf").parent / "config.yml"
        assert "holds no splat" in self.refused(Export(tmp_path / "a.ply", config))

    def test_a_world_that_is_not_known(self, folder: Path, tmp_path: Path) -> None:
        (folder / "dataparser_transforms.json").unlink()
        said = self.refused(Export(tmp_path / "a.ply", folder / "config.yml", coordinates="world"))
        assert "give --coordinates scene" in said

    def test_on_the_command_line_it_is_one_line(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr("sys.argv", ["pds-export", "--out", str(tmp_path / "a.ply")])
        with pytest.raises(SystemExit, match=r"^Error: There is nothing to export"):
            main()
