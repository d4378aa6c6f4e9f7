"""Videos as files: what is in them, and that they are small where that is asked for."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.video import has_ffmpeg, shrink_video, write_video

COLORS = [(200, 30, 30), (30, 190, 60), (20, 40, 220), (128, 128, 128)]
FRAMES = [np.full((31, 45, 3), color, np.uint8) for color in COLORS]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that compresses as badly as any."""
    frames = np.random.default_rng(0).integers(0, 256, (10, 240, 320, 3), dtype=np.uint8)
    return write_video(tmp_path_factory.mktemp("video") / "noise.mp4", frames, 10)


def read(path: Path) -> tuple[dict, np.ndarray]:
    """What a player sees: the header, and the frames."""
    frames = imageio_ffmpeg.read_frames(path)
    header = next(frames)
    width, height = header["size"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)  # imageio_ffmpeg's pipes, at the last frame
        return header, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames])


class TestWriting:
    def test_it_shows_the_frames(self, tmp_path: Path) -> None:
        header, frames = read(write_video(tmp_path / "a.mp4", iter(FRAMES), 12.5))
        assert frames.shape == (4, 32, 46, 3) and header["fps"] == 12.5
        assert np.abs(frames.mean((1, 2)) - COLORS).max() < 4
        assert np.abs(frames - frames.mean((1, 2), keepdims=True)).max() < 12  # the added pixels too

    def test_every_browser_plays_it(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", FRAMES, 30)
        header, _ = read(path)
        assert header["codec"] == "h264" and header["pix_fmt"].startswith("yuv420p(tv, bt709")
        content = path.read_bytes()
        assert content[4:8] == b"ftyp" and content.index(b"moov") < content.index(b"mdat")  # starts before all is there

    def test_any_folder_will_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("-y:%d 狐.mp4", "concat:a.mp4"):
            assert write_video(Path(name), FRAMES, 30).stat().st_size > 0

    def test_what_ffmpeg_refuses_is_told_in_a_line(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"ffmpeg did not write a\.odd") as refused:
            write_video(tmp_path / "a.odd", FRAMES, 30)
        assert "\n" not in str(refused.value)
        assert list(tmp_path.iterdir()) == []

    def test_what_stops_the_frames_stops_the_writing(self, tmp_path: Path) -> None:
        def interrupted() -> Iterator[np.ndarray]:
            yield FRAMES[0]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_video(tmp_path / "a.mp4", interrupted(), 30)


class TestShrinking:
    @pytest.mark.parametrize("most", [200_000, 40_000, 9_000])
    def test_it_fits_and_goes_on_as_long(self, most: int, noise: Path, tmp_path: Path) -> None:
        assert noise.stat().st_size > most
        content = shrink_video(noise, 160, most)
        assert content is not None and len(content) <= most
        (tmp_path / "small.mp4").write_bytes(content)
        header, frames = read(tmp_path / "small.mp4")
        assert len(frames) == 10 and header["fps"] == 10
        height, width = frames.shape[1:3]
        assert width <= 160 and width / height == pytest.approx(4 / 3, abs=0.05)

    def test_a_small_one_does_not_grow(self, tmp_path: Path) -> None:
        content = shrink_video(write_video(tmp_path / "a.mp4", FRAMES, 30), 640, 10**6)
        assert content is not None
        (tmp_path / "small.mp4").write_bytes(content)
        _, frames = read(tmp_path / "small.mp4")
        assert frames.shape == (4, 32, 46, 3) and np.abs(frames.mean((1, 2)) - COLORS).max() < 5

    def test_what_cannot_fit_is_left_out(self, noise: Path) -> None:
        assert shrink_video(noise, 160, 500) is None


class TestFfmpeg:
    def test_it_comes_with_a_package(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert shutil.which("ffmpeg") is None and has_ffmpeg()

    def test_there_may_be_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "no-such-program")
        assert not has_ffmpeg()
        monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", _none)
        assert not has_ffmpeg()


def _none() -> str:
    raise RuntimeError("No ffmpeg exe could be found.")
