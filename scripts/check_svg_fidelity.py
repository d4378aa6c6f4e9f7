"""Check how SVG files are drawn against resvg, and that broken files do no harm.

`compare` renders SVG files, and icons of Iconify JSON sets (npm packages such as @iconify-json/noto), with this package
and with resvg-py, and prints the PSNR between the two, and of each to an 8 × 8 supersampled render. `mutate` damages
files at random and makes sure that each is drawn or refused in one line, within bounded time.

    python scripts/check_svg_fidelity.py compare --files examples/svg/*/*.svg tests/vector/stress.svg
    python scripts/check_svg_fidelity.py mutate --files examples/svg/*/*.svg tests/vector/stress.svg --count 10000

`--icons noto/icons.json --count 200` takes icons of a set as well. Two correct renderers may blend edges differently;
the column "resvg to truth" says how far resvg itself is from the truth, and no picture can be nearer than that to both.
"""

import io
import json
import random
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
import torch
import tyro
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.fonts import font_options

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True)
class Score:
    """PSNR in dB of one file."""

    name: str
    """The file."""
    to_resvg: float
    """Of this package's picture to resvg's."""
    to_truth: float
    """Of this package's picture to the supersampled one."""
    resvg_to_truth: float
    """Of resvg's picture to the supersampled one."""
    unsupported: tuple[str, ...]
    """What the file has and the scene lacks."""


def draw(data: bytes, name: str, size: int) -> tuple[Tensor, Document]:
    """Return a file over white, [3, h, w] with the larger side as given."""
    document = Document(data, name)
    scale = size / max(document.size)
    width, height = (max(1, round(side * scale)) for side in document.size)
    background = torch.ones(3, height, width)
    with torch.no_grad():
        image = Rasterizer(document.scene).render(
            document.parameters, width, height, document.view(width, height), background
        )
    return image, document


def draw_with_resvg(data: bytes, width: int, height: int, supersampling: int = 1) -> Tensor:
    """Return the same by resvg, averaged over supersampling² subpixels."""
    fine = (width * supersampling, height * supersampling)
    options = font_options()
    png = bytes(resvg_py.svg_to_bytes(svg_string=data.decode(), dpi=96, width=fine[0], height=fine[1], **options))
    rgba = torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGBA"))).permute(2, 0, 1) / 255
    image = rgba[:3] * rgba[3] + 1 - rgba[3]
    return torch.nn.functional.avg_pool2d(image[None], supersampling)[0]


def icons(path: Path, count: int) -> list[tuple[str, bytes]]:
    """Return icons of an Iconify JSON set, the same ones each time."""
    data = json.loads(path.read_text())
    names = random.Random(0).sample(sorted(data["icons"]), min(count, len(data["icons"])))
    found = []
    for name in names:
        icon = data["icons"][name]
        width, height = (icon.get(side, data.get(side, 16)) for side in ("width", "height"))
        head = f'<svg {NAMESPACES} viewBox="0 0 {width} {height}">'
        found.append((f"{data.get('prefix', path.stem)}/{name}", f"{head}{icon['body']}</svg>".encode()))
    return found


