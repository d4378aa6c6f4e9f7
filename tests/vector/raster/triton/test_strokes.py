"""Outlines of strokes by Triton's kernels beside those by PyTorch."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine, largest_scale
from pds_nerfstudio.vector.raster.outlines import stroke_edges
from pds_nerfstudio.vector.raster.rasterizer import TOLERANCE, Rasterizer
from pds_nerfstudio.vector.raster.scene import Cap, Join, Scene, SceneParameters, Shape, Solid, Stroke
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TURNED: Affine = (0.9, 0.35, -0.2, 1.2, 3.1, -4.3)
Build = Callable[[SceneBuilder], int]
Outlined = tuple[Tensor, Tensor, list[Tensor]]
"""What is compared of outlines; see `_outlined`."""


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests below run here")
def test_all_below_in_the_interpreter(passes_in_the_interpreter: Callable[[str], None]) -> None:
    passes_in_the_interpreter(__file__)


@pytest.fixture(autouse=True)
def _where_triton_runs(request: pytest.FixtureRequest) -> None:
    if DEVICE == "cpu" and not INTERPRETED and "interpreter" not in request.node.name:
        pytest.skip("runs in the interpreter, in a process of its own")


def _outlined(edges_of: Callable[[SceneParameters], tuple[Tensor, ...]], numbers: SceneParameters) -> Outlined:
    """Return the number of edges, a moment of what they go around for each region, and its gradients."""
    edges, region, *_ = edges_of(numbers)
    (x0, y0), (x1, y1) = edges[:, 0].unbind(1), edges[:, 1].unbind(1)
    # no symmetry, so that no error cancels another
    weight = torch.cos(0.05 * (x0 + x1)) + 0.02 * (y0 + y1)
    regions = int(region.max()) + 1
    moments = edges.new_zeros(regions).index_add(0, region.long(), (x0 * y1 - x1 * y0) * weight)
    (moments * torch.linspace(0.5, 2, regions).to(moments)).sum().backward()
    gradients = [getattr(numbers, name).grad.double().cpu() for name in ("points", "widths")]
    return torch.bincount(region).cpu(), moments.detach().double().cpu(), gradients


def _assert_alike(scene: Scene, parameters: SceneParameters) -> None:
    from pds_nerfstudio.vector.raster.triton.program import canvas_maps
    from pds_nerfstudio.vector.raster.triton.stroking import make_stroke_table, tiled_stroke_edges

    plan, on_device = Rasterizer(scene).plan, Rasterizer(scene).plan_on(torch.device(DEVICE))
    maps = canvas_maps(plan.transforms, IDENTITY)
    matrices = maps.view(-1, 3, 2).transpose(1, 2).double()
    stretch = torch.tensor([largest_scale(plan.transforms[region]) for region in plan.stroke_regions])

    def expected(numbers: SceneParameters) -> tuple[Tensor, ...]:
        return stroke_edges(plan, numbers, matrices, stretch.double(), TOLERANCE)

    def found(numbers: SceneParameters) -> tuple[Tensor, ...]:
        table = make_stroke_table(on_device)
        return tiled_stroke_edges(table, numbers.points, numbers.widths, maps.to(DEVICE), stretch.to(DEVICE), TOLERANCE)

    reference = _outlined(expected, parameters.map(lambda t: t.double().requires_grad_()))
    ours = _outlined(found, parameters.map(lambda t: t.to(DEVICE).requires_grad_()))
    assert ours[0].tolist() == reference[0].tolist()
    torch.testing.assert_close(ours[1], reference[1], rtol=1e-4, atol=1e-3)
    for ours_, expected_ in zip(ours[2], reference[2], strict=True):
        assert (ours_ - expected_).norm() < 1e-4 * expected_.norm()


def _stroked(build: Build, width: float, transform: Affine = IDENTITY, **style: Any) -> tuple[Scene, SceneParameters]:
    builder = SceneBuilder()
    stroke = Stroke(Solid(builder.add_color(0.2, 0.5, 0.9)), builder.add_width(width), **style)
    return builder.build([Shape(build(builder), transform, stroke=stroke)])


def _corner(builder: SceneBuilder, closed: bool = False, turn: float = 2.0) -> int:
    points = [(6.2, 20.1), (19.3, 20.4), (19.3 + 13 * math.cos(turn), 20.4 + 13 * math.sin(turn))]
    return builder.add_polygon(points, closed)


@pytest.mark.parametrize("cap", list(Cap))
@pytest.mark.parametrize("join", list(Join))
@pytest.mark.parametrize("closed", [False, True])
def test_caps_and_joins_of_corners(cap: Cap, join: Join, closed: bool) -> None:
    _assert_alike(*_stroked(partial(_corner, closed=closed), 3.7, TURNED, cap=cap, join=join))


@pytest.mark.parametrize("turn", [-3.05, -1.2, -0.02, 0.4, 2.5, 3.12])
@pytest.mark.parametrize("limit", [1.1, 4.0, 30.0])
def test_turns_of_all_sharpness_either_way(turn: float, limit: float) -> None:
    _assert_alike(*_stroked(partial(_corner, turn=turn), 4.4, miter_limit=limit))


TIGHT = {
    "hairpin": [(10, 34), (20, -14), (23, -14), (33, 35)],
    "cusp": [(8, 28), (38, 8), (3, 8), (33, 29)],
    "loop": [(9, 28), (45, 6), (-4, 6), (31, 30)],
}


@pytest.mark.parametrize("name", TIGHT)
@pytest.mark.parametrize("width", [1.1, 9.3])
def test_curves_wider_than_they_are_round(name: str, width: float) -> None:
    def build(builder: SceneBuilder) -> int:
        return builder.add_path(TIGHT[name], [([(0, 1, 2, 3)], False)])

    _assert_alike(*_stroked(build, width, cap=Cap.ROUND, join=Join.ROUND))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("cap", list(Cap))
def test_points_have_caps_alone(closed: bool, cap: Cap) -> None:
    """A contour of no length draws its caps, or nothing; one of the others keeps the picture from being empty."""

    def build(builder: SceneBuilder) -> int:
        here = [(0, 0, 0, 0), (0, 0, 0, 0)]
        return builder.add_path([(12.3, 14.1), (30.2, 8.4), (33.1, 30.2)], [(here, closed), ([(1, 1, 2, 2)], False)])

    _assert_alike(*_stroked(build, 6.3, TURNED, cap=cap))


@pytest.mark.parametrize("closed", [False, True])
def test_pieces_without_length_are_passed_over(closed: bool) -> None:
    """Before, between and behind the others; a corner stays one, and a curve that goes on stays smooth."""
    points = [(6.1, 9.2), (20.4, 12.2), (27.3, 31.4), (9.2, 25.1)]
    lines = [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 2, 2), (2, 2, 3, 3), (3, 3, 3, 3)]
    if closed:
        lines += [(3, 3, 0, 0), (0, 0, 0, 0)]
    _assert_alike(*_stroked(lambda b: b.add_path(points, [(lines, closed)]), 5.2, join=Join.MITER, cap=Cap.SQUARE))


def test_dashes_are_cut_in_pytorch_and_outlined_here() -> None:
    style: dict[str, Any] = {"dashes": (5.0, 3.5), "dash_offset": 1.2, "cap": Cap.ROUND}
    _assert_alike(*_stroked(partial(_corner, closed=True), 2.6, TURNED, **style))


def test_many_strokes_share_points_and_widths() -> None:
    """Gradients of what several contours have in common add up; a negative width draws nothing and has none."""
    chance, builder = random.Random(3), SceneBuilder()
    widths = [builder.add_width(width) for width in (1.3, 2.9, -1.0)]
    shapes = []
    for k in range(9):
        points = [(chance.uniform(3, 37), chance.uniform(3, 37)) for _ in range(6)]
        contours = [([(0, 1, 2, 3), (3, 4, 5, 0)], True), ([(1, 2, 4, 5)], False)]
        paint = Solid(builder.add_color(chance.random(), chance.random(), chance.random()))
        join, cap = list(Join)[k % 3], list(Cap)[k // 3]
        stroke = Stroke(paint, widths[k % 3], (builder.add_opacity(0.7),), cap, join)
        shapes.append(Shape(builder.add_path(points, contours), TURNED if k % 2 else IDENTITY, stroke=stroke))
    _assert_alike(*builder.build(shapes))


def test_without_a_chord_nothing_is_launched() -> None:
    from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

    def build(builder: SceneBuilder) -> int:
        return builder.add_polygon([(8.0, 8.0), (9.0, 8.0)], closed=False)

    scene, parameters = _stroked(build, 2.0, dashes=(0.1, 1000.0), dash_offset=50.0)
    picture = TiledRasterizer(scene).render(parameters.map(lambda t: t.to(DEVICE)), 40, 40, IDENTITY, None)
    assert picture.abs().max() == 0
