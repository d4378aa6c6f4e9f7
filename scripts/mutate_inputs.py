"""Damage inputs at random, and see that each is read or refused in one line.

    python scripts/mutate_inputs.py transforms --count 2000
    python scripts/mutate_inputs.py pictures --count 20000

`transforms` changes values of a scene's transforms.json, by their places in it and by their bytes, and checks the scene
as a run does before it loads anything. `pictures` damages picture files of many kinds and reads them. Whatever ends in
anything but an error in one line is printed, with what was changed, and makes the command fail.
"""

from __future__ import annotations

import collections
import copy
import io
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.images.png16 import write_png16
from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes.data import check_data
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e-30, 1e30, 10**400, float("nan"), float("inf")),
    *("", "x", "1", "../..", "images", "OPENCV", "PERSPECTIVE", "\0", "é" * 300),
    *([], [0], [[1, 2], [3]], {}, {"a": 1}, [None] * 4),
)
Refused = Callable[[], object]
"""Reads one damaged input; raises a `UserError` if it refuses it."""


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the way to every value inside of what JSON made."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


def mutated(value: Any, draw: random.Random) -> tuple[Any, str]:
    """Return what JSON made with one or two of its values changed, left out or doubled, and which."""
    changed, said = copy.deepcopy(value), []
    for _ in range(draw.choice((1, 1, 2))):
        ways = list(places_in(changed))[1:]
        if not ways:
            break
        *above, last = draw.choice(ways)
        holder = changed
        for key in above:
            holder = holder[key]
        other = draw.choice(VALUES)
        what = draw.choice(("set", "set", "set", "drop", "double"))
        if what == "drop":
            del holder[last]
        elif what == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = other
        said.append(f"{what} {'/'.join(map(str, [*above, last]))} {other!r:.40}")
    return changed, "; ".join(said)


def damaged(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Return bytes of which some are others, or missing, mostly near the front, and how."""
    broken = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        broken[min(int(draw.expovariate(4 / len(broken))), len(broken) - 1)] = draw.randrange(256)
    if draw.random() < 0.3:
        del broken[draw.randrange(len(broken)) :]
    return bytes(broken), f"{len(broken)} of {len(data)} bytes"


def transforms(count: int, seed: int, folder: Path) -> Iterator[tuple[str, Refused]]:
    """Return damaged scenes, one after another in one folder, and what was done to each.

    Args:
        count: How many.
        seed: Of what is changed.
        folder: A new one.
    """
    for _ in write_scene(folder, Attributes(), Attributes(arms="raised"), 8, 32, 32, seed_points=100):
        pass
    path = folder / "transforms.json"
    whole, draw = path.read_bytes(), random.Random(seed)
    for _ in range(count):
        if draw.random() < 0.8:
            changed, what = mutated(json.loads(whole), draw)
            path.write_text(json.dumps(changed))
        else:
            data, what = damaged(whole, draw)
            path.write_bytes(data)
        method = draw.choice((pds_splat, pds_nerf))
        config: Any = copy.deepcopy(method.config)
        config.data = config.pipeline.datamanager.data = folder
        yield what, lambda config=config: check_data(config, config.pipeline.model._target.kind)  # type: ignore[misc]


def pictures(count: int, seed: int, folder: Path) -> Iterator[tuple[str, Refused]]:
    """Return damaged pictures, one after another, and what was done to each; arguments as of `transforms`."""
    draw = random.Random(seed)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    whole: dict[str, bytes] = {}
    for kind, modes in {
        **{"png": ("1", "L", "LA", "P", "RGB", "RGBA"), "jpeg": ("L", "RGB", "CMYK"), "webp": ("RGB", "RGBA")},
        **{"tiff": ("1", "L", "RGB", "RGBA", "CMYK"), "gif": ("P",), "bmp": ("RGB",), "ppm": ("RGB",)},
    }.items():
        for mode in modes:
            image, file = Image.fromarray(pixels).convert("RGB").convert(mode), io.BytesIO()
            exif = image.getexif()
            exif[0x0112], exif[0x010E] = 6, "a picture"
            image.save(file, kind, **({"exif": exif} if kind in ("png", "jpeg", "webp", "tiff") else {}))
            whole[f"{kind} {mode}"] = file.getvalue()
    for channels in (1, 2, 3, 4):
        write_png16(folder / "deep.png", pixels[..., :channels].astype(np.uint16) * 257)
        whole[f"png 16 bit {channels}"] = (folder / "deep.png").read_bytes()
    path = folder / "in"
    for _ in range(count):
        name = draw.choice(list(whole))
        data, what = damaged(whole[name], draw)
        path.write_bytes(data)
        yield f"{name}: {what}", lambda: Picture.read(path)


KINDS = {"transforms": transforms, "pictures": pictures}


@dataclass(frozen=True)
class Outcome:
    """What came of many damaged inputs."""

    read: int
    """How many were read nevertheless."""
    refused: int
    """How many were refused in one line."""
    wrong: list[str]
    """What was done to the others, and how they ended."""


def try_all(inputs: Iterator[tuple[str, Refused]]) -> Outcome:
    """Read damaged inputs, silently."""
    counts, wrong = collections.Counter[str](), []
    for what, read in inputs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read()
                counts["read"] += 1
            except UserError as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    wrong.append(f"{what}: in several lines")
            except Exception as error:
                wrong.append(f"{what}: {type(error).__name__}: {first_line(error)}")
    return Outcome(counts["read"], counts["refused"], wrong)


def main(kind: Literal["transforms", "pictures"], /, count: int = 1000, seed: int = 0) -> None:
    """Damage and read, and say what came of it.

    Args:
        kind: What to damage.
        count: How many times.
        seed: Of what is changed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = try_all(KINDS[kind](count, seed, Path(folder)))
    for line in outcome.wrong[:20]:
        print(line)
    print(
        f"{count} damaged {kind}: {outcome.read} read, {outcome.refused} refused in one line, {len(outcome.wrong)} "
        f"neither; {time.monotonic() - began:.0f} s"
    )
    if outcome.wrong:
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
