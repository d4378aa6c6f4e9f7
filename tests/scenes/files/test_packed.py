"""SuperSplat's packed .ply and Niantic's .spz: what is left of a splat, and what others read in it."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.formats import read_splats, write_splats
from pds_nerfstudio.scenes.files.quantities import morton_order
from pds_nerfstudio.scenes.files.splats import Splats

ENDINGS = [".compressed.ply", ".spz"]


def covariances(splats: Splats) -> torch.Tensor:
    """What a Gaussian's rotation and scales are about: many rotations make the same of them."""
    w, x, y, z = F.normalize(splats.quats, dim=-1).unbind(-1)
    axes = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix = torch.stack([torch.stack(row, -1) for row in axes], -2) * splats.scales.exp()[:, None]
    return matrix @ matrix.mT


def assert_near(read: Splats, splats: Splats, ending: str) -> None:
    splats = splats[morton_order(splats.means)]  # neighbours lie together in packed files
    packed = ending == ".compressed.ply"
    steps = {  # half a step of each format, of numbers that span what random_splats makes
        "means": 3.5 / 1023 if packed else 0.5 / 4096,
        "scales": 4 / 1023 if packed else 0.5 / 16,
        "base": 7 / 255 if packed else 0.51 / 255 / 0.15,
        "rest": 8 / 256 if packed else 8.6 / 128,
    }
    for name, step in steps.items():
        torch.testing.assert_close(getattr(read, name), getattr(splats, name), atol=step, rtol=0)
    torch.testing.assert_close(read.opacities.sigmoid(), splats.opacities.sigmoid(), atol=0.51 / 255, rtol=0)
    ours, theirs = (covariances(replace(splats, quats=part.quats)) for part in (splats, read))
    assert ((ours - theirs).norm(dim=(1, 2)) / ours.norm(dim=(1, 2))).max() < 0.01


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_is_read_within_a_step(degree: int, ending: str, make_splats: Any, tmp_path: Path) -> None:
    splats = make_splats(600, degree)  # three chunks
    path = write_splats(tmp_path / f"a{ending}", splats, ["of a test"])
    assert_near(read_splats(path), splats, ending)
    assert path.stat().st_size < 0.45 * write_splats(tmp_path / "a.ply", splats, []).stat().st_size


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_no_rasteriser_draws_is_left_out(ending: str, make_splats: Any, tmp_path: Path) -> None:
    splats = make_splats()
    splats.opacities[:10] = -9
    splats.means[10] = torch.nan
    assert len(read_splats(write_splats(tmp_path / f"a{ending}", splats, []))) == 19
    splats.opacities[:] = -9
    with pytest.raises(UserError, match="would be empty"):
        write_splats(tmp_path / f"b{ending}", splats, [])


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_gaussian_is_a_splat_too(ending: str, make_splats: Any, tmp_path: Path) -> None:
    splats = make_splats(1)
    assert_near(read_splats(write_splats(tmp_path / f"a{ending}", splats, [])), splats, ending)


def test_a_spz_of_a_large_scene_has_coarser_positions(make_splats: Any, tmp_path: Path) -> None:
    splats = make_splats(degree=0)
    splats.means[0, 0] = 5000.0
    read = read_splats(write_splats(tmp_path / "a.spz", splats, []))
    torch.testing.assert_close(read.means, splats.means[morton_order(splats.means)], atol=0.5 / 1024, rtol=0)
    splats.means[0, 0] = 1e8
    with pytest.raises(UserError, match=r"write a \.ply"):
        write_splats(tmp_path / "b.spz", splats, [])


