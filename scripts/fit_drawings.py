"""Fit real drawings to pictures of them that were edited by hand, to judge the fit by itself.

    python scripts/fit_drawings.py --out outputs/fit-drawings

Each draft is the drawing with one change that a designer would make (another colour, a part moved, reshaped, added
or removed), rendered by resvg. No diffusion model takes part. For each drawing a line says how near the fit is to the
draft, what it took, and how much of what was not to change is still there to the byte; a sheet shows source, draft and
fit.
"""

from __future__ import annotations

import io
import json
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import resvg_py
import torch
import tyro
from PIL import Image

from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.given_draft import on_canvas
from pds_nerfstudio.vector.edit.loop import VectorEditConfig, VectorEditLoop
from pds_nerfstudio.vector.svg.document import Document

DRAWINGS = Path(__file__).resolve().parents[1] / "examples" / "svg"
SHAPE = re.compile(r"<(?:path|circle|ellipse|rect|line|polygon|polyline)\b[^>]*>")
Change = Callable[[str], str]
"""Of one shape's start tag."""


def paint(color: str) -> Change:
    """Give a shape another fill."""

    def change(tag: str) -> str:
        plain = re.sub(r'\sfill="[^"]*"', "", tag)
        return re.sub(r"^<(\w+)", rf'<\1 fill="{color}"', plain)

    return change


def place(transform: str) -> Change:
    """Put a shape elsewhere."""
    return lambda tag: re.sub(r"^<(\w+)", rf'<\1 transform="{transform}"', tag)


def drop(tag: str) -> str:
    """Remove a shape."""
    return ""


@dataclass(frozen=True)
class Pull:
    """Draws a part of outlines somewhere else, and what is around less far."""

    shapes: Sequence[int]
    """Numbers of the shapes, in the file's order."""
    x: float
    """Where it is, in the units of the outlines."""
    y: float
    """The same, downwards."""
    reach: float
    """How far away points follow by 60 %."""
    dx: float
    """How far it goes."""
    dy: float
    """The same, downwards."""

    def done_to(self, svg: str) -> str:
        """Return a drawing with the part pulled."""
        document = Document(svg.encode())
        starts = [match.start() for match in SHAPE.finditer(svg)]
        points, center = document.parameters.points.clone(), torch.tensor([self.x, self.y])
        for path in document.paths:
            if path.element.start in starts and starts.index(path.element.start) in self.shapes:
                rows = slice(path.first, path.first + len(path.source.outline.points))
                away = (points[rows] - center).norm(dim=1, keepdim=True) / self.reach
                points[rows] += (-away.square() / 2).exp() * torch.tensor([self.dx, self.dy])
        return document.write(replace(document.parameters, points=points)).decode()


@dataclass(frozen=True)
class Edit:
    """One change of one drawing."""

    drawing: str
    """Its file below examples/svg, without the suffix."""
    what: str
    """What is changed, in words."""
    changes: Sequence[tuple[Sequence[int], Change]] = ()
    """Numbers of shapes, in the file's order, and what becomes of them."""
    added: str = ""
    """Markup that is put on top of all."""
    pulls: Sequence[Pull] = ()
    """What of its outlines is pulled."""

    def draft(self, svg: str) -> str:
        """Return the drawing as it should look."""
        of = {number: change for numbers, change in self.changes for number in numbers}
        count = iter(range(len(svg)))
        changed = SHAPE.sub(lambda tag: of.get(next(count), lambda same: same)(tag[0]), svg)
        for pull in self.pulls:
            changed = pull.done_to(changed)
        return changed.replace("</svg>", f"{self.added}</svg>")

    def untouched(self, svg: str) -> list[str]:
        """Return the tags of the shapes that are not changed."""
        parts = [*(numbers for numbers, _ in self.changes), *(pull.shapes for pull in self.pulls)]
        touched = {number for numbers in parts for number in numbers}
        return [tag for number, tag in enumerate(SHAPE.findall(svg)) if number not in touched]


