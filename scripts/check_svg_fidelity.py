"""Check how SVG files are drawn against resvg, and that broken files do no harm.

`compare` renders SVG files, and icons of Iconify JSON sets (npm packages such as @iconify-json/noto), with this package
and with resvg-py, and prints the PSNR between the two, and of each to an 8 × 8 supersampled render. `edit` moves all
that can be edited a little, at random, writes that and reads it again. `mutate` damages files at random and makes sure
that each is drawn or refused in one line, within bounded time.

    python scripts/check_svg_fidelity.py compare --files examples/svg/*/*.svg tests/vector/stress.svg
    python scripts/check_svg_fidelity.py edit --files examples/svg/*/*.svg
    python scripts/check_svg_fidelity.py mutate --files examples/svg/*/*.svg tests/vector/stress.svg --count 10000

`--icons noto/icons.json --count 200` takes icons of a set as well. Two correct renderers may blend edges differently;
the column "resvg to truth" says how far resvg itself is from the truth, and no picture can be nearer than that to both.
"""

import io
import json
import math
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

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.raster import affine
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

    @property
    def decibels(self) -> tuple[float, float, float]:
        """The three figures."""
        return self.to_resvg, self.to_truth, self.resvg_to_truth


def draw(document: Document, width: int, height: int) -> Tensor:
    """Return a drawing over white, [3, height, width], stretched as `draw_with_resvg` stretches it."""
    across, down = (max(1, math.floor(side + 0.5)) for side in document.size)
    view = affine.scaling(width / across, height / down)
    with torch.no_grad():
        return Rasterizer(document.scene).render(document.parameters, width, height, view, torch.ones(3, height, width))


def draw_with_resvg(document: Document, size: int, supersampling: int = 1) -> Tensor:
    """Return what resvg draws over white, [3, h, w], the larger side as given, averaged over supersampling² subpixels.

    resvg rounds the size that a drawing asks for to whole pixels, and stretches that to whole pixels of the picture.
    """
    text = document.source.data.decode()
    fine = _resvg(text, size * supersampling)
    if supersampling == 1:
        return fine
    _, height, width = _resvg(text, size).shape
    return torch.nn.functional.adaptive_avg_pool2d(fine, (height, width))


def _resvg(text: str, size: int) -> Tensor:

    png = bytes(resvg_py.svg_to_bytes(svg_string=text, dpi=96, width=size, height=size, **font_options()))
    rgba = torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGBA"))).permute(2, 0, 1) / 255
    return rgba[:3] * rgba[3] + 1 - rgba[3]


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


def score(data: bytes, name: str, size: int) -> Score:
    """Compare one file with resvg and the truth.

    Raises:
        UserError: If this package refuses the file.
        ValueError: If resvg does.
    """
    document = Document(data, name)
    theirs, truth = (draw_with_resvg(document, size, s) for s in (1, 8))
    image = draw(document, theirs.shape[2], theirs.shape[1])
    pairs = (image, theirs), (image, truth), (theirs, truth)
    to_resvg, to_truth, resvg_to_truth = (float(psnr(*pair, most=120.0)) for pair in pairs)
    return Score(name, to_resvg, to_truth, resvg_to_truth, document.unsupported)


def compare(
    files: tuple[Path, ...] = (), icons: tuple[Path, ...] = (), count: int = 200, size: int = 512, worst: int = 15
) -> None:
    """Print how close each drawing is to resvg's and to the truth.

    Args:
        files: SVG files.
        icons: Files icons.json of Iconify packages.
        count: How many icons to draw at random from all those sets together.
        size: Larger side in pixels.
        worst: How many of the drawings to list, the farthest from resvg's first.
    """
    warnings.simplefilter("ignore")
    scores, refused = [], 0
    for name, data in _inputs(files, icons, count):
        try:
            scores.append(score(data, name, size))
        except (UserError, ValueError) as error:
            refused += 1
            print(f"not compared: {name}: {first_line(error)}")
    scores.sort(key=lambda s: s.to_resvg)
    print(f"{'to resvg':>9}{'to truth':>9}{'resvg to truth':>16}  (dB; truth: resvg, 8 × 8 supersampled)")
    for s in scores[:worst]:
        lacks = f"  lacks {', '.join(s.unsupported)}" if s.unsupported else ""
        print(f"{s.to_resvg:9.1f}{s.to_truth:9.1f}{s.resvg_to_truth:16.1f}  {s.name}{lacks}")
    _summary("all", scores)
    _summary("of which nothing is lacking in", [s for s in scores if not s.unsupported])
    if refused:
        print(f"{refused} files could not be compared")


def _summary(what: str, scores: list[Score]) -> None:
    if not scores:
        return
    near, true = sum(s.to_resvg >= 45 for s in scores), sum(s.to_truth >= 45 for s in scores)
    closer = sum(s.to_truth > s.resvg_to_truth for s in scores)
    medians = [statistics.median(values) for values in zip(*(s.decibels for s in scores), strict=True)]
    print(
        f"{what}: {len(scores)} files, {near} at 45 dB or more to resvg, {true} to the truth, "
        f"{closer} closer to the truth than resvg is; "
        f"medians {medians[0]:.1f} to resvg, {medians[1]:.1f} to truth, {medians[2]:.1f} resvg to truth"
    )


