import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.coverage import coverage, coverage_of_winding, fit_windows, make_windows, union_box
from tests.vector.conftest import Check

H, W = 20, 24


def _polygon(points: Tensor) -> Tensor:
    return torch.stack([points, points.roll(-1, 0)], 1)


def _image(points: Tensor, evenodd: Tensor | None = None) -> Tensor:
    edges = _polygon(points)
    region = torch.zeros(len(edges), dtype=torch.long)
    windows = fit_windows(edges, region, 1, W, H)
    cover, _ = coverage(edges, region, windows, evenodd)
    x, y, w, h, _ = windows.boxes[0]
    return torch.nn.functional.pad(windows.view(cover, 0), (x, W - x - w, y, H - y - h))


def _shoelace(points: Tensor) -> Tensor:
    following = points.roll(-1, 0)
    return (0.5 * (points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum()).abs()


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_of_a_convex_polygon_is_exact(seed: int) -> None:
    angle = _random(7, seed=seed).sort().values * 2 * torch.pi
    points = torch.stack([12 + 9 * angle.cos(), 10 + 9 * angle.sin()], 1)
    torch.testing.assert_close(_image(points).sum(), _shoelace(points))
    torch.testing.assert_close(_image(points.flip(0)), _image(points))


def test_pixels_of_a_rectangle_between_the_grid_lines() -> None:
    points = torch.tensor([[2.25, 3.5], [5.5, 3.5], [5.5, 5.25], [2.25, 5.25]], dtype=torch.float64)
    expected = torch.zeros(H, W, dtype=torch.float64)
    expected[3:6, 2:6] = torch.outer(torch.tensor([0.5, 1, 0.25]), torch.tensor([0.75, 1, 1, 0.5])).double()
    torch.testing.assert_close(_image(points), expected)


def test_what_lies_off_the_canvas_still_counts() -> None:
    points = torch.tensor([[-1000.0, -900], [3000, -900], [3000, 10.5], [-1000, 10.5]], dtype=torch.float64)
    expected = torch.zeros(H, W, dtype=torch.float64)
    expected[:10], expected[10] = 1, 0.5
    torch.testing.assert_close(_image(points), expected)
    assert _image(points + 5000).sum() == 0


def test_fill_rules_on_a_region_covered_twice() -> None:
    inner, outer = [[6.0, 6], [12, 6], [12, 12], [6, 12]], [[2.0, 2], [18, 2], [18, 18], [2, 18]]
    points = torch.tensor([*outer, outer[0], *inner, inner[0]], dtype=torch.float64)
    assert _image(points).sum() == pytest.approx(256)
    assert _image(points, torch.tensor([True])).sum() == pytest.approx(256 - 36)


def test_coverage_of_winding_numbers() -> None:
    winding = torch.tensor([-2.0, -1, -0.5, 0, 0.25, 1, 1.25, 2, 3])
    torch.testing.assert_close(coverage_of_winding(winding, None), winding.abs().clamp(max=1))
    evenodd = coverage_of_winding(winding, torch.ones(9, dtype=torch.bool))
    torch.testing.assert_close(evenodd, torch.tensor([0.0, 1, 0.5, 0, 0.25, 1, 0.75, 0, 1]))


SHAPES = {
    "star": _random(5, 2) * 15 + 2,
    "reaching off the canvas": torch.tensor([[-7.3, 3.2], [30.1, -5.7], [14.9, 31.3]]),
    "on the grid": torch.tensor([[3, 4], [9, 4], [9, 11], [3, 11]]),
    "on the grid, the other way": torch.tensor([[3, 4], [3, 11], [9, 11], [9, 4]]),
    "half on the grid": torch.tensor([[3, 4.5], [9, 4.5], [9, 11], [3, 11]]),
    "the whole canvas": torch.tensor([[0, 0], [W, 0], [W, H], [0, H]]),
    "past the canvas, on the grid": torch.tensor([[-2, 5], [W + 3, 5], [W + 3, H + 1], [-2, H + 1]]),
    "a step on the grid": torch.tensor([[3, 4], [9, 4], [9, 8], [15, 8], [15, 11], [3, 11]]),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("evenodd", [False, True])
def test_gradient_by_the_points(name: str, evenodd: bool, gradient_error: Check) -> None:
    weight = torch.randn(H, W, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rule = torch.tensor([evenodd])
    assert gradient_error(lambda p: (_image(p, rule) * weight).sum(), SHAPES[name]) < 1e-4


def test_gradient_at_grid_aligned_edges_is_symmetric() -> None:
    """A square on the grid under a mirror-symmetric loss gets a mirror-symmetric gradient."""
    points = torch.tensor([[8.0, 6], [16, 6], [16, 14], [8, 14]], requires_grad=True)
    y, x = torch.meshgrid(torch.arange(H) - 9.5, torch.arange(W) - 11.5, indexing="ij")
    (_image(points) * (x * x + y * y)).sum().backward()
    grad = points.grad
    assert grad is not None
    torch.testing.assert_close(grad[:, 0], -grad[[1, 0, 3, 2], 0])
    torch.testing.assert_close(grad[:, 1], -grad[[3, 2, 1, 0], 1])
    assert grad.abs().min() > 1


def test_two_runs_give_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.cat([_polygon(torch.rand(50, 2, generator=generator) * 20) for _ in range(20)]).requires_grad_()
    region = torch.arange(20).repeat_interleave(50)

    def run() -> tuple[Tensor, Tensor]:
        cover, _ = coverage(edges, region, fit_windows(edges, region, 20, W, H))
        (grad,) = torch.autograd.grad(cover.square().sum(), edges)
        return cover, grad

    first, second = run(), run()
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_windows_of_regions_off_the_canvas_or_without_edges_are_empty() -> None:
    edges = _polygon(torch.tensor([[30.0, 2], [40, 2], [40, 9]]))
    region = torch.zeros(3, dtype=torch.long)
    windows = fit_windows(edges, region, 2, W, H)
    assert windows.cells == 0
    cover, _ = coverage(edges, region, windows)
    assert cover.numel() == 0


def test_windows_lie_behind_one_another() -> None:
    windows = make_windows(torch.tensor([[0, 0], [5, 5], [1, 1]]), torch.tensor([[3, 2], [0, 4], [2, 2]]))
    assert windows.offset.tolist() == [0, 8, 8] and windows.cells == 14
    assert union_box(windows.boxes) == (0, 0, 3, 3)
    assert union_box([]) == (0, 0, 0, 0)
