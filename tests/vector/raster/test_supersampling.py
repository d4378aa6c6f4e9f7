import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.coverage import coverage, fit_windows
from pds_nerfstudio.vector.raster.supersampling import ambiguous_cells, supersample
from tests.vector.conftest import Check

SIZE = 48


def _edges(polygons: list[Tensor]) -> Tensor:
    return torch.cat([torch.stack([p, p.roll(-1, 0)], 1) for p in polygons])


def _image(polygons: list[Tensor], evenodd: bool, supersampled: bool = True, size: int = SIZE) -> Tensor:
    edges = _edges(polygons)
    region = torch.zeros(len(edges), dtype=torch.long)
    windows = fit_windows(edges, region, 1, size, size)
    rule = torch.tensor([evenodd])
    cover, field = coverage(edges, region, windows, rule)
    if supersampled:
        cover = supersample(cover, field, edges, region, windows, rule)
    x, y, w, h, _ = windows.boxes[0]
    return torch.nn.functional.pad(windows.view(cover, 0), (x, size - x - w, y, size - y - h))


def _error(image: Tensor, polygons: list[Tensor], evenodd: bool) -> float:
    fine = _image([p * 16 for p in polygons], evenodd, supersampled=False, size=16 * SIZE)
    reference = torch.nn.functional.avg_pool2d(fine[None], 16)[0]
    return float((image - reference).square().mean())


TRIANGLE = torch.tensor([[3.3, 5], [38, 17], [15, 44.0]], dtype=torch.float64)
CASES = {
    "star": [torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 44 + 2],
    "twice": [TRIANGLE, TRIANGLE],
    "crossing against each other": [TRIANGLE, TRIANGLE.flip(0) + 4.4],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("evenodd", [False, True])
def test_it_comes_close_to_the_truth(name: str, evenodd: bool) -> None:
    polygons = CASES[name]
    before = _error(_image(polygons, evenodd, supersampled=False), polygons, evenodd)
    after = _error(_image(polygons, evenodd), polygons, evenodd)
    assert after < 0.05 * before
    assert after < 1e-3


@pytest.mark.parametrize("evenodd", [False, True])
def test_simple_outlines_and_holes_are_left_alone(evenodd: bool) -> None:
    hole = torch.tensor([[10.0, 12], [12, 25], [22, 20]], dtype=torch.float64)
    edges = _edges([TRIANGLE, hole])
    region = torch.zeros(len(edges), dtype=torch.long)
    windows = fit_windows(edges, region, 1, SIZE, SIZE)
    rule = torch.tensor([evenodd])
    cover, field = coverage(edges, region, windows, rule)
    assert ambiguous_cells(field, windows, rule)[0].numel() == 0
    assert supersample(cover, field, edges, region, windows, rule) is cover


def test_only_the_crossings_are_looked_at() -> None:
    edges = _edges([TRIANGLE, TRIANGLE + 4.4])
    region = torch.zeros(len(edges), dtype=torch.long)
    windows = fit_windows(edges, region, 1, SIZE, SIZE)
    _, field = coverage(edges, region, windows)
    found = ambiguous_cells(field, windows, None)[0].unique()
    assert 0 < found.numel() < 20


def test_gradient_by_the_points(gradient_error: Check) -> None:
    weight = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss = lambda p: (_image([p], False) * weight).sum()  # noqa: E731
    assert gradient_error(loss, CASES["star"][0]) < 1e-4
