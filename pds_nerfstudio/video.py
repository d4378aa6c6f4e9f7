"""Videos as mp4, by the ffmpeg that comes with the package imageio-ffmpeg, or else the system's."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.whole_files import whole_file

Frame = UInt8[np.ndarray, "height width 3"]

_FINE, _COARSE = "18", "23"
"""Constant rate factors of H.264: 18 can hardly be told from the frames."""
_SMALLEST_SIDE = 64
# Colours are named in the file: without that, players guess, and differently for large videos and small ones.
_COLORS = (
    "out_color_matrix=bt709:out_range=tv,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
_OUTPUT = ("-an", "-c:v", "h264", "-pix_fmt", "yuv420p", "-movflags", "+faststart")


def has_ffmpeg() -> bool:
    """Return whether videos can be written here. If not, `pip install imageio-ffmpeg` brings what is missing."""
    try:
        return shutil.which(imageio_ffmpeg.get_ffmpeg_exe()) is not None
    except RuntimeError:  # how imageio-ffmpeg says that there is none
        return False


def write_video(path: Path, frames: Iterable[Frame], fps: float) -> Path:
    """Write an mp4 that browsers and phones play; returns `path`. Needs `has_ffmpeg`.

    Args:
        path: Of the file.
        frames: Of one size, at least one. Odd sides grow by a pixel, as H.264 needs.
        fps: Frames a second.

    Raises:
        UserError: If ffmpeg does not write it.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = (side + side % 2 for side in first.shape[:2])
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}", "-i", "-")
    with whole_file(path) as unfinished:
        _run(unfinished, (*source, "-vf", f"scale={_COLORS}", "-crf", _FINE), itertools.chain([first], frames))
    return path


def shrink_video(path: Path, side: int, most_bytes: int) -> bytes | None:
    """Return a video as an mp4 of at most `most_bytes`, or None if it would be too small to look at.

    Args:
        path: Of the video. Needs `has_ffmpeg`.
        side: Pixels of its longer side at most.
        most_bytes: Of the result.

    Raises:
        UserError: If ffmpeg does not read it.
    """
    _, seconds = imageio_ffmpeg.count_frames_and_secs(path.absolute())
    rate = str(int(0.9 * 8 * most_bytes / (seconds + 1)))  # the buffer may add as much as another second
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.mp4"
        while side >= _SMALLEST_SIDE:
            fitted = f"'min({side},iw)':'min({side},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2"
            size = ("-vf", f"scale={fitted}:{_COLORS}", "-crf", _COARSE, "-maxrate", rate, "-bufsize", rate)
            _run(small, ("-i", str(path.absolute()), *size))
            if small.stat().st_size <= most_bytes:
                return small.read_bytes()
            side = side * 2 // 3
    return None


def _run(path: Path, arguments: Iterable[str], frames: Iterable[Frame] = ()) -> None:
    """Let ffmpeg write `path`, from frames if there are any."""
    # A path that is not absolute could be read as an option, or its beginning up to a colon as a protocol.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments, *_OUTPUT, str(path.absolute())]
    with tempfile.TemporaryFile() as log:  # a pipe could fill up and stop both sides
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
        try:
            with process.stdin as pipe:  # type: ignore[union-attr]
                for frame in frames:
                    pipe.write(np.pad(frame, [(0, n % 2) for n in frame.shape[:2]] + [(0, 0)], mode="edge").tobytes())
        except BrokenPipeError:
            pass  # it has ended: its exit status says so
        except BaseException:
            process.kill()
            raise
        finally:
            failed = process.wait()
        if failed:
            log.seek(0)
            reasons = log.read().decode(errors="replace").split("\n")
            raise UserError(f"ffmpeg did not write {path.name}: {next(filter(None, reasons), failed)}")
