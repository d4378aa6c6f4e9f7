"""Time the rasterisers, forward and backward, on random drawings.

`discs`: the one in PyTorch, on a GPU the tiled one in Triton beside it, and pydiffvg where that is installed.
`curves`: this package's fastest one on the work that Bézier Splatting (arXiv 2503.16424) is timed on.
`file`: how long it takes to read and write a file of many segments.

python scripts/speed_drawings.py discs --threads 2
python scripts/speed_drawings.py discs --device cuda --canvas 512 --paths 50 100 200 300 --repeats 30
python scripts/speed_drawings.py curves --device cuda --repeats 30
python scripts/speed_drawings.py file --kind paths
"""

import importlib.util
import math
import random
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY
from pds_nerfstudio.vector.raster.backend import Renderer, exact
from pds_nerfstudio.vector.raster.diffvg import DiffvgRenderer
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Fill, Scene, SceneParameters, Shape, Solid, Stroke
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.document import Document


@dataclass
class _Timing:
    """Where and how often to measure."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run."""
    threads: int = 2
    """CPU threads."""
    repeats: int = 9
    """Times each measurement, of which the median is shown."""

    def _begin(self, what: str) -> None:
        torch.set_num_threads(self.threads)
        where = torch.cuda.get_device_name() if self.device == "cuda" else f"CPU, {self.threads} threads"
        print(f"{where}; milliseconds, {what}")

    def _time(self, forward: Callable[[], Tensor]) -> "_Time":
        weight = torch.randn_like(forward())
        both, first, second = [], [], []
        for _ in range(self.repeats + 2):
            marks = [self._now()]
            image = forward()
            marks.append(self._now())
            (image * weight).sum().backward()
            marks.append(self._now())
            first.append(self._between(*marks[:2]))
            second.append(self._between(*marks[1:]))
            both.append(self._between(marks[0], marks[2]))
        return _Time(*(statistics.median(times[2:]) for times in (both, first, second)))

    def _now(self) -> Any:
        """Return a moment, on the GPU's own clock if that is what works."""
        if self.device == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        """Return milliseconds."""
        if self.device == "cpu":
            return 1e3 * (end - start)
        end.synchronize()
        return start.elapsed_time(end)


@dataclass
class Discs(_Timing):
    """The time of a picture forward and backward.

    On a GPU with Triton, the tiled rasteriser is timed beside the one in PyTorch and compared with it: the largest
    difference between the pictures, and the gradients' distance relative to their length.
    """

    canvas: tuple[int, ...] = (128, 256, 512)
    """Canvas sides in pixels."""
    paths: tuple[int, ...] = (50, 200)
    """Numbers of paths: closed contours of four cubics, radius 3 to 15 % of the canvas, half transparent."""
    strokes: bool = False
    """Give every path a stroke two pixels wide as well."""

    def run(self) -> None:
        """Print one line for each canvas and number of paths."""
        self._begin("forward + backward (forward alone)")
        for side in self.canvas:
            for count in self.paths:
                print(f"{side:5d}² {count:5d} paths  {self._line(*random_drawing(count, side, self.strokes), side)}")

    def _line(self, scene: Scene, parameters: SceneParameters, side: int) -> str:
        numbers = parameters.map(lambda t: t.to(self.device).requires_grad_())
        reference = self._time(_drawn(Rasterizer(scene), numbers, (side, side)))
        line = f"pytorch {reference}"
        if self.device == "cuda" and importlib.util.find_spec("triton") is not None:
            from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

            tiled = TiledRasterizer(scene)
            time = self._time(_drawn(tiled, numbers, (side, side)))
            picture, gradient = _errors(Rasterizer(scene), tiled, numbers, (side, side))
            ratio = reference.both / time.both
            line += f"  tiled {time}  {ratio:5.1f} times as fast; off by {picture:.1e}, gradient by {gradient:.1e}"
        if importlib.util.find_spec("pydiffvg") is not None:
            line += f"  pydiffvg {self._time(_drawn(DiffvgRenderer(scene), numbers, (side, side)))}"
        return line


@dataclass
class Curves(_Timing):
    """The time of a picture of many curves forward, and backward, beside that of Bézier Splatting.

    As there, an open curve is three cubics with a width, and a closed one has two; these here together cover the canvas
    about once and 2.5 times. Their times are those of the paper's page, on an RTX 4090.
    """

    size: tuple[int, int] = (2040, 1344)
    """Width and height of the canvas in pixels."""
    curves: int = 2048
    """How many there are."""

    def run(self) -> None:
        """Print one line for open and one for closed curves."""
        self._begin(f"forward, backward; {self.curves} curves at {self.size[0]}×{self.size[1]}")
        for closed, theirs in ((False, "4.5, 4.7"), (True, "14.1, 24.6")):
            scene, parameters = random_curves(self.curves, self.size, closed)
            numbers = parameters.map(lambda t: t.to(self.device).requires_grad_())
            time = self._time(_drawn(exact(scene), numbers, self.size))
            print(f"{'closed' if closed else 'open':6s}  {time.forward:8.2f}, {time.backward:8.2f}  (theirs {theirs})")


