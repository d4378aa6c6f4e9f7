import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Cap, Join, Shape, Solid, Stroke
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from tests.vector.conftest import SceneCheck

K = 0.5522847498

Build = Callable[[SceneBuilder], int]


def _render(
    build: Build,
    width: float,
    size: int = 64,
    tolerance: float = 1e-3,
    transform: Affine = (1, 0, 0, 1, 0, 0),
    **style: Any,
) -> Tensor:
    """Return the alpha of one stroked path."""
    builder = SceneBuilder()
    path = build(builder)
    stroke = Stroke(Solid(builder.add_color(0, 0, 0)), builder.add_width(width), **style)
    scene, parameters = builder.build([Shape(path, transform, stroke=stroke)])
    return Rasterizer(scene, tolerance).render(parameters.map(lambda t: t.double()), size, size)[3]


def _polyline(*points: tuple[float, float], closed: bool = False) -> Build:
    return lambda builder: builder.add_polygon(points, closed)


def _circle(x: float, y: float, r: float) -> Build:
    k = K * r
    points = [
        (x + r, y),
        (x + r, y + k),
        (x + k, y + r),
        (x, y + r),
        (x - k, y + r),
        (x - r, y + k),
        (x - r, y),
    ]
    points += [(x - r, y - k), (x - k, y - r), (x, y - r), (x + k, y - r), (x + r, y - k)]
    segments = [(3 * i, 3 * i + 1, 3 * i + 2, (3 * i + 3) % 12) for i in range(4)]
    return lambda builder: builder.add_path(points, [(segments, True)])


@pytest.mark.parametrize(("cap", "extra"), [(Cap.BUTT, 0), (Cap.SQUARE, 36), (Cap.ROUND, 9 * math.pi)])
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0, math.pi])
def test_area_of_a_line_with_caps(cap: Cap, extra: float, angle: float) -> None:
    end = (32 + 20 * math.cos(angle), 32 + 20 * math.sin(angle))
    area = _render(_polyline((32, 32), end), 6, cap=cap).sum()
    assert float(area) == pytest.approx(120 + extra, rel=1e-4)


@pytest.mark.parametrize(("cap", "area"), [(Cap.BUTT, 0), (Cap.SQUARE, 36), (Cap.ROUND, 9 * math.pi)])
def test_area_of_a_point_is_that_of_its_caps(cap: Cap, area: float) -> None:
    assert float(_render(_polyline((20.3, 30), (20.3, 30)), 6, cap=cap).sum()) == pytest.approx(area, rel=1e-3)


@pytest.mark.parametrize("turn", [-2.5, -1.2, -0.4, 0.4, 1.2, 2.5])
@pytest.mark.parametrize("join", list(Join))
def test_area_of_a_joint(turn: float, join: Join) -> None:
    """Two rectangles less the kite they share, and the wedge of the join."""
    length, half = 22.0, 3.0
    end = (32 + length * math.cos(turn), 32 + length * math.sin(turn))
    area = _render(_polyline((32 - length, 32), (32, 32), end), 2 * half, join=join, miter_limit=10)
    kite = half**2 * math.tan(abs(turn) / 2)
    wedge = {
        Join.MITER: kite,
        Join.ROUND: half**2 * abs(turn) / 2,
        Join.BEVEL: half**2 * math.sin(abs(turn)) / 2,
    }[join]
    # where the kite's tip leaves no pixel in doubt the area is exact
    assert float(area.sum()) == pytest.approx(2 * length * 2 * half - kite + wedge, rel=1e-4)


def test_miter_limit_turns_a_miter_into_a_bevel() -> None:
    corner = _polyline((10, 32), (32, 32), (14, 40))
    ratio = 1 / math.sin(0.5 * math.atan2(8, 18))
    below, above = (_render(corner, 4, miter_limit=ratio * f).sum() for f in (0.99, 1.01))
    assert float(below) == pytest.approx(float(_render(corner, 4, join=Join.BEVEL).sum()), rel=1e-6)
    assert above > below + 10


def test_area_of_closed_strokes() -> None:
    square = _polyline((20, 20), (44, 20), (44, 44), (20, 44), closed=True)
    assert float(_render(square, 4).sum()) == pytest.approx(28**2 - 20**2)
    assert float(_render(_circle(32, 32, 15), 6).sum()) == pytest.approx(2 * math.pi * 15 * 6, rel=1e-3)


