"""Picture files of any mode, as the RGB that a model sees, and back again in their own mode."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.images.palette import to_palette
from pds_nerfstudio.images.png16 import write_png16
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.picture_files import open_picture
from pds_nerfstudio.whole_files import whole_file

_DEEP_MODES = {1: "I;16", 2: "LA", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112
_GREY_AND_ALPHA = 4
"""The colour type of a PNG."""
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, by which Pillow turns colours into greys


@dataclass(frozen=True)
class Picture:
    """A picture file's pixels, upright."""

    pixels: Shaped[np.ndarray, "height width channels"]
    """uint8 or uint16: one or three channels of colour, and one of opacity if there is any. A palette is looked up,
    and CMYK is turned into RGB."""
    mode: str
    """Pillow's name of the mode it was stored in, and will be written in."""
    info: dict[str, Any] = field(default_factory=dict)
    """What else to write: Pillow's exif and icc_profile."""

    @classmethod
    def read(cls, path: Path) -> Picture:
        """Read a file of any kind that Pillow knows. The camera's orientation is applied.

        Raises:
            UserError: If it is missing, no picture, damaged, too large, or has 32 bits a channel.
        """
        try:
            with open_picture(path) as image:
                return cls._from_image(image, path)
        except UserError:
            raise
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such file.") from None
        except Image.UnidentifiedImageError:
            raise UserError(f"{path}: not a picture that can be read; save it as PNG or JPEG.") from None
        except Exception as error:  # Of damaged files, Pillow's readers raise whatever they stumble over.
            raise UserError(f"{path}: cannot be read ({first_line(error)}).") from error

    @classmethod
    def _from_image(cls, image: Image.Image, path: Path) -> Picture:
        if (count := getattr(image, "n_frames", 1)) > 1:
            warnings.warn(one_line(f"{path} holds {count} pictures: the first is edited."), stacklevel=4)
        upright = ImageOps.exif_transpose(image)
        info: dict[str, Any] = {"exif": upright.getexif().tobytes()} if image.getexif() else {}
        if "icc_profile" in image.info and image.mode != "CMYK":
            info["icc_profile"] = image.info["icc_profile"]
        if image.format == "PNG" and (deep := _deep_png(path)) is not None:
            deep = _upright(deep, image.getexif().get(_ORIENTATION, 1))
            return cls(deep, _DEEP_MODES[deep.shape[2]], info)
        if image.mode.startswith("I;16"):
            return cls(np.asarray(upright).astype(np.uint16)[..., None], "I;16", info)
        if image.mode == "CMYK":
            line = one_line(f"{path} is made of printing inks (CMYK): the result will be in RGB.")
            warnings.warn(line, stacklevel=4)
        keyed = "transparency" in image.info  # one colour that means transparent
        try:
            looked_up, mode = {
                "1": ("L", "1"),
                "L": ("LA", "LA") if keyed else ("L", "L"),
                "LA": ("LA", "LA"),
                "P": ("RGBA", "P"),
                "PA": ("RGBA", "RGBA"),
                "RGB": ("RGBA", "RGBA") if keyed else ("RGB", "RGB"),
                "RGBA": ("RGBA", "RGBA"),
                "CMYK": ("RGB", "RGB"),
            }[image.mode]
        except KeyError:
            raise UserError(f"{path}: pictures of mode {image.mode} cannot be edited; save it as PNG.") from None
        return cls(np.atleast_3d(np.asarray(upright.convert(looked_up))), mode, info)

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def color_channels(self) -> int:
        """Return 1 or 3."""
        return self.pixels.shape[2] - (self.pixels.shape[2] % 2 == 0)

    @property
    def _most(self) -> int:
        return int(np.iinfo(self.pixels.dtype).max)

    def opacity(self) -> Float[Tensor, "1 1 height width"]:
        """Return the opacity in 0..1; 1 where the picture has none."""
        if self.pixels.shape[2] % 2:
            return torch.ones(1, 1, *self.size)
        return torch.from_numpy(self.pixels[..., -1].astype(np.float32) / self._most)[None, None]

    def rgb(self) -> Float[Tensor, "1 3 height width"]:
        """Return the picture on white paper, in 0..1."""
        color = torch.from_numpy(self.pixels[..., : self.color_channels].astype(np.float32) / self._most)
        color = color.permute(2, 0, 1)[None].expand(1, 3, -1, -1)
        opacity = self.opacity()
        return color * opacity + (1 - opacity)

    def with_rgb(
        self, rgb: Float[Tensor, "1 3 height width"], where: Float[Tensor, "1 1 height width"] | None = None
    ) -> Picture:
        """Return this picture, changed so that it looks like `rgb` on white paper. Its opacity stays.

        Args:
            rgb: In 0..1. Where it equals `self.rgb()` the pixels stay as they are, to the bit.
            where: How much of the change to take, in 0..1; None takes all of it. Where it is 0, the pixels stay.
        """
        change = rgb.cpu() - self.rgb()
        if where is not None:
            change = change * where.cpu()
        if self.color_channels == 1:
            change = (change * change.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        # What shows is opacity · colour + white: a change of it takes a larger one of a half-transparent colour.
        opacity = self.opacity()
        change = torch.where(opacity > 0, change / opacity.clamp_min(1 / 255), torch.zeros(()))
        step = (change[0].permute(1, 2, 0).double().numpy() * self._most).round()
        color = self.pixels[..., : self.color_channels]
        edited = (color + step).clip(0, self._most).astype(self.pixels.dtype)
        return Picture(np.concatenate([edited, self.pixels[..., self.color_channels :]], 2), self.mode, self.info)

    def write(self, path: Path, source: Picture | None = None) -> None:
        """Write the picture in its mode.

        Args:
            path: Of a PNG.
            source: The picture before the edit. A palette keeps the colours of what is the same there.
        """
        if self.pixels.dtype == np.uint16:
            write_png16(path, self.pixels, _png_chunks(self.info))
            return
        if self.mode == "P":
            before = self if source is None else source
            indices, palette = to_palette(self.pixels, (self.pixels != before.pixels).any(2))
            image = Image.fromarray(indices, "P")
            image.putpalette(palette.tobytes(), "RGBA" if (palette[:, 3] < 255).any() else "RGBX")
            self._save(image, path)
            return
        image = Image.fromarray(self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels)
        if image.mode != self.mode:
            image = image.convert(self.mode, dither=Image.Dither.NONE)
        self._save(image, path)

    def _save(self, image: Image.Image, path: Path) -> None:
        with whole_file(path) as unfinished:
            image.save(unfinished, **self.info)


def _deep_png(path: Path) -> Shaped[np.ndarray, "height width channels"] | None:
    """Return the pixels of a PNG with 16 bits a channel, which Pillow would cut to 8; None for other PNGs."""
    with path.open("rb") as file:
        head = file.read(26)
    if head[24] != 16:
        return None
    import cv2  # torchvision's reader ends the process where a checksum is wrong

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("it is damaged")
    pixels = np.atleast_3d(pixels)
    in_order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]  # from BGR
    if head[25] == _GREY_AND_ALPHA:
        in_order = [0, 3]
    return np.ascontiguousarray(pixels[..., in_order])


def _png_chunks(info: dict[str, Any]) -> dict[bytes, bytes]:
    """Return Exif and colour profile as PNG keeps them."""
    chunks = {}
    if "icc_profile" in info:
        chunks[b"iCCP"] = b"profile\0\0" + zlib.compress(info["icc_profile"])
    if "exif" in info:
        chunks[b"eXIf"] = info["exif"].removeprefix(b"Exif\0\0")
    return chunks


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as the viewer should see them (Exif 2.3, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
