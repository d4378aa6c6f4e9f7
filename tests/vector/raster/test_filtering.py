"""Filters against formulas."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.boxes import Box
from pds_nerfstudio.vector.raster.filter_graph import (
    SOURCE,
    SOURCE_ALPHA,
    Blur,
    ColorMatrix,
    Composite,
    Filter,
    Flood,
    Merge,
    Mix,
    Morphology,
    Offset,
    Operation,
    Region,
    Step,
    Transfer,
    TransferFunction,
)
from pds_nerfstudio.vector.raster.filtering import Filtering, reach
from pds_nerfstudio.vector.raster.scene import SceneParameters
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from tests.vector.conftest import Check

BOX: Box = (0, 0, 7, 5)


def _numbers() -> SceneParameters:
    builder = SceneBuilder()
    builder.add_polygon([(1, 1), (5, 1), (5, 4), (1, 4)])
    builder.add_color(0.2, 0.5, 0.8)
    builder.add_opacity(0.6)
    return builder.build([])[1].map(lambda t: t.double())


def _picture(seed: int = 0) -> Tensor:
    picture = torch.rand(4, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([picture[:3] * picture[3:], picture[3:]])


def _run(*steps: Step, source: Tensor | None = None, region: Region | None = None, view: Affine = IDENTITY) -> Tensor:
    filtering = Filtering(Filter(steps, region), _numbers(), view, BOX)
    return filtering.apply(_picture() if source is None else source, BOX)


def _pair(operation: Operation) -> tuple[Tensor, Tensor, Tensor]:
    """A step on a picture and a part of it, those two, and its result."""
    above = _picture()
    below = _run(Step(Offset(2, 1), (SOURCE,)), source=above)
    result = _run(Step(Offset(2, 1), (SOURCE,)), Step(operation, (SOURCE, 0)), source=above)
    return above, below, result


PORTER_DUFF: dict[str, Callable[[Tensor, Tensor], tuple[Tensor | float, Tensor | float]]] = {
    "over": lambda a, b: (1, 1 - a),
    "in": lambda a, b: (b, 0),
    "out": lambda a, b: (1 - b, 0),
    "atop": lambda a, b: (b, 1 - a),
    "xor": lambda a, b: (1 - b, 1 - a),
}


@pytest.mark.parametrize("operator", PORTER_DUFF)
def test_composites_are_porter_and_duffs(operator: str) -> None:
    above, below, result = _pair(Composite(operator))
    first, second = PORTER_DUFF[operator](above[3], below[3])
    assert torch.allclose(result, above * first + below * second)


def test_arithmetic_is_held_in_range() -> None:
    above, below, result = _pair(Composite("arithmetic", (0.5, 0.8, 0.7, 0.1)))
    wanted = (0.5 * above * below + 0.8 * above + 0.7 * below + 0.1).clamp(0, 1)
    assert torch.allclose(result, torch.cat([wanted[:3].minimum(wanted[3:]), wanted[3:]]), atol=2e-4)


def test_what_is_merged_lies_over_each_other() -> None:
    above, below, mixed = _pair(Mix("normal"))
    merged = _run(Step(Offset(2, 1), (SOURCE,)), Step(Merge(), (0, SOURCE)))
    assert torch.allclose(mixed, above + below * (1 - above[3])) and torch.allclose(merged, mixed)


def test_a_move_by_whole_pixels_is_exact_and_else_linear() -> None:
    source = _picture()
    moved = _run(Step(Offset(2, -1), (SOURCE,)), source=source)
    assert torch.allclose(moved[:, :4, 2:], source[:, 1:, :5]) and float(moved[:, 4].abs().max()) == 0
    half = _run(Step(Offset(0.5, 0), (SOURCE,)), source=source)
    assert torch.allclose(half[:, :, 1:], (source[:, :, 1:] + source[:, :, :-1]) / 2)
    assert torch.allclose(
        _run(Step(Offset(1, 0), (SOURCE,)), view=(0, 2, -2, 0, 0, 0)), _run(Step(Offset(0, 2), (SOURCE,)))
    )


def test_a_matrix_maps_colours_that_are_not_premultiplied() -> None:
    source = _picture()
    rows = torch.rand(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 4
    result = _run(Step(ColorMatrix(tuple(rows.flatten().tolist())), (SOURCE,)))
    plain = torch.cat([source[:3] / source[3], source[3:], torch.ones(1, 5, 7, dtype=torch.float64)])
    mapped = torch.einsum("ij,jhw->ihw", rows, plain).clamp(0, 1)
    assert torch.allclose(result, torch.cat([mapped[:3] * mapped[3:], mapped[3:]]))


@pytest.mark.parametrize(
    ("function", "points"),
    [
        (TransferFunction("table", (0.1, 0.9, 0.4)), {0.0: 0.1, 0.25: 0.5, 0.5: 0.9, 0.75: 0.65, 1.0: 0.4}),
        (TransferFunction("discrete", (0.1, 0.9, 0.4)), {0.0: 0.1, 0.3: 0.1, 0.34: 0.9, 0.7: 0.4, 1.0: 0.4}),
        (TransferFunction("linear", (2.0, -0.3)), {0.0: 0.0, 0.4: 0.5, 1.0: 1.0}),
        (TransferFunction("gamma", (0.8, 2.0, 0.1)), {0.5: 0.3, 1.0: 0.9}),
        (TransferFunction(), {0.3: 0.3}),
        (TransferFunction("table"), {0.3: 0.3}),
    ],
)
def test_transfer_functions(function: TransferFunction, points: dict[float, float]) -> None:
    same = TransferFunction()
    for before, after in points.items():
        source = torch.full((4, 5, 7), before, dtype=torch.float64)
        source[3] = 1
        result = _run(Step(Transfer((function, same, same, same)), (SOURCE,)), source=source)
        assert result[0, 0, 0] == pytest.approx(after, abs=2e-4) and result[1, 0, 0] == pytest.approx(before)


@pytest.mark.parametrize(
    ("dilates", "x", "y"), [(True, 1, 2), (False, 2, 1), (True, 0, 1), (False, 0, 0), (True, 50, 50)]
)
def test_what_is_fattened_has_the_most_of_what_is_near(dilates: bool, x: int, y: int) -> None:
    source = _picture()
    result = _run(Step(Morphology(dilates, x, y), (SOURCE,)), source=source)
    for row in range(5):
        for column in range(7):
            rows, columns = range(row - y, row + y + 1), range(column - x, column + x + 1)
            inside = source[:, max(rows[0], 0) : rows[-1] + 1, max(columns[0], 0) : columns[-1] + 1].flatten(1)
            if rows[0] < 0 or columns[0] < 0 or rows[-1] > 4 or columns[-1] > 6:
                inside = torch.cat([inside, torch.zeros(4, 1, dtype=torch.float64)], 1)
            assert torch.equal(result[:, row, column], inside.amax(1) if dilates else inside.amin(1))


def test_linear_light_is_that_of_srgb() -> None:
    half = ColorMatrix((0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0, 1, 0))
    source = torch.ones(4, 5, 7, dtype=torch.float64)
    assert float(_run(Step(half, (SOURCE,), linear=True), source=source)[0, 0, 0]) == pytest.approx(0.7354, abs=1e-4)
    # what is handed on in linear light is not measured twice
    twice = _run(Step(half, (SOURCE,), linear=True), Step(half, (0,), linear=True), source=source)
    assert float(twice[0, 0, 0]) == pytest.approx(0.5371, abs=1e-4)


def test_the_source_in_black_and_one_colour_everywhere() -> None:
    black, flood = _run(Step(Merge(), (SOURCE_ALPHA,))), _run(Step(Flood(0, 0)))
    assert float(black[:3].abs().max()) == 0 and torch.equal(black[3], _picture()[3])
    assert torch.allclose(flood[:, 2, 3], torch.tensor([0.12, 0.3, 0.48, 0.6], dtype=torch.float64))


def test_a_step_is_cut_to_its_region() -> None:
    result = _run(Step(Flood(0, 0), region=Region(0)))
    seen = torch.zeros(5, 7, dtype=torch.float64)
    seen[1:4, 1:5] = 0.6
    assert torch.allclose(result[3], seen)


def test_the_box_holds_what_the_filter_shows() -> None:
    content: Box = (40, 40, 4, 2)
    canvas: Box = (0, 0, 100, 100)

    def box(*steps: Step, region: Region | None = None) -> Box:
        return Filtering(Filter(steps, region), _numbers(), IDENTITY, canvas).box(content)

    assert box(Step(Blur(2, 0.5), (SOURCE,))) == (32, 38, 20, 6)
    assert box(Step(Blur(2, 0.5), (SOURCE,)), region=Region(0, (10, 0, 0, 10, 0, 0))) == (32, 38, 18, 2)
    assert box(Step(Flood(0, 0)), region=Region(0)) == (1, 1, 4, 3)
    assert reach((Filter((Step(Offset(3, -1)), Step(Blur(1, 1))), None),), (2, 0, 0, 2, 0, 0)) == (14, 10)


GAMMA = TransferFunction("gamma", (0.8, 1.7, 0.05))
FILTERS: dict[str, list[Step]] = {
    "blur": [Step(Blur(1.3, 0.7), (SOURCE,), linear=True)],
    "shadow": [
        Step(Blur(1, 1), (SOURCE_ALPHA,), linear=True),
        Step(Offset(1.3, 0.6), (0,), linear=True),
        Step(Flood(0, 0), linear=True),
        Step(Composite("in"), (2, 1), linear=True),
        Step(Merge(), (3, SOURCE), linear=True),
    ],
    "colours": [
        Step(ColorMatrix((*(0.2, 0.3, 0.1, 0.1, 0.05) * 3, 0.1, 0.1, 0.1, 0.4, 0.1)), (SOURCE,)),
        Step(
            Transfer((*(TransferFunction("gamma", (0.8, 1.7, 0.05)),) * 3, TransferFunction("linear", (0.7, 0.1)))),
            (0,),
        ),
    ],
    "mixtures": [
        Step(Blur(1, 1), (SOURCE,)),
        Step(Mix("screen"), (0, SOURCE)),
        Step(Composite("arithmetic", (0.2, 0.3, 0.4, 0.01)), (1, SOURCE)),
    ],
}


@pytest.mark.parametrize("name", FILTERS)
def test_gradients_are_right(name: str, gradient_error: Check) -> None:
    weight = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    at = _picture() * 0.7 + 0.1
    assert gradient_error(lambda x: (_run(*FILTERS[name], source=x) * weight).sum(), at) < 1e-6


def test_white_can_change() -> None:
    """Rounding takes white beyond 1, where it would be held."""
    white = torch.full((4, 5, 7), 0.7, dtype=torch.float32).requires_grad_()
    identity = ColorMatrix((1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0))
    numbers = _numbers().map(lambda t: t.float())
    step = Step(identity, (SOURCE,), linear=True)
    Filtering(Filter((step, step), None), numbers, IDENTITY, BOX).apply(white, BOX)[:3].sum().backward()
    assert white.grad is not None and bool((white.grad[:3] > 0.5).all())
