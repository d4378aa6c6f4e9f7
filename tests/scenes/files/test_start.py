"""Runs that start from a splat of another tool, in a scene whose photos are renders of that very splat."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.scenes.files.formats import read_splats, write_splats
from pds_nerfstudio.scenes.files.placement import placement
from pds_nerfstudio.scenes.files.splats import Splats
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.trainer import EditTrainer
from pds_nerfstudio.splat_rasterizer.rasterizer import rasterization

APPLIED = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
"""What ns-process-data does to COLMAP's world, before it writes transforms.json."""


def world_splats() -> Splats:
    """A cloud of coloured Gaussians that look different from each side, where the cameras look, in COLMAP's world."""
    seed = torch.Generator().manual_seed(1)
    n = 300
    places = torch.randn(n, 3, generator=seed) * torch.tensor([0.7, 0.7, 0.5]) + torch.tensor([0, 0, 0.9])
    return Splats(
        means=places @ APPLIED,  # its own inverse
        scales=torch.randn(n, 3, generator=seed) * 0.4 - 1.7,
        quats=torch.randn(n, 4, generator=seed) * 2,
        opacities=torch.randn(n, generator=seed) + 2,
        base=torch.randn(n, 3, generator=seed),
        rest=0.3 * torch.randn(n, 15, 3, generator=seed),
    )


def photo(splats: Splats, pose: torch.Tensor, data: dict[str, Any]) -> torch.Tensor:
    """The splat before white, from a pose of transforms.json: drawn in the world, by nothing of nerfstudio's."""
    back = torch.eye(4)
    back[:3, :3] = APPLIED
    camera = back @ pose @ torch.diag(torch.tensor([1.0, -1, -1, 1]))  # from right, up, back to right, down, forward
    intrinsics = torch.tensor([[data["fl_x"], 0, data["cx"]], [0, data["fl_y"], data["cy"]], [0, 0, 1]])
    image, alpha, _ = rasterization(
        splats.means,
        splats.quats,
        splats.scales.exp(),
        splats.opacities.sigmoid(),
        torch.cat([splats.base[:, None], splats.rest], 1),
        torch.linalg.inv(camera)[None],
        intrinsics[None],
        data["w"],
        data["h"],
        sh_degree=3,
    )
    return (image + 1 - alpha)[0].clamp(0, 1)


def write_as_the_reference_code(path: Path, splats: Splats) -> Path:
    """Write what `save_ply` of Kerbl et al. writes of its tensors, which hold harmonics as (n, K, 3)."""
    n = len(splats)
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(45))]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    rest = splats.rest.transpose(1, 2).flatten(1)
    values = [
        splats.means,
        torch.zeros(n, 3),
        splats.base,
        rest,
        splats.opacities[:, None],
        splats.scales,
        splats.quats,
    ]
    elements = np.empty(n, dtype=[(name, "f4") for name in names])
    elements[:] = [tuple(row) for row in torch.cat(values, 1).tolist()]
    PlyData([PlyElement.describe(elements, "vertex")]).write(path)
    return path


@pytest.fixture(scope="module")
def splats() -> Splats:
    return world_splats()


@pytest.fixture
def data(own_scene: Path, splats: Splats) -> Path:
    """A data set of the splat's photos, with a transform between its world and transforms.json."""
    path = own_scene / "transforms.json"
    content = json.loads(path.read_text())
    del content["ply_file_path"]
    content["applied_transform"] = [[*row, 0.0] for row in APPLIED.tolist()]
    for frame in content["frames"]:
        image = photo(splats, torch.tensor(frame["transform_matrix"]), content)
        Image.fromarray((image * 255).round().byte().numpy()).save(own_scene / frame["file_path"])
    path.write_text(json.dumps(content))
    return own_scene


@pytest.fixture
def config(make_config: Any, data: Path) -> Callable[..., Any]:
    def make(ply: Path | None, name: str = "run", **options: Any) -> Any:
        white = {"pipeline__model__background_color": "white", "pipeline__model__strewn_gaussians": 0}
        places = {"data": data, "pipeline__datamanager__data": data}
        dataparser: Any = {
            "pipeline__datamanager__dataparser__load_3D_points": False,
            "pipeline__model__num_random": 50,
        }
        return make_config("splat", name, load_ply=ply, **places, **dataparser, **white, **options)

    return make


def likeness(trainer: EditTrainer) -> float:
    """Of the model to the photos, at full size, in dB."""
    pipeline = trainer.pipeline
    pipeline.eval()
    views = pipeline.views
    shown = [render(pipeline.model, views.full_size_camera(i)) for i in range(len(views))]
    return min(float(psnr(image, views.full_size_image(i))) for i, image in enumerate(shown))


