"""Reading .ply files as they come from other tools."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.formats import read_splats, write_splats
from pds_nerfstudio.scenes.files.splats import Splats

C0 = 0.28209479177387814


def assert_same(a: Splats, b: Splats, **tolerance: Any) -> None:
    for name, values in vars(a).items():
        torch.testing.assert_close(getattr(b, name), values, **tolerance)


def write(path: Path, columns: dict[str, np.ndarray], order: str = "<", text: bool = False) -> Path:
    kinds: Any = [(name, column.dtype.newbyteorder(order).str) for name, column in columns.items()]
    vertices = np.rec.fromarrays(list(columns.values()), dtype=kinds)
    PlyData([PlyElement.describe(vertices, "vertex")], text=text, byte_order=order).write(path)
    return path


def arrays(splats: Splats) -> dict[str, np.ndarray]:
    return {name: column.numpy() for name, column in splats.columns().items()}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("order", "text"), [("<", False), (">", False), ("<", True)])
def test_every_degree_and_byte_order_is_read(
    degree: int, order: str, text: bool, make_splats: Any, tmp_path: Path
) -> None:
    splats = make_splats(degree=degree)
    assert_same(splats, read_splats(write(tmp_path / "a.ply", arrays(splats), order, text)), atol=1e-6, rtol=1e-5)


def test_harmonics_lie_channel_after_channel(make_splats: Any, tmp_path: Path) -> None:
    columns = arrays(make_splats(degree=1))
    for i in range(9):
        columns[f"f_rest_{i}"] = np.full(30, float(i), np.float32)
    rest = read_splats(write(tmp_path / "a.ply", columns)).rest
    torch.testing.assert_close(rest[0], torch.tensor([[0.0, 3, 6], [1, 4, 7], [2, 5, 8]]))


def test_the_order_of_properties_and_others_between_them_do_not_matter(make_splats: Any, tmp_path: Path) -> None:
    splats = make_splats(degree=3)
    columns = {name: column for name, column in reversed(arrays(splats).items()) if name not in ("nx", "ny", "nz")}
    columns = {"segment": np.arange(30, dtype=np.int32), **columns, "filter": np.ones(30)}
    assert_same(splats, read_splats(write(tmp_path / "a.ply", columns)), rtol=0, atol=0)


def test_what_this_package_writes_is_read_to_the_bit(make_splats: Any, tmp_path: Path) -> None:
    splats = make_splats()
    assert_same(splats, read_splats(write_splats(tmp_path / "new" / "a.ply", splats, ["of a test"])), rtol=0, atol=0)


def test_harmonics_of_degree_4_are_cut(make_splats: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splats = make_splats(degree=4)
    read = read_splats(write(tmp_path / "a.ply", arrays(splats)))
    assert torch.equal(read.rest, splats.rest[:, :15])
    assert "degree 4" in capsys.readouterr().out


def test_colours_may_be_red_green_and_blue(make_splats: Any, tmp_path: Path) -> None:
    columns = {name: column for name, column in arrays(make_splats(degree=0)).items() if not name.startswith("f_dc")}
    for name, value in ("red", 0), ("green", 51), ("blue", 255):
        columns[name] = np.full(30, value, np.uint8)
    splats = read_splats(write(tmp_path / "a.ply", columns))
    torch.testing.assert_close(splats.base[0] * C0 + 0.5, torch.tensor([0.0, 0.2, 1.0]))


def test_numbers_without_meaning_are_mended_or_left_out(
    make_splats: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = arrays(make_splats(degree=0))
    columns["x"][3] = np.nan
    columns["opacity"][4], columns["opacity"][5] = np.inf, -np.inf
    columns["scale_1"][6] = -np.inf
    for i in range(4):
        columns[f"rot_{i}"][7] = 0
    splats = read_splats(write(tmp_path / "a.ply", columns))
    assert len(splats) == 29 and splats.whole.all()
    assert splats.opacities[3].sigmoid() > 0.99 and splats.opacities[4].sigmoid() < 0.01
    assert splats.scales[5, 1].exp() < 1e-8
    assert splats.quats[6].tolist() == [1, 0, 0, 0]
    assert "1 of 30 Gaussians are not finite" in capsys.readouterr().out


class TestRefusals:
    def refused(self, path: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_splats(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        return str(caught.value)

    def test_a_cloud_of_points(self, tmp_path: Path) -> None:
        columns = {name: np.zeros(4, np.float32) for name in "xyz"}
        columns |= {name: np.zeros(4, np.uint8) for name in ("red", "green", "blue")}
        said = self.refused(write(tmp_path / "points.ply", columns))
        assert "a cloud of points" in said and "ply_file_path" in said

    def test_a_splat_of_discs(self, make_splats: Any, tmp_path: Path) -> None:
        columns = {name: column for name, column in arrays(make_splats()).items() if name != "scale_2"}
        assert "lack scale_2" in self.refused(write(tmp_path / "a.ply", columns))

    def test_harmonics_of_no_degree(self, make_splats: Any, tmp_path: Path) -> None:
        columns = {name: column for name, column in arrays(make_splats()).items() if name != "f_rest_44"}
        assert "44 properties f_rest" in self.refused(write(tmp_path / "a.ply", columns))

    def test_a_file_cut_short(self, make_splats: Any, tmp_path: Path) -> None:
        path = write(tmp_path / "a.ply", arrays(make_splats()))
        path.write_bytes(path.read_bytes()[:-50])
        assert "was it cut short?" in self.refused(path)

    @pytest.mark.parametrize("content", [b"", b"glTF....", b"ply\nnonsense\n", b"ply\n\xff\xfe\n"])
    def test_something_else(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "a.ply"
        path.write_bytes(content)
        self.refused(path)

    def test_nothing(self, tmp_path: Path) -> None:
        assert "No such file" in self.refused(tmp_path / "a.ply")
        assert "Is a directory" in self.refused(tmp_path)

    def test_no_vertices(self, make_splats: Any, tmp_path: Path) -> None:
        empty = {name: column[:0] for name, column in arrays(make_splats()).items()}
        assert "holds no Gaussian" in self.refused(write(tmp_path / "a.ply", empty))
        faces = np.zeros(1, [("a", "<i4")])
        PlyData([PlyElement.describe(faces, "face")]).write(tmp_path / "b.ply")
        assert "holds no vertices" in self.refused(tmp_path / "b.ply")


def test_a_name_of_another_kind_is_refused(make_splats: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.ply, \.compressed\.ply or \.spz"):
        write_splats(tmp_path / "a.splat", make_splats(), [])
