"""What a finished edit leaves: that the data set is one, and the pictures are of the edit."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image
from torch import Tensor

from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.output.results import before_and_after, turntable, write_dataset

KINDS = ["splat", "nerf"]


def read(folder: Path) -> DataparserOutputs:
    return NerfstudioDataParserConfig(data=folder, eval_mode="all").setup().get_dataparser_outputs("train")


def original_poses(outputs: DataparserOutputs) -> Tensor:
    return outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, camera_convention="opengl")


@pytest.mark.parametrize("kind", KINDS)
class TestFinishedRun:
    def test_it_leaves_a_data_set_with_the_cameras_of_its_source(self, kind: str, finished: Any, scene: Path) -> None:
        outputs = read(finished(kind).base_dir / "edited_views")
        views = finished(kind).pipeline.views
        source = {path.stem: i for i, path in enumerate(read(scene).image_filenames)}
        chosen = [source[path.stem] for path in outputs.image_filenames]
        assert len(chosen) == len(views) == 9
        assert torch.allclose(original_poses(outputs), original_poses(read(scene))[chosen], atol=1e-5)
        for name in ("fx", "fy", "cx", "cy", "width", "height"):
            expected = getattr(read(scene).cameras, name)[chosen]
            assert torch.allclose(getattr(outputs.cameras, name).float(), expected.float()), name

    def test_its_images_are_the_edited_scene(self, kind: str, finished: Any) -> None:
        run = finished(kind)
        outputs = read(run.base_dir / "edited_views")
        run.pipeline.eval()
        shown = to_bytes(render(run.pipeline.model, run.pipeline.views.full_size_camera(4)))
        stored = np.array(Image.open(outputs.image_filenames[4]))
        assert stored.shape == (32, 48, 3)
        assert np.abs(stored.astype(int) - shown).max() <= 1

    def test_it_leaves_a_sheet_and_a_turntable(self, kind: str, finished: Any) -> None:
        folder = finished(kind).base_dir
        with Image.open(folder / "before_after.png") as sheet:
            assert sheet.size == (6 * 256, 2 * (256 + 22))
        assert (folder / "splat.ply").exists() == (kind == "splat")
        (video,) = folder.glob("turntable.*")
        assert video.suffix == ".mp4" and imageio_ffmpeg.count_frames_and_secs(video)[0] == 3


class TestDataSet:
    def test_of_a_lens_and_images_of_one_name(
        self, own_scene: Path, make_config: Any, prepare: Any, tmp_path: Path
    ) -> None:
        """Undistorted pictures have pinhole cameras; no picture takes another one's place."""
        path = own_scene / "transforms.json"
        transforms = json.loads(path.read_text()) | {"k1": 0.08, "applied_transform": np.eye(4)[[1, 0, 2]].tolist()}
        for i, frame in enumerate(transforms["frames"]):
            name = f"camera_{i % 2}/{i // 2}.png"
            (own_scene / name).parent.mkdir(exist_ok=True)
            shutil.move(own_scene / frame["file_path"], own_scene / name)
            frame["file_path"] = name
        path.write_text(json.dumps(transforms))
        pipeline = prepare(make_config("splat", data=own_scene, pipeline__datamanager__data=own_scene)).pipeline
        pipeline.eval()
        pictures = [to_bytes(render(pipeline.model, pipeline.views.full_size_camera(i))) for i in range(9)]

        def one_by_one() -> Iterator[np.ndarray]:
            """Each is written before the next is wanted: all of a large capture would fill the memory."""
            for i, picture in enumerate(pictures):
                assert len([*tmp_path.glob("unfinished-*/written/images/*")]) == i
                yield picture

        outputs = read(write_dataset(tmp_path / "written", pipeline.views, one_by_one()).parent)
        assert len(set(outputs.image_filenames)) == 9
        source = pipeline.views.outputs
        for i, (file, picture_) in enumerate(zip(outputs.image_filenames, pictures, strict=True)):
            assert np.array_equal(np.array(Image.open(file)), picture_)
            assert file.stem.endswith(source.image_filenames[i].stem)
            camera, rendered = outputs.cameras[i], pipeline.views.full_size_camera(i)[0]
            assert (camera.height.item(), camera.width.item()) == picture_.shape[:2]
            assert camera.fx.item() == pytest.approx(rendered.fx.item())
            assert not camera.distortion_params.any()  # type: ignore[union-attr]
        assert torch.allclose(original_poses(outputs), original_poses(source), atol=1e-4)