EDITS = (
    Edit("fluent-emoji-flat/fox", "grey fur", [([0], paint("#8a93a6")), ([1], paint("#6b7387"))]),
    Edit("fluent-emoji-flat/man-mage", "purple hat", [([0, 3], paint("#7a3fb0"))]),
    Edit("fluent-emoji-flat/parrot", "green feathers", [([0], paint("#2fa84f"))]),
    Edit("fluent-emoji-flat/princess", "no crown", [([16, 17, 18, 19, 20], drop)]),
    Edit("fluent-emoji-flat/snowman", "hat to the right", [([5, 6], place("translate(4 .6)"))]),
    Edit(
        "fluent-emoji-flat/teddy-bear",
        "a bow tie",
        added='<path fill="#d02040" d="M16 16L12 13.8V18.2ZM16 16L20 13.8V18.2Z"/>',
    ),
    Edit("fluent-emoji-flat/top-hat", "green band", [([2], paint("#2f9e44"))]),
    Edit("noto-v1/owl", "looking aside", [([3, 6, 22, 23], place("translate(3.5 2)"))]),
    Edit(
        "noto-v1/penguin",
        "a scarf",
        added='<path fill="#d02040" d="M44 44C58 50 74 49 84 42L88 51C74 60 54 61 40 53Z"/>',
    ),
    Edit("noto-v1/princess", "red hair", [([0, 1, 8], paint("#c8502b"))]),
    Edit("noto-v1/rainbow", "no innermost band", [([5], drop)]),
    Edit("noto-v1/top-hat", "green ribbon", [([3], paint("#2e9e6b"))]),
    Edit("noto-v1/unicorn", "pink horn", [([29], paint("#e8589b"))]),
    Edit("noto/astronaut", "green face", [([17], paint("#7fc46a"))]),
    Edit("noto/balloon", "blue", [([1, 2], paint("#3f7de0")), ([3], paint("#2450a0"))]),
    Edit("noto/locomotive", "no smoke", [([1, 2], drop)]),
    Edit(
        "noto/octopus",
        "a hat",
        added='<path fill="#303040" d="M84 34L118 26L116 20L110 21L106 4L84 9L88 27L82 28Z"/>',
    ),
    Edit("noto/robot", "its light moved", [([2], place("rotate(24 64 36)"))]),
    Edit(
        "noto/sailboat",
        "a pennant",
        added='<path fill="#2050c0" d="M75 4L104 10L75 18Z"/>',
    ),
    Edit("noto/rocket", "no flame", [([4, 5, 6], drop)]),
    Edit("noto/balloon", "flatter", pulls=[Pull([2], 64, 0, 28, 0, 12)]),
    Edit("noto/sailboat", "its front sail in the wind", pulls=[Pull([2], 109, 92, 22, 9, -16)]),
    Edit("noto-v1/penguin", "a raised wing", pulls=[Pull([1], 12, 92, 18, -6, -18)]),
    Edit("noto/rocket", "a larger fin", pulls=[Pull([7, 8], 13, 78, 14, -5, 9)]),
    Edit("fluent-emoji-flat/teddy-bear", "a longer ear", pulls=[Pull([0], 6, 3, 2.2, -1.5, -1.5)]),
)


@dataclass
class Options:
    """What to fit, and how."""

    out: Path = Path("outputs/fit-drawings")
    """Folder of the results."""
    canvas: int = 256
    """Pixels on a side of the drafts and of the fit."""
    only: tuple[str, ...] = ()
    """Drawings or changes to fit, such as noto/rocket or "no flame"; all by default."""