class TestPlace:
    def test_a_splat_of_the_world_is_moved_with_its_cameras(
        self, config: Any, prepare: Any, splats: Splats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trainer = prepare(config(write_as_the_reference_code(tmp_path / "scene.ply", splats)))
        assert trainer.pipeline.model.config.sh_degree == 3
        assert likeness(trainer) > 48  # bytes have 59
        said = " ".join(capsys.readouterr().out.split())
        assert "300 Gaussians, harmonics of degree 3, in world coordinates" in said and "far from" not in said

    def test_a_splat_of_nerfstudio_stays_where_it_is(
        self, config: Any, prepare: Any, splats: Splats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        outputs = prepare(config(None)).pipeline.datamanager.train_dataset._dataparser_outputs
        moved = splats.moved(placement(outputs))
        assert abs(placement(outputs).size - 1) > 0.1
        model = prepare(config(write_splats(tmp_path / "scene.ply", moved, []))).pipeline.model
        assert "in scene coordinates" in " ".join(capsys.readouterr().out.split())
        assert torch.equal(model.means, moved.means) and torch.equal(model.features_rest, moved.rest)

    def test_a_wrong_place_can_be_asked_for_and_is_warned_of(
        self, config: Any, prepare: Any, splats: Splats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ply = write_as_the_reference_code(tmp_path / "scene.ply", splats)
        trainer = prepare(config(ply, ply_coordinates="scene"))
        assert torch.equal(trainer.pipeline.model.means, splats.means)
        assert "That is far from the views" in " ".join(capsys.readouterr().out.split())


class TestRun:
    def test_the_edit_begins_with_the_splat_in_its_full_colours(
        self, config: Any, run: Any, watch: Any, splats: Splats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        degrees = []

        def watched(**options: Any) -> Any:
            if "sh_degree" in options:  # in the splat's own colours
                degrees.append(options["sh_degree"])
            return rasterization(**options)

        monkeypatch.setattr("pds_nerfstudio.scenes.compat.rasterization", watched)
        trainer = run(config(write_as_the_reference_code(tmp_path / "scene.ply", splats)))
        assert watch.progress == pytest.approx([0, 0.5, 1])
        assert set(degrees) == {3}
        assert sorted(path.name for path in trainer.source_folder.iterdir()) == ["step-000002999.ckpt"]
        assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000003002.ckpt"]

    def test_what_comes_out_lies_where_the_file_lay(
        self, config: Any, run: Any, splats: Splats, tmp_path: Path
    ) -> None:
        ply = write_as_the_reference_code(tmp_path / "scene.ply", splats)
        rates = {"pipeline__lr_mult": 1e-9, "pipeline__model__edit_refine_every": 0}
        first = run(config(ply, show_edit=True, **rates))
        again = config(None, "again", show_edit=True, load_dir=first.source_folder, **rates)
        for trainer in first, run(again):  # a run that starts from another's source knows, too
            out = read_splats(trainer.base_dir / "splat.ply")
            torch.testing.assert_close(out.means, splats.means, atol=1e-4, rtol=0)
            torch.testing.assert_close(out.scales, splats.scales, atol=1e-4, rtol=0)
            torch.testing.assert_close(out.rest, splats.rest, atol=1e-4, rtol=0)

    def test_three_steps_change_it(self, config: Any, run: Any, splats: Splats, tmp_path: Path) -> None:
        ply = write_as_the_reference_code(tmp_path / "scene.ply", splats)
        out = read_splats(run(config(ply, show_edit=True)).base_dir / "splat.ply")
        assert len(out) > 250 and out.rest.shape[1] == 15
        assert (out.base[:250] - splats.base[:250]).abs().max() > 1e-3

    def test_it_repeats_resumes_and_is_a_source_to_the_bit(
        self, config: Any, run: Any, splats: Splats, last_state: Any, differences: Any, tmp_path: Path
    ) -> None:
        ply = write_as_the_reference_code(tmp_path / "scene.ply", splats)
        whole = run(config(ply, steps=4))
        wanted = last_state(whole)
        assert not differences(wanted, last_state(run(config(ply, "repeated", steps=4))))
        assert not differences(wanted, last_state(run(config(None, "kept", steps=4, load_dir=whole.source_folder))))
        half = config(ply, "half", steps=4)
        usual = EditTrainer.train_iteration
        with pytest.MonkeyPatch.context() as patch:

            def stopping(self: EditTrainer, step: int) -> Any:
                self.interrupted = step == 3001
                return usual(self, step)

            patch.setattr(EditTrainer, "train_iteration", stopping)
            stopped = run(half)
        assert [path.name for path in stopped.checkpoint_dir.iterdir()] == ["step-000003001.ckpt"]
        resumed = run(config(None, "resumed", steps=4, load_dir=stopped.checkpoint_dir))
        assert not differences(wanted, last_state(resumed))
        resumed.restore_source()
        assert torch.equal(resumed.pipeline.model.opacities[:, 0], splats.opacities)

    def test_of_degree_0_it_can_learn_colours(self, config: Any, run: Any, splats: Splats, tmp_path: Path) -> None:
        plain = dataclasses.replace(splats, rest=splats.rest[:, :0])
        trainer = run(config(write_splats(tmp_path / "scene.ply", plain, []), ply_coordinates="world"))
        assert trainer.pipeline.model.config.sh_degree == 1
        assert len(trainer.pipeline.model.features_rest[0]) == 3


class TestRefusals:
    def test_two_starts(self, config: Any, prepare: Any, splats: Splats, tmp_path: Path) -> None:
        ply = write_splats(tmp_path / "scene.ply", splats, [])
        for option in "load_dir", "load_checkpoint":
            with pytest.raises((UserError, SystemExit), match="not from both: leave out --load-ply"):
                prepare(config(ply, **{option: tmp_path}))

    def test_a_nerf(self, make_config: Any, prepare: Any, splats: Splats, tmp_path: Path) -> None:
        ply = write_splats(tmp_path / "scene.ply", splats, [])
        with pytest.raises((UserError, SystemExit), match="use pds-splat"):
            prepare(make_config("nerf", load_ply=ply))

    def test_no_such_file(self, config: Any, prepare: Any, tmp_path: Path) -> None:
        with pytest.raises((UserError, SystemExit), match=r"none\.ply: No such file"):
            prepare(config(tmp_path / "none.ply"))
