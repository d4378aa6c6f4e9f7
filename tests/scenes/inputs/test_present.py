"""Frames whose pictures are missing are left out, by all that reads a scene alike, and are counted once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.present import PresentFrames
from tests.scenes.inputs import folders
from tests.scenes.inputs.shots import HEIGHT, WIDTH


def names_of(views: Any) -> list[str]:
    return [Path(path).name for path in views.outputs.image_filenames]


@pytest.mark.parametrize("method", ["splat", "nerf"])
def test_a_run_and_all_that_follows_see_the_same_views(
    method: str, make_config: Any, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "scene"
    folders.transforms(data)
    for i in (0, 3):
        (data / f"images/{i:04d}.png").unlink()
    options = {"data": data, "pipeline__datamanager__data": data}
    trainer = run(make_config(method, steps=1, reconstruct=1, show_edit=True, **options))
    said = [line for line in capsys.readouterr().out.splitlines() if "missing" in line]
    assert said == [f"{data}/images/0000.png is not there (2 of 5 images are missing): such frames are left out."]
    there = names_of(trainer.pipeline.views)
    assert there and not {"0000.png", "0003.png"} & set(there)
    frames = json.loads((trainer.base_dir / "edited_views" / "transforms.json").read_text())["frames"]
    assert len(frames) == len(there)
    assert names_of(FinishedEdit(trainer.base_dir / "config.yml").views) == there
    resumed = run(make_config(method, "more", steps=2, load_dir=trainer.checkpoint_dir, **options))
    assert names_of(resumed.pipeline.views) == there


@pytest.mark.parametrize("method", ["splat", "nerf"])
@pytest.mark.parametrize("comes_back", [False, True])
def test_an_edit_does_not_go_on_with_other_views(
    method: str, comes_back: bool, make_config: Any, run: Any, prepare: Any, fails: Any, tmp_path: Path
) -> None:
    """It would take what it has learned of one view for another's."""
    data, away = tmp_path / "scene", tmp_path / "0003.png"
    folders.transforms(data)
    options = {"data": data, "pipeline__datamanager__data": data}
    if comes_back:
        (data / "images/0003.png").rename(away)
    first = run(make_config(method, steps=1, reconstruct=1, **options))
    away.rename(data / "images/0003.png") if comes_back else (data / "images/0003.png").rename(away)
    again = make_config(method, "again", steps=3, load_dir=first.checkpoint_dir, **options)
    assert "give it the pictures that it was trained on" in fails(lambda: prepare(again))


def test_what_is_left_keeps_its_place_and_its_split(tmp_path: Path) -> None:
    folders.transforms(tmp_path)
    parser = NerfstudioDataParserConfig(data=tmp_path, train_split_fraction=0.6)

    def read() -> dict[str, Any]:
        present = PresentFrames(parser.setup())
        splits = [present.get_dataparser_outputs(split) for split in ("train", "val")]
        poses = {
            f"{split} {Path(path).name}": outputs.cameras.camera_to_worlds[i]
            for split, outputs in zip(("train", "val"), splits, strict=True)
            for i, path in enumerate(outputs.image_filenames)
        }
        assert all(len(outputs.cameras) == len(outputs.image_filenames) for outputs in splits)
        return poses

    whole = read()
    for i in (0, 2):
        (tmp_path / f"images/{i:04d}.png").unlink()
    some = read()
    assert some.keys() == {name for name in whole if not name.endswith(("0000.png", "0002.png"))}
    assert all(torch.equal(some[name], whole[name]) for name in some)


def test_smaller_copies_are_found_by_a_picture_that_is_there(tmp_path: Path) -> None:
    """Nerfstudio takes smaller copies of large pictures, and finds out by the first."""
    folders.transforms(tmp_path)
    Image.new("L", (3300, 8)).save(tmp_path / "images/0001.png")
    (tmp_path / "images/0000.png").unlink()
    for i in (1, 2):
        folders.save_plain(tmp_path / f"images_2/{i:04d}.png", folders.shoot().pictures[i], i)
    present = PresentFrames(NerfstudioDataParserConfig(data=tmp_path, eval_mode="all").setup())
    outputs = present.get_dataparser_outputs("train")
    assert [path.relative_to(tmp_path).as_posix() for path in outputs.image_filenames] == [
        "images_2/0001.png",
        "images_2/0002.png",
    ]
    assert (
        outputs.cameras.width.tolist() == [[WIDTH // 2]] * 2 and outputs.cameras.height.tolist() == [[HEIGHT // 2]] * 2
    )
    assert {path.name for path in present.left_out} == {"0000.png", "0003.png", "0004.png"}
    smaller = replace(NerfstudioDataParserConfig(data=tmp_path), downscale_factor=2, eval_mode="all")
    assert PresentFrames(smaller.setup()).get_dataparser_outputs("train").image_filenames == outputs.image_filenames