@dataclass(frozen=True)
class Row:
    """What came of one drawing."""

    drawing: str
    """Its name."""
    what: str
    """What was changed."""
    before: float
    """dB from the drawing to the draft."""
    after: float
    """dB from the fit to the draft, as resvg renders both."""
    nodes: float
    """Nodes drawn after, as a multiple of those before."""
    needed: float
    """The same of the draft's own file."""
    colors: int
    """Plain colours more than before."""
    kept: float
    """Share of the shapes that were not to change that are still there, to the byte."""
    report: str
    """What the fit says it did."""
    seconds: float
    """How long it took."""


def rendered(svg: str, side: int) -> Image.Image:
    """Return a drawing as resvg renders it, on white, in the middle of a square."""
    data = bytes(resvg_py.svg_to_bytes(svg, width=side, height=side))
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.convert("RGB")


def decibels(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two pictures, at most 100."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(-10 * np.log10(max((difference**2).mean() / 255**2, 1e-10)))


def nodes(svg: str) -> int:
    """Return how many curves and lines a drawing has."""
    return sum(len(part) for path in Document(svg.encode()).paths for part, _ in path.source.outline.contours)


def colors(svg: str) -> int:
    """Return how many plain colours a drawing is painted with."""
    return len((Document(svg.encode()).parameters.colors * 255).round().unique(dim=0))


def fit(edit: Edit, options: Options) -> tuple[Row, Image.Image]:
    """Fit one drawing to its draft; return what came of it, and a sheet of source, draft and fit."""
    source = (DRAWINGS / f"{edit.drawing}.svg").read_text()
    draft, side = edit.draft(source), options.canvas
    document, config = Document(source.encode(), edit.drawing), VectorEditConfig()
    editor = VectorEditor(document, side, config.groups)
    picture = Picture(np.asarray(rendered(draft, side)), "RGB")
    goal = on_canvas(picture, (1.0, 1.0), config.augmentation.plain(side, torch.zeros(1)), None)
    began = time.perf_counter()
    loop = VectorEditLoop(editor, None, config, picture=goal)
    while loop.done < loop.steps:
        loop.step()
    after, seconds = editor.svg().decode(), time.perf_counter() - began
    name = f"{edit.drawing}-{edit.what}".replace("/", "-").replace(" ", "-")
    (options.out / f"{name}.svg").write_text(after)
    pictures = [rendered(svg, 384) for svg in (source, draft, after)]
    sheet = Image.new("RGB", (3 * 384, 384), "white")
    for number, shown in enumerate(pictures):
        sheet.paste(shown, (number * 384, 0))
    sheet.save(options.out / f"{name}.png")
    untouched = edit.untouched(source)
    row = Row(
        edit.drawing,
        edit.what,
        decibels(pictures[0], pictures[1]),
        decibels(pictures[2], pictures[1]),
        nodes(after) / nodes(source),
        nodes(draft) / nodes(source),
        colors(after) - colors(source),
        sum(tag in after for tag in untouched) / max(len(untouched), 1),
        "" if loop.path_fit is None else str(loop.path_fit.report),
        seconds,
    )
    return row, sheet


def main(options: Options) -> None:
    """Fit all, and leave sheets, a table and the numbers."""
    warnings.simplefilter("ignore")  # what these files have that is not edited
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    print("| drawing | change | dB before | dB after | nodes (of the draft) | new colours | kept | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for edit in EDITS:
        if not options.only or {edit.drawing, edit.what} & set(options.only):
            row, _ = fit(edit, options)
            rows.append(row)
            print(
                f"| {row.drawing} | {row.what} | {row.before:.1f} | {row.after:.1f} "
                f"| {row.nodes:.2f} ({row.needed:.2f}) | {row.colors:+d} | {row.kept:.2f} | {row.seconds:.0f} |",
                flush=True,
            )
    (options.out / "fits.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    mean = [float(np.mean([getattr(row, name) for row in rows])) for name in ("before", "after", "nodes", "kept")]
    print("Means: {:.1f} dB before, {:.1f} dB after, nodes × {:.2f}, {:.3f} kept".format(*mean))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
