"""Files of every mode go in and come out the same, and what is edited is only what should be."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.images.png16 import write_png16

rng = np.random.default_rng(0)
BYTES = rng.integers(0, 256, (17, 23, 4), dtype=np.uint8)
WORDS = rng.integers(0, 65536, (17, 23, 4), dtype=np.uint16)


def sample(mode: str) -> Image.Image:
    if mode == "P":
        image = Image.fromarray(BYTES[..., :3]).quantize(40)
        image.info["transparency"] = 3
        return image
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    pixels = BYTES[..., :channels] if channels > 1 else BYTES[..., 0]
    return Image.fromarray(pixels).convert(mode, dither=Image.Dither.NONE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_8_bit_files_come_back_the_same(mode: str, tmp_path: Path) -> None:
    sample(mode).save(tmp_path / "in.png")
    picture = Picture.read(tmp_path / "in.png")
    unchanged = picture.with_rgb(picture.rgb())
    unchanged.write(tmp_path / "out.png", picture)
    with Image.open(tmp_path / "in.png") as before, Image.open(tmp_path / "out.png") as after:
        assert before.mode == after.mode == mode
        assert before.size == after.size
        assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_files_stay_16_bit(channels: int, tmp_path: Path) -> None:
    write_png16(tmp_path / "in.png", WORDS[..., :channels])
    picture = Picture.read(tmp_path / "in.png")
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, WORDS[..., :channels])
    half = picture.with_rgb(picture.rgb() * 0.5, torch.ones(1, 1, 17, 23) * (torch.arange(23) < 10))
    half.write(tmp_path / "out.png", picture)
    again = Picture.read(tmp_path / "out.png").pixels
    assert np.array_equal(again, half.pixels)
    assert np.array_equal(again[:, 10:], WORDS[:, 10:, :channels])
    assert not np.array_equal(again[:, :10], WORDS[:, :10, :channels])


def test_a_deep_picture_with_a_wrong_checksum_is_refused_in_one_line(tmp_path: Path) -> None:
    write_png16(tmp_path / "in.png", WORDS)
    data = bytearray((tmp_path / "in.png").read_bytes())
    data[-20] ^= 255  # in the last bytes of the pixels, or their checksum
    (tmp_path / "in.png").write_bytes(data)
    with pytest.raises(UserError, match=r"in\.png: cannot be read") as error:
        Picture.read(tmp_path / "in.png")
    assert "\n" not in str(error.value)


def test_what_would_take_all_memory_is_refused_by_its_size(tmp_path: Path) -> None:
    Image.new("1", (13_000, 13_000)).save(tmp_path / "in.png")
    with pytest.raises(UserError, match=r"13000 × 13000 pixels, more than .* make it smaller"):
        Picture.read(tmp_path / "in.png")


def test_damaged_files_of_any_kind_are_refused_in_one_line(tmp_path: Path) -> None:
    damage = np.random.default_rng(5)
    image = Image.fromarray(BYTES[..., :3])
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    for kind in ("png", "jpeg", "tiff", "webp", "gif", "bmp"):
        image.save(tmp_path / f"whole.{kind}", exif=exif)
        whole = np.frombuffer((tmp_path / f"whole.{kind}").read_bytes(), np.uint8)
        for _ in range(40):
            broken = whole.copy()
            places = damage.integers(0, min(len(broken), 400), 3)
            broken[places] = damage.integers(0, 256, 3)
            length = damage.integers(len(broken) // 2, len(broken) + 1)
            (tmp_path / f"in.{kind}").write_bytes(broken[:length].tobytes())
            with contextlib.suppress(UserError):  # and nothing else
                Picture.read(tmp_path / f"in.{kind}")


def test_pillow_reads_our_16_bit_grey(tmp_path: Path) -> None:
    write_png16(tmp_path / "grey.png", WORDS[..., :1])
    with Image.open(tmp_path / "grey.png") as image:
        assert np.array_equal(np.asarray(image).astype(np.uint16), WORDS[..., 0])


def test_16_bit_tiff(tmp_path: Path) -> None:
    Image.fromarray(WORDS[..., 0]).save(tmp_path / "in.tif")
    picture = Picture.read(tmp_path / "in.tif")
    assert np.array_equal(picture.pixels[..., 0], WORDS[..., 0])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int, deep: bool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    upright: np.ndarray = BYTES[..., :3]
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),  # the camera lay on its side: the viewer turns it clockwise
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(turns[orientation](upright))
    if deep:
        from pds_nerfstudio.images.picture import _png_chunks

        write_png16(tmp_path / "in.png", stored.astype(np.uint16) * 257, _png_chunks({"exif": exif.tobytes()}))
        upright = upright.astype(np.uint16) * 257
    else:
        Image.fromarray(stored).save(tmp_path / "in.png", exif=exif)
    picture = Picture.read(tmp_path / "in.png")
    assert np.array_equal(picture.pixels, upright)
    picture.write(tmp_path / "out.png")
    assert np.array_equal(Picture.read(tmp_path / "out.png").pixels, upright)
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "Maker"


def test_colour_profiles_are_kept(tmp_path: Path) -> None:
    profile = bytes(range(200))
    Image.fromarray(BYTES).save(tmp_path / "in.png", icc_profile=profile)
    picture = Picture.read(tmp_path / "in.png")
    for pixels in (picture.pixels, WORDS):
        Picture(pixels, picture.mode, picture.info).write(tmp_path / "out.png")
        with Image.open(tmp_path / "out.png") as image:
            assert image.info["icc_profile"] == profile


class TestChanges:
    def test_only_where_the_mask_is(self) -> None:
        picture = Picture(BYTES[..., :3], "RGB")
        where = torch.zeros(1, 1, 17, 23)
        where[..., :5, :] = 1
        edited = picture.with_rgb(1 - picture.rgb(), where)
        assert np.array_equal(edited.pixels[5:], BYTES[5:, :, :3])
        assert np.array_equal(edited.pixels[:5], 255 - BYTES[:5, :, :3])

    def test_greys_of_a_mask_blend(self) -> None:
        picture = Picture(np.full((2, 2, 3), 100, np.uint8), "RGB")
        edited = picture.with_rgb(torch.full((1, 3, 2, 2), 200 / 255), torch.full((1, 1, 2, 2), 0.25))
        assert (edited.pixels == 125).all()

    def test_opacity_stays_and_what_cannot_be_seen_is_not_touched(self) -> None:
        pixels = BYTES.copy()
        pixels[0, :, 3], pixels[1:, :, 3] = 0, 255
        edited = Picture(pixels, "RGBA").with_rgb(torch.zeros(1, 3, 17, 23))
        assert np.array_equal(edited.pixels[..., 3], pixels[..., 3])
        assert np.array_equal(edited.pixels[0], pixels[0])
        assert (edited.pixels[1:, :, :3] == 0).all()

    def test_a_half_transparent_colour_changes_by_more(self) -> None:
        pixels = np.full((2, 2, 4), 128, np.uint8)
        picture = Picture(pixels, "RGBA")
        wanted = picture.rgb() - 0.1
        assert torch.allclose(picture.with_rgb(wanted).rgb(), wanted, atol=1 / 255)

    def test_greys_take_the_brightness(self) -> None:
        edited = Picture(np.zeros((2, 2, 1), np.uint8), "L").with_rgb(
            torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(1, 3, 2, 2)
        )
        assert (edited.pixels == 150).all()  # 0.587 · 255, as Pillow says of pure green

    def test_a_palette_keeps_the_colours_of_what_is_the_same(self, tmp_path: Path) -> None:
        colors = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)  # 256 of them: no entry is free
        Image.fromarray(colors).quantize(256).save(tmp_path / "in.png")
        picture = Picture.read(tmp_path / "in.png")
        where = torch.zeros(1, 1, 16, 16)
        where[..., 8:, :] = 1
        edited = picture.with_rgb(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)), where)
        edited.write(tmp_path / "out.png", picture)
        again = Picture.read(tmp_path / "out.png")
        assert again.mode == "P"
        assert np.array_equal(again.pixels[:8], picture.pixels[:8])
        error = np.abs(again.pixels[8:].astype(int) - edited.pixels[8:]).mean()
        assert error < 12  # 128 random colours on what is left of 256


class TestErrors:
    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file"):
            Picture.read(tmp_path / "none.png")

    @pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(30)])
    def test_no_picture(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.png"):
            Picture.read(tmp_path / "x.png")

    @pytest.mark.parametrize("deep", [False, True])
    def test_a_damaged_file(self, deep: bool, tmp_path: Path) -> None:
        path = tmp_path / "x.png"
        if deep:
            write_png16(path, WORDS)
        else:
            Image.fromarray(BYTES).save(path)
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(UserError, match=r"x\.png"):
            Picture.read(path)

    def test_32_bits(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tif")
        with pytest.raises(UserError, match="mode F"):
            Picture.read(tmp_path / "x.tif")

    def test_inks_and_animations_warn(self, tmp_path: Path) -> None:
        Image.fromarray(BYTES, "CMYK").save(tmp_path / "x.jpg")
        with pytest.warns(UserWarning, match="inks"):
            assert Picture.read(tmp_path / "x.jpg").mode == "RGB"
        frames = [Image.fromarray(BYTES[..., i]) for i in range(3)]
        frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match="3 pictures"):
            Picture.read(tmp_path / "x.gif")