@dataclass
class File:
    """The time of reading a file of many segments, and the memory that takes."""

    kind: Literal["path", "paths", "polygon"] = "path"
    """One path of curves, paths of ten curves each, or one polygon."""
    segments: int = 1_000_000
    """How many there are."""

    def run(self) -> None:
        """Print seconds of CPU time, and the most memory of this process before and after."""
        data = self._data()
        marks, memory = [time.process_time()], [_peak_megabytes()]
        document = Document(data)
        marks.append(time.process_time())
        memory.append(_peak_megabytes())
        moved = replace(document.parameters, points=document.parameters.points + 0.25)
        document.write(moved)
        marks.append(time.process_time())
        print(
            f"{self.kind}, {self.segments} segments, {len(data) / 2**20:.1f} MiB: read in {marks[1] - marks[0]:.1f} s, "
            f"written with all moved in {marks[2] - marks[1]:.1f} s; "
            f"{memory[1] - memory[0]:.0f} MiB on top of {memory[0]:.0f}"
        )

    def _data(self) -> bytes:
        chance = random.Random(0)

        def numbers(count: int, low: float, high: float) -> str:
            return " ".join(f"{chance.uniform(low, high):.1f}" for _ in range(count))

        def path(count: int) -> str:
            return f'<path d="M{numbers(2, 0, 1000)}{"".join(f"c{numbers(6, -3, 3)}" for _ in range(count))}"/>'

        if self.kind == "polygon":
            body = f'<polygon points="{numbers(2 * self.segments, 0, 1000)}"/>'
        else:
            each = 10 if self.kind == "paths" else self.segments
            body = "".join(path(each) for _ in range(self.segments // each))
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 1000">{body}</svg>'.encode()


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class _Time:
    """Milliseconds of one picture."""

    both: float
    """Forward and backward."""
    forward: float
    """Forward alone."""
    backward: float
    """Backward alone."""

    def __str__(self) -> str:
        return f"{self.both:8.2f} ({self.forward:.2f})"


def random_drawing(paths: int, side: int, strokes: bool) -> tuple[Scene, SceneParameters]:
    """Return wobbly discs all over a canvas, the same for the same arguments."""
    generator = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float, n: int = 1) -> list[float]:
        return (low + (high - low) * torch.rand(n, generator=generator)).tolist()

    builder, shapes = SceneBuilder(), []
    for _ in range(paths):
        (x, y), (radius,) = uniform(0, side, 2), uniform(0.03 * side, 0.15 * side)
        radii = uniform(0.85 * radius, 1.15 * radius, 12)
        points = [(x + r * math.cos(k * math.pi / 6), y + r * math.sin(k * math.pi / 6)) for k, r in enumerate(radii)]
        segments = [(3 * k, 3 * k + 1, 3 * k + 2, (3 * k + 3) % 12) for k in range(4)]
        path = builder.add_path(points, [(segments, True)])
        fill = Fill(Solid(builder.add_color(*uniform(0, 1, 3))), (builder.add_opacity(*uniform(0.5, 1)),))
        stroke = Stroke(Solid(builder.add_color(0, 0, 0)), builder.add_width(2)) if strokes else None
        shapes.append(Shape(path, fill=fill, stroke=stroke))
    return builder.build(shapes)


def random_curves(count: int, size: tuple[int, int], closed: bool) -> tuple[Scene, SceneParameters]:
    """Return curves all over a canvas: strokes along three cubics, or fills between two; the same for the same size."""
    chance, builder, shapes = random.Random(0), SceneBuilder(), []
    step = 0.021 * max(size) if closed else 0.006 * max(size)
    for _ in range(count):
        x, y, heading = chance.uniform(0, size[0]), chance.uniform(0, size[1]), chance.uniform(0, 2 * math.pi)
        points = []
        for _ in range(6 if closed else 10):
            heading += math.pi / 3 if closed else chance.uniform(-0.5, 0.5)
            far = step * chance.uniform(0.7, 1.3)
            x, y = x + far * math.cos(heading), y + far * math.sin(heading)
            points.append((x, y))
        segments = [(0, 1, 2, 3), (3, 4, 5, 0)] if closed else [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 9)]
        path = builder.add_path(points, [(segments, closed)])
        paint = Solid(builder.add_color(chance.random(), chance.random(), chance.random()))
        opacity = (builder.add_opacity(chance.uniform(0.5, 1)),)
        stroke = None if closed else Stroke(paint, builder.add_width(step * chance.uniform(0.5, 1.5)), opacity)
        shapes.append(Shape(path, fill=Fill(paint, opacity) if closed else None, stroke=stroke))
    return builder.build(shapes)


def _drawn(renderer: Renderer, numbers: SceneParameters, size: tuple[int, int]) -> Callable[[], Tensor]:
    width, height = size
    background = torch.ones(3, height, width, device=numbers.points.device)
    return lambda: renderer.render(numbers, width, height, IDENTITY, background)


def _errors(
    reference: Renderer, other: Renderer, numbers: SceneParameters, size: tuple[int, int]
) -> tuple[float, float]:
    """Return the largest difference between pictures, and the relative distance of the gradients by everything."""
    pictures, gradients = [], []
    for renderer in (reference, other):
        picture = _drawn(renderer, numbers, size)()
        pictures.append(picture.detach())
        weight = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)).to(picture)
        used = [t for t in vars(numbers).values() if t.numel()]
        parts = torch.autograd.grad((picture * weight).sum(), used)
        gradients.append(torch.cat([p.flatten() for p in parts]))
    distance = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    return float((pictures[1] - pictures[0]).abs().max()), float(distance)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"discs": Discs, "curves": Curves, "file": File}).run()