class TestSpzByHand:
    """A file put together byte by byte as its description says."""

    def file(self, path: Path, version: int, position: bytes, rotation: bytes, harmonics: bytes = b"") -> Path:
        degree = {0: 0, 9: 1}[len(harmonics)]
        header = struct.pack("<IIIBBBB", 0x5053474E, version, 1, degree, 8, 0, 0)
        body = position + bytes([255, 0, 128, 255, 112, 160, 176]) + rotation + harmonics
        path.write_bytes(gzip.compress(header + body))
        return path

    def test_version_3(self, tmp_path: Path) -> None:
        position = (256).to_bytes(3, "little") + (-512 & 0xFFFFFF).to_bytes(3, "little") + bytes(3)
        # w is the largest; x is +1/√2 · 511/511, y is 0, z is −0.
        rotation = (3 << 30 | 511 << 20 | 0 << 10 | 512).to_bytes(4, "little")
        harmonics = bytes([128, 160, 128, 128, 128, 128, 128, 128, 96])
        splats = read_splats(self.file(tmp_path / "a.spz", 3, position, rotation, harmonics))
        assert splats.means.tolist() == [[1, -2, 0]]
        a_quarter_around_x = torch.tensor([[0.5**0.5, 0.5**0.5, 0, 0]])
        torch.testing.assert_close(covariances(splats), covariances(replace(splats, quats=a_quarter_around_x)))
        assert splats.scales.tolist() == [[-3, 0, 1]]
        torch.testing.assert_close(splats.base, torch.tensor([[-0.5 / 0.15, (128 / 255 - 0.5) / 0.15, 0.5 / 0.15]]))
        assert splats.opacities.isfinite().all() and splats.opacities.sigmoid() > 0.99
        assert splats.rest[0].tolist() == [[0, 0.25, 0], [0, 0, 0], [0, 0, -0.25]]

    def test_version_2_has_rotations_in_three_bytes(self, tmp_path: Path) -> None:
        splats = read_splats(self.file(tmp_path / "a.spz", 2, bytes(9), bytes([128, 218, 218])))
        a_half = torch.tensor([[0, 0, 0.5**0.5, 0.5**0.5]])
        torch.testing.assert_close(covariances(splats), covariances(replace(splats, quats=a_half)), atol=0.05, rtol=0)

    def test_version_1_has_positions_in_half_precision(self, tmp_path: Path) -> None:
        position = np.array([1.5, -2, 0.25], "<f2").tobytes()
        splats = read_splats(self.file(tmp_path / "a.spz", 1, position, bytes([128, 128, 128])))
        assert splats.means.tolist() == [[1.5, -2, 0.25]]

    def test_version_4_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.spz").write_bytes(b"NGSP" + bytes(40))
        with pytest.raises(UserError, match="version 4, which is not read"):
            read_splats(tmp_path / "a.spz")

    def test_a_file_cut_short_is_refused(self, make_splats: Any, tmp_path: Path) -> None:
        whole = write_splats(tmp_path / "a.spz", make_splats(), []).read_bytes()
        for content in (whole[:-20], gzip.compress(gzip.decompress(whole)[:-5]), gzip.compress(b"something else")):
            (tmp_path / "b.spz").write_bytes(content)
            with pytest.raises(UserError, match=r"is no (whole )?\.spz file"):
                read_splats(tmp_path / "b.spz")


class TestOthersRead:
    """Two readers that this package does not need: pip install gsply gaussforge."""

    @pytest.mark.parametrize("ending", [".ply", *ENDINGS])
    @pytest.mark.parametrize("degree", [0, 3])
    def test_gsply_reads_the_same_splat(self, degree: int, ending: str, make_splats: Any, tmp_path: Path) -> None:
        gsply = pytest.importorskip("gsply", reason="gsply, an independent reader of splats, is not installed")
        splats = make_splats(600, degree)
        path = write_splats(tmp_path / f"a{ending}", splats, ["of a test"])
        data = (gsply.read_spz if ending == ".spz" else gsply.plyread)(path)
        theirs = Splats(
            means=torch.tensor(data.means),
            scales=torch.tensor(data.scales),
            quats=torch.tensor(data.quats),
            opacities=torch.tensor(data.opacities).flatten(),
            base=torch.tensor(data.sh0),
            rest=torch.zeros(600, 0, 3) if degree == 0 else torch.tensor(data.shN).reshape(600, -1, 3),
        )
        if ending == ".ply":
            assert all(torch.equal(values, getattr(theirs, name)) for name, values in vars(splats).items())
        else:
            assert_near(theirs, splats, ending)

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_gaussforge_makes_the_same_ply_of_it(self, ending: str, make_splats: Any, tmp_path: Path) -> None:
        """It reads .spz by the format's own library."""
        gaussforge = pytest.importorskip("gaussforge", reason="gaussforge, an independent reader, is not installed")
        splats = make_splats(600)
        path = write_splats(tmp_path / f"a{ending}", splats, [])
        made = gaussforge.GaussForge().convert(path.read_bytes(), ending[1:], "ply")
        (tmp_path / "b.ply").write_bytes(made["data"])
        assert_near(read_splats(tmp_path / "b.ply"), splats, ending)


def test_neighbours_in_the_list_are_neighbours_in_space() -> None:
    corners = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    cluster = torch.cat([corners * 10, corners * 10 + 0.1])[torch.randperm(16)]
    ordered_points = cluster[morton_order(cluster)]
    assert all((a - b).norm() < 0.2 for a, b in zip(ordered_points[::2], ordered_points[1::2], strict=True))