# Of nerfstudio's, which `warns` gives on as its own
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_equal_prompts_still_make_two_rows(make_config: Any, run: Any) -> None:
    config = make_config("splat", steps=1, show_edit=True, pipeline__turntable_frames=0, pipeline__tgt_prompt="a cat")
    with pytest.warns(UserWarning, match="equal"):
        trainer = run(config)
    with Image.open(trainer.base_dir / "before_after.png") as sheet:
        assert sheet.height == 2 * (256 + 22)
    assert not list(trainer.base_dir.glob("turntable.*"))


def test_without_ffmpeg_all_but_the_video_is_written(
    make_config: Any, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "no-such-program")
    folder = run(make_config("splat", steps=1, show_edit=True)).base_dir
    assert not list(folder.glob("turntable.*"))
    assert "<video" not in (folder / "report.html").read_text()
    assert "pip install imageio-ffmpeg" in capsys.readouterr().out


class TestTurntable:
    @pytest.fixture
    def cameras(self) -> Cameras:
        """On a wavy ring around (1, 2, 0.5), all looking there."""
        center = torch.tensor([1.0, 2.0, 0.5])
        angle = torch.arange(8) * (2 * torch.pi / 8) + 0.3
        offset = torch.stack([2 * angle.cos(), 2 * angle.sin(), 1 + 0.2 * (2 * angle).sin()], -1)
        backward = torch.nn.functional.normalize(offset, dim=-1)
        right = torch.nn.functional.normalize(
            torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]).expand(8, 3), backward), dim=-1
        )
        rotation = torch.stack([right, torch.linalg.cross(backward, right), backward], -1)
        return Cameras(torch.cat([rotation, (center + offset)[:, :, None]], -1), 60.0, 55.0, 21.0, 29.0, 40, 60)

    def test_it_goes_once_around_and_looks_at_the_centre(self, cameras: Cameras) -> None:
        center = torch.tensor([1.0, 2.0, 0.5])
        table = turntable(cameras, 12, center[None])
        poses = table.camera_to_worlds
        offset = poses[:, :, 3] - center
        assert torch.allclose(offset[:, :2].norm(dim=-1), torch.full((12,), 2.0), atol=1e-3)
        assert torch.allclose(offset[:, 2], torch.ones(12), atol=1e-3)
        assert torch.allclose(poses[:, :, 2], torch.nn.functional.normalize(offset, dim=-1), atol=1e-3)
        identity = poses[:, :, :3].transpose(1, 2) @ poses[:, :, :3]
        assert torch.allclose(identity, torch.eye(3).expand(12, 3, 3), atol=1e-5)
        assert torch.allclose(torch.linalg.det(poses[:, :, :3]), torch.ones(12), atol=1e-5)
        assert (poses[:, 2, 1] > 0).all()  # upright
        steps = torch.atan2(offset[:, 1], offset[:, 0]).diff().remainder(2 * torch.pi)
        assert torch.allclose(steps, torch.full((11,), 2 * torch.pi / 12), atol=1e-4)

    def test_its_lens_is_the_first_cameras(self, cameras: Cameras) -> None:
        table = turntable(cameras, 5, torch.tensor([[1.0, 2.0, 0.5]]))
        assert len(table) == 5
        assert (table.width[0].item(), table.height[0].item()) == (40, 60)
        assert (table.fx[0].item(), table.fy[0].item()) == (60, 55)
        assert (table.cx[0].item(), table.cy[0].item()) == (20, 30)


def test_an_empty_prompt_is_no_part_of_a_title() -> None:
    assert before_and_after("a cat", "a dog") == ("Before: a cat", "After: a dog")
    assert before_and_after(" ", "make it a dog") == ("Before", "After: make it a dog")