BASIC = ("rect", "circle", "ellipse", "line")
"""Elements that should stay what they are."""
AMOUNTS = {"paths": 3.0, "points": 1.0, "widths": 1.0, "colors": 0.05, "opacities": 0.05}
"""Standard deviations of what is changed, in the units of the editor; 1 for all else."""


@dataclass(frozen=True)
class RoundTrip:
    """What became of one file that was edited at random."""

    name: str
    """The file."""
    written: float
    """PSNR in dB of the written file, read again, to the drawing that the editor held."""
    to_resvg: float
    """Of the same to resvg's picture of it."""
    to_truth: float
    """Of the same to resvg's supersampled picture of it."""
    before: float
    """Of the file before the edit to resvg's supersampled picture of that."""
    basic: int
    """How many basic shapes it had."""
    stayed: int
    """How many it still has."""


def round_trip(data: bytes, name: str, size: int, seed: int) -> RoundTrip:
    """Change all that can be edited a little, write it, and read it again.

    Raises:
        UserError: If there is nothing to edit, or the file is refused.
        ValueError: If resvg refuses it.
    """
    document = Document(data, name)
    editor = VectorEditor(document, size)
    generator = torch.Generator().manual_seed(seed)
    for group, change in editor.changes.items():
        change.data += AMOUNTS.get(group, 1.0) * torch.randn(change.shape, generator=generator)
    editor.project()
    again = Document(editor.svg(), name)
    with torch.no_grad():
        held, read = editor.render(), VectorEditor(again, size).render()
    (to_resvg, to_truth), (_, before) = (_to_resvg(drawing, size) for drawing in (again, document))
    # a circle that is stretched is an ellipse
    basic, left = (sum(element.tag in BASIC for element in drawing.elements) for drawing in (document, again))
    return RoundTrip(name, float(psnr(read, held, most=120.0)), to_resvg, to_truth, before, basic, min(basic, left))


def _to_resvg(document: Document, size: int) -> tuple[float, float]:
    """Return the PSNR of a drawing to resvg's picture of it, and to the supersampled one."""
    theirs, truth = (draw_with_resvg(document, size, s) for s in (1, 8))
    image = draw(document, theirs.shape[2], theirs.shape[1])
    return float(psnr(image, theirs, most=120.0)), float(psnr(image, truth, most=120.0))


def edit(
    files: tuple[Path, ...] = (),
    icons: tuple[Path, ...] = (),
    count: int = 200,
    size: int = 256,
    worst: int = 15,
    seed: int = 0,
) -> None:
    """Edit drawings at random, and print what becomes of what is written.

    Args:
        files: SVG files.
        icons: Files icons.json of Iconify packages.
        count: How many icons to take at random from all those sets together.
        size: Larger side in pixels.
        worst: How many of the drawings to list, by their distance from what the editor held.
        seed: Of the changes.
    """
    warnings.simplefilter("ignore")
    trips, refused = [], 0
    for name, data in _inputs(files, icons, count):
        try:
            trips.append(round_trip(data, name, size, seed))
        except (UserError, ValueError) as error:
            refused += 1
            print(f"left out: {first_line(error)}")
    trips.sort(key=lambda trip: trip.written)
    print(f"{'written':>8}{'to resvg':>9}{'to truth':>9}{'before':>8}  (dB; truth: resvg, 8 × 8 supersampled)")
    falls = sorted((t for t in trips if t.to_truth < min(45.0, t.before - 3)), key=lambda trip: trip.to_truth)
    for trip, mark in (*((trip, "") for trip in trips[:worst]), *((trip, "falls: ") for trip in falls[:worst])):
        print(f"{trip.written:8.1f}{trip.to_resvg:9.1f}{trip.to_truth:9.1f}{trip.before:8.1f}  {mark}{trip.name}")
    basic, stayed = sum(trip.basic for trip in trips), sum(trip.stayed for trip in trips)
    figures = zip(*((trip.written, trip.to_resvg, trip.to_truth, trip.before) for trip in trips), strict=True)
    medians = [statistics.median(values) for values in figures]
    print(
        f"{len(trips)} files, {refused} left out: {sum(trip.written >= 45 for trip in trips)} written at 45 dB or more "
        f"to what was held; {len(falls)} fall below 45 dB to the truth, by more than 3;"
        f" medians {medians[0]:.1f} written, "
        f"{medians[1]:.1f} to resvg, {medians[2]:.1f} to the truth, {medians[3]:.1f} before; "
        f"{stayed} of {basic} basic shapes stay"
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
            document = Document(damaged, name)
            scale = size / max(document.size)
            image = draw(document, *(max(1, round(side * scale)) for side in document.size))
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
    tyro.extras.subcommand_cli_from_dict({"compare": compare, "edit": edit, "mutate": mutate})