def _inputs(files: Sequence[Path], sets: Sequence[Path], count: int) -> list[tuple[str, bytes]]:
    inputs = [(path.name, path.read_bytes()) for path in files]
    for path in sets:
        inputs += icons(path, -(-count // len(sets)))
    return inputs


def compare(files: tuple[Path, ...] = (), icons: tuple[Path, ...] = (), count: int = 200, size: int = 512) -> None:
    """Print how close each drawing is to resvg's and to the truth.

    Args:
        files: SVG files.
        icons: Files icons.json of Iconify packages.
        count: How many icons to draw at random from all those sets together.
        size: Larger side in pixels.
    """
    warnings.simplefilter("ignore")
    scores = []
    for name, data in _inputs(files, icons, count):
        image, document = draw(data, name, size)
        _, height, width = image.shape
        theirs, truth = (draw_with_resvg(data, width, height, s) for s in (1, 8))
        scores.append(
            Score(
                name,
                float(psnr(image, theirs, most=120.0)),
                float(psnr(image, truth, most=120.0)),
                float(psnr(theirs, truth, most=120.0)),
                document.unsupported,
            )
        )
    scores.sort(key=lambda s: s.to_resvg)
    print(f"{'to resvg':>9}{'to truth':>9}{'resvg to truth':>16}  (dB; truth: resvg, 8 × 8 supersampled)")
    for s in scores if len(scores) <= 30 else scores[:15]:
        lacks = f"  lacks {', '.join(s.unsupported)}" if s.unsupported else ""
        print(f"{s.to_resvg:9.1f}{s.to_truth:9.1f}{s.resvg_to_truth:16.1f}  {s.name}{lacks}")
    near = sum(s.to_resvg >= 45 for s in scores)
    closer = sum(s.to_truth > s.resvg_to_truth for s in scores)
    print(f"{len(scores)} files: {near} at 45 dB or more to resvg; {closer} closer to the truth than resvg is")
    print(
        f"medians: {statistics.median(s.to_resvg for s in scores):.1f} to resvg, "
        f"{statistics.median(s.to_truth for s in scores):.1f} to truth, "
        f"{statistics.median(s.resvg_to_truth for s in scores):.1f} resvg to truth"
    )


def damage(data: bytes, others: list[bytes], random: random.Random) -> bytes:
    """Damage a file by some bit flips, deletions, repetitions, and splices of other files."""
    result = bytearray(data)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(result) + 1)
        length = min(int(random.paretovariate(0.7)), 400)
        kind = random.randrange(5)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del result[at : at + length]
        elif kind == 2:
            result[at:at] = result[at : at + length] * random.randint(1, 5)
        elif kind == 3:
            other = random.choice(others)
            start = random.randrange(len(other))
            result[at : at + length] = other[start : start + length]
        else:
            digits = [i for i, byte in enumerate(result) if 48 <= byte <= 57]
            if digits:
                place = random.choice(digits)
                result[place : place + 1] = random.choice([b"1e9", b"-", b"0", b"99999999", b"1e-9", b".", b"1e400"])
    return bytes(result)


def mutate(
    files: tuple[Path, ...] = (),
    icons: tuple[Path, ...] = (),
    count: int = 10_000,
    size: int = 48,
    slow: float = 10.0,
    seed: int = 0,
) -> None:
    """Draw damaged files; exit with 1 if one breaks anything.

    Args:
        files: SVG files.
        icons: Files icons.json of Iconify packages, of which thirty icons each are taken.
        count: How many damaged files to draw.
        size: Larger side in pixels.
        slow: Seconds that a file may take.
        seed: Of the first; the next file has the next one.
    """
    warnings.simplefilter("ignore")
    inputs = _inputs(files, icons, 30 * len(icons))
    outcomes = {"drawn": 0, "refused": 0, "broken": 0, "slow": 0}
    longest = 0.0
    for number in range(seed, seed + count):
        source = random.Random(number)
        name, data = source.choice(inputs)
        damaged = damage(data, [other for _, other in inputs], source)
        start = time.perf_counter()
        try:
            image, document = draw(damaged, name, size)
            assert bool(image.isfinite().all()), "the picture is not finite"
            assert document.write(document.parameters) == damaged, "writing changed the file"
            outcome = "drawn"
        except UserError as error:
            outcome = "refused" if "\n" not in str(error) else "broken"
        except Exception as error:
            print(f"seed {number}, {name}: {type(error).__name__}: {error}")
            outcome = "broken"
        seconds = time.perf_counter() - start
        longest = max(longest, seconds)
        outcomes[outcome] += 1
        outcomes["slow"] += seconds > slow
    print(f"{count} damaged files: {outcomes}; the longest took {longest:.2f} s")
    sys.exit(1 if outcomes["broken"] or outcomes["slow"] else 0)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"compare": compare, "mutate": mutate})