@pytest.mark.parametrize("radius", [0.5, 3.0, 7.9])
def test_a_circle_narrower_than_its_stroke_is_a_disc(radius: float) -> None:
    assert float(_render(_circle(32, 32, radius), 16).sum()) == pytest.approx(math.pi * (radius + 8) ** 2, rel=2e-3)


TIGHT = {
    "hairpin": [(10, 50), (30, -20), (34, -20), (54, 50)],
    "cusp": [(12, 40), (60, 12), (4, 12), (52, 40)],
    "loop": [(14, 40), (70, 8), (-6, 8), (50, 40)],
}


@pytest.mark.parametrize("name", TIGHT)
@pytest.mark.parametrize("width", [3.0, 9.0, 18.0])
def test_tight_curves_cover_all_within_half_the_width(name: str, width: float) -> None:
    """A round stroke is the set of points no farther than half its width from the curve."""
    ctrl = torch.tensor(TIGHT[name], dtype=torch.float64)
    alpha = _render(
        lambda b: b.add_path(TIGHT[name], [([(0, 1, 2, 3)], False)]),
        width,
        tolerance=0.01,
        cap=Cap.ROUND,
        join=Join.ROUND,
    )
    t = torch.linspace(0, 1, 2000, dtype=torch.float64)[:, None]
    curve = (1 - t) ** 3 * ctrl[0] + 3 * (1 - t) ** 2 * t * ctrl[1] + 3 * (1 - t) * t * t * ctrl[2] + t**3 * ctrl[3]
    step = (torch.arange(64 * 4, dtype=torch.float64) + 0.5) / 4
    grid = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1).reshape(-1, 2)
    inside = (torch.cdist(grid, curve).amin(1) <= width / 2).double().reshape(1, 256, 256)
    truth = torch.nn.functional.avg_pool2d(inside, 4)[0]
    assert float((alpha - truth).abs().max()) < 0.2
    assert float((alpha - truth).square().mean()) < 1e-4


def test_stroking_comes_before_the_transform() -> None:
    """A pen under a stretch is an ellipse: width 2 across the stretch, 6 along it."""
    transform = (3, 0, 0, 1, 0, 0)
    upright = _render(_polyline((10, 10), (10, 50)), 2, transform=transform)
    assert float(upright.sum()) == pytest.approx(40 * 6)
    assert upright[30, 27:33].sum() == pytest.approx(6)
    flipped = _render(_polyline((10, 10), (10, 50)), 2, transform=(-3, 0, 0, 1, 60, 0))
    torch.testing.assert_close(flipped, upright)


def test_dashes_have_caps() -> None:
    area = _render(_polyline((4, 20), (60, 20)), 4, dashes=(10.0, 10.0), cap=Cap.ROUND).sum()
    assert float(area) == pytest.approx(3 * (10 * 4 + 4 * math.pi), rel=1e-3)


def test_a_stroke_without_width_draws_nothing() -> None:
    assert _render(_polyline((4, 20), (60, 20)), 0).sum() == 0


STYLES: dict[str, dict[str, Any]] = {
    "miter": {},
    "round": {"join": Join.ROUND, "cap": Cap.ROUND},
    "bevel, square": {"join": Join.BEVEL, "cap": Cap.SQUARE},
    "dashed": {"dashes": (3.3, 2.1), "dash_offset": 1.0},
}


@pytest.mark.parametrize("name", STYLES)
def test_gradient_by_points_and_width(name: str, scene_gradient_errors: SceneCheck) -> None:
    builder = SceneBuilder()
    points = [(4.3, 25.1), (14.2, 4.4), (17.9, 31.2), (27.3, 6.2), (22.2, 27.7)]
    path = builder.add_path(points, [([(0, 1, 2, 3), (3, 3, 4, 4)], False)])
    stroke = Stroke(Solid(builder.add_color(0.2, 0.5, 0.9)), builder.add_width(2.7), **STYLES[name])
    errors = scene_gradient_errors(*builder.build([Shape(path, (1.1, 0.2, -0.1, 0.8, 1, 2), stroke=stroke)]))
    assert set(errors) == {"points", "colors", "widths"}
    assert max(errors.values()) < 1e-4, errors
