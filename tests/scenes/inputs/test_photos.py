"""Photographs of any mode, and nerfstudio's data managers on them."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.datamanagers.base_datamanager import variable_res_collate
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes import photos
from pds_nerfstudio.scenes.data import check_data
from pds_nerfstudio.scenes.photos import MaskedPixels, RaysOfPhotos, WholePhotos, fits, read_photo
from tests.scenes.inputs import folders
from tests.scenes.inputs.shots import WIDTH, shoot

ORIENTATION = 0x0112


def a_photo() -> Image.Image:
    rows, columns = np.mgrid[0:6, 0:8]
    return Image.fromarray(np.stack([rows * 40, columns * 30, rows * columns], -1).astype(np.uint8))


class TestReading:
    @pytest.mark.parametrize("deep", [np.uint16, np.int32])
    def test_deep_greys_are_cut_to_bytes(self, deep: Any, tmp_path: Path) -> None:
        values = np.array([[0, 257, 65535, 1000]], deep)
        Image.fromarray(values).save(tmp_path / "a.tif")
        read = read_photo(tmp_path / "a.tif", (4, 1), with_opacity=False)
        assert read[0].tolist() == [[0] * 3, [1] * 3, [255] * 3, [4] * 3]

    def test_a_picture_of_two_colours(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
        assert read_photo(tmp_path / "a.png", (2, 1), with_opacity=False).tolist() == [[[255] * 3, [0] * 3]]

    def test_a_palette_is_looked_up(self, tmp_path: Path) -> None:
        a_photo().quantize(48).save(tmp_path / "a.png")
        read = read_photo(tmp_path / "a.png", (8, 6), with_opacity=False)
        assert np.abs(read.astype(int) - np.array(a_photo())).max() < 8

    def test_opacity_is_added_where_it_is_asked_for(self, tmp_path: Path) -> None:
        a_photo().save(tmp_path / "a.png")
        read = read_photo(tmp_path / "a.png", (8, 6), with_opacity=True)
        assert read.shape == (6, 8, 4) and (read[..., 3] == 255).all()

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_it_is_turned_only_where_its_camera_says_so(self, orientation: int, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        a_photo().save(tmp_path / "a.png", exif=exif)
        lying = read_photo(tmp_path / "a.png", (8, 6), with_opacity=False)
        assert np.array_equal(lying, np.array(a_photo()))
        with Image.open(tmp_path / "a.png") as photo:
            assert fits(photo, (8, 6)) and fits(photo, (6, 8)) == (orientation >= 5)
        if orientation == 6:
            upright = read_photo(tmp_path / "a.png", (6, 8), with_opacity=False)
            assert np.array_equal(upright, np.rot90(np.array(a_photo()), -1))

    @pytest.mark.parametrize(("side", "says"), [(10_001, r"0000\.png: it has 10001"), (13_400, "179560000 pixels")])
    def test_a_small_file_of_very_many_pixels_is_refused(self, side: int, says: str, tmp_path: Path) -> None:
        """Of one bit each: more would be 8 bytes in the memory."""
        Image.new("1", (side, side)).save(tmp_path / "a.png")
        with pytest.raises(UserError, match=r"a\.png"):
            read_photo(tmp_path / "a.png", (side, side), with_opacity=False)
        meta = {"w": side, "h": side, "fl_x": 1.0, "fl_y": 1.0, "cx": 1.0, "cy": 1.0}
        folders.transforms(tmp_path / "scene", frame=lambda i: meta, save=lambda path, *_: None)
        for i in range(5):
            (tmp_path / f"scene/images/{i:04d}.png").parent.mkdir(exist_ok=True)
            (tmp_path / f"scene/images/{i:04d}.png").symlink_to(tmp_path / "a.png")
        config = copy.deepcopy(pds_splat.config)
        config.data = tmp_path / "scene"
        with pytest.raises(UserError, match=says):
            check_data(config, "splat")

    def test_real_numbers_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(UserError, match=r"a\.tif can't be read as a picture \(its numbers are not whole\)"):
            read_photo(tmp_path / "a.tif", (2, 2), with_opacity=False)


def test_the_methods_have_these_managers() -> None:
    assert pds_splat.config.pipeline.datamanager._target is WholePhotos
    assert pds_nerf.config.pipeline.datamanager._target is RaysOfPhotos


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU memory can be pinned")
def test_images_are_cached_without_a_gpu_whatever_is_asked_for(make_config: Any, prepare: Any) -> None:
    """Nerfstudio asks for the CPU's pinned memory itself where there are more than 500 images."""
    trainer = prepare(make_config("splat", pipeline__datamanager__cache_images="cpu"))
    assert trainer.pipeline.datamanager.cached_train[0]["image"].device.type == "cpu"


@pytest.mark.parametrize(("most", "place"), [(10**9, "gpu"), (1000, "cpu")])
def test_many_bytes_of_photographs_stay_in_the_main_memory(
    most: int, place: str, make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = prepare(make_config("splat")).pipeline.datamanager
    asked: list[str] = []

    def load(self: object, split: str, place: str) -> list[Any]:
        asked.append(place)
        return []

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(photos, "_MOST_BYTES_ON_GPU", most)
    monkeypatch.setattr(FullImageDatamanager, "_load_images", load)
    assert [manager._load_images(split, "gpu") for split in ("train", "eval")] == [[], []]
    assert asked == [place, place]


def test_evaluation_images_may_differ_in_size_where_training_images_do_not(
    make_config: Any, prepare: Any, tmp_path: Path
) -> None:
    sizes = tuple((24, 20) if i in (1, 2) else (WIDTH, 28) for i in range(5))
    names = [f"images/{i:04d}.png" for i in range(5)]
    lists = {
        "train_filenames": [names[0], *names[3:]],
        "val_filenames": [*names[1:2], names[3]],
        "test_filenames": names,
    }
    folders.transforms(tmp_path / "scene", shoot(sizes=sizes), meta=lists)
    data = tmp_path / "scene"
    trainer = prepare(make_config("nerf", data=data, pipeline__datamanager__data=data))
    assert trainer.pipeline.datamanager.config.collate_fn is variable_res_collate
    assert trainer.pipeline.datamanager.next_eval(0)[1]["image"].shape == (4096, 3)


@pytest.mark.parametrize("images", [1, 2])
def test_pixels_are_drawn_from_what_masks_show(images: int) -> None:
    torch.manual_seed(0)
    mask = torch.zeros(images, 6, 8, 1, dtype=torch.bool)
    mask[:, 2:4, 5:] = True
    sampler = MaskedPixels(PixelSamplerConfig(max_num_iterations=1000))
    drawn = sampler.rejection_sample_mask(mask, 200, images, 6, 8, "cpu")
    assert {tuple(place) for place in drawn.tolist()} == {
        (i, y, x) for i in range(images) for y in (2, 3) for x in (5, 6, 7)
    }
