"""Time the rasterisers, forward and backward, on random drawings.

The one in PyTorch, on a GPU the tiled one in Triton beside it, and pydiffvg where that is installed.

python scripts/speed_drawings.py --threads 2
python scripts/speed_drawings.py --device cuda --canvas 512 --paths 50 100 200 300 --repeats 30
"""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY
from pds_nerfstudio.vector.raster.backend import Renderer
from pds_nerfstudio.vector.raster.diffvg import DiffvgRenderer
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Fill, Scene, SceneParameters, Shape, Solid, Stroke
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder


@dataclass
class Benchmark:
    """The time of a picture forward and backward."""

    canvas: tuple[int, ...] = (128, 256, 512)
    """Canvas sides in pixels."""
    paths: tuple[int, ...] = (50, 200)
    """Numbers of paths: closed contours of four cubics, radius 3 to 15 % of the canvas, half transparent."""
    strokes: bool = False
    """Give every path a stroke two pixels wide as well."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run. On a GPU with Triton, the tiled rasteriser is timed beside the one in PyTorch and compared with it:
    the largest difference between the pictures, and the gradients' distance relative to their length."""
    threads: int = 2
    """CPU threads."""
    repeats: int = 9
    """Times each measurement, of which the median is shown."""

    def run(self) -> None:
        """Print one line for each canvas and number of paths."""
        torch.set_num_threads(self.threads)
        where = torch.cuda.get_device_name() if self.device == "cuda" else f"CPU, {self.threads} threads"
        print(f"{where}; milliseconds, forward + backward (forward alone)")
        for side in self.canvas:
            for count in self.paths:
                print(f"{side:5d}² {count:5d} paths  {self._line(*random_drawing(count, side, self.strokes), side)}")

    def _line(self, scene: Scene, parameters: SceneParameters, side: int) -> str:
        numbers = parameters.map(lambda t: t.to(self.device).requires_grad_())
        reference = self._time(_drawn(Rasterizer(scene), numbers, side))
        line = f"pytorch {reference}"
        if self.device == "cuda" and importlib.util.find_spec("triton") is not None:
            from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

            tiled = TiledRasterizer(scene)
            time = self._time(_drawn(tiled, numbers, side))
            picture, gradient = _errors(Rasterizer(scene), tiled, numbers, side)
            ratio = reference.both / time.both
            line += f"  tiled {time}  {ratio:5.1f} times as fast; off by {picture:.1e}, gradient by {gradient:.1e}"
        if importlib.util.find_spec("pydiffvg") is not None:
            line += f"  pydiffvg {self._time(_drawn(DiffvgRenderer(scene), numbers, side))}"
        return line

    def _time(self, forward: Callable[[], Tensor]) -> "_Time":
        weight = torch.randn_like(forward())
        both, first = [], []
        for _ in range(self.repeats + 2):
            marks = [self._now()]
            image = forward()
            marks.append(self._now())
            (image * weight).sum().backward()
            marks.append(self._now())
            first.append(self._between(*marks[:2]))
            both.append(self._between(marks[0], marks[2]))
        return _Time(statistics.median(both[2:]), statistics.median(first[2:]))

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


@dataclass(frozen=True)
class _Time:
    """Milliseconds of one picture."""

    both: float
    """Forward and backward."""
    forward: float
    """Forward alone."""

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


def _drawn(renderer: Renderer, numbers: SceneParameters, side: int) -> Callable[[], Tensor]:
    background = torch.ones(3, side, side, device=numbers.points.device)
    return lambda: renderer.render(numbers, side, side, IDENTITY, background)


def _errors(reference: Renderer, other: Renderer, numbers: SceneParameters, side: int) -> tuple[float, float]:
    """Return the largest difference between pictures, and the relative distance of the gradients by everything."""
    pictures, gradients = [], []
    for renderer in (reference, other):
        picture = _drawn(renderer, numbers, side)()
        pictures.append(picture.detach())
        weight = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)).to(picture)
        used = [t for t in vars(numbers).values() if t.numel()]
        parts = torch.autograd.grad((picture * weight).sum(), used)
        gradients.append(torch.cat([p.flatten() for p in parts]))
    distance = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    return float((pictures[1] - pictures[0]).abs().max()), float(distance)


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
