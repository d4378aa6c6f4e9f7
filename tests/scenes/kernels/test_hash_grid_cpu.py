"""The hash grid for CPUs: nerfstudio's function and gradients."""

import pytest
import torch
from nerfstudio.field_components.encodings import HashEncoding

from pds_nerfstudio.scenes.kernels.hash_encoding import speed_up
from pds_nerfstudio.scenes.kernels.hash_grid_cpu import hash_grid


def encoding(levels: int = 5, max_res: int = 200, log2_size: int = 9, features: int = 2) -> HashEncoding:
    torch.manual_seed(0)
    made = HashEncoding(
        num_levels=levels,
        min_res=4,
        max_res=max_res,
        log2_hashmap_size=log2_size,
        features_per_level=features,
        implementation="torch",
    )
    made.hash_table.data.uniform_(-1, 1)
    return made


def assert_alike(grid: HashEncoding, positions: torch.Tensor, moved: bool) -> None:
    """The same features, and gradients on the table and (if asked for) on positions, as nerfstudio's own."""
    results = []
    for function in (grid.pytorch_fwd, lambda at: hash_grid(at, grid.hash_table, grid.scalings)):
        at = positions.clone().requires_grad_(moved)
        features = function(at)
        weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
        wanted = (grid.hash_table, at) if moved else (grid.hash_table,)
        results.append((features.detach(), *torch.autograd.grad((features * weights).sum(), wanted)))
        with torch.no_grad():
            torch.testing.assert_close(function(positions), features, atol=0, rtol=0)
    for theirs, ours in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(
            ours, theirs, atol=1e-6 * float(theirs.abs().max() if theirs.numel() else 0), rtol=1e-5
        )


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("shape", [(500,), (7, 3), (), (0,), (0, 4)])
@pytest.mark.parametrize("options", [{}, {"features": 4}, {"levels": 1}, {"log2_size": 17, "max_res": 4000}])
def test_it_is_nerfstudios(shape: tuple[int, ...], options: dict[str, int], moved: bool) -> None:
    assert_alike(encoding(**options), torch.rand(*shape, 3), moved)


def test_on_lines_of_the_grid_too() -> None:
    line = torch.linspace(0, 1, 9)
    assert_alike(encoding(levels=2, max_res=8), torch.cartesian_prod(line, line, line), moved=False)


@pytest.mark.parametrize("triton", [False, True])
def test_a_model_takes_it_on_a_cpu(triton: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if triton:
        pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    grid, positions = encoding(), torch.rand(50, 3)
    expected = grid(positions)
    assert speed_up(torch.nn.ModuleList([grid]), triton=triton) == 1
    torch.testing.assert_close(grid(positions), expected)
    monkeypatch.setattr("pds_nerfstudio.scenes.kernels.hash_grid_cpu.hash_grid", lambda at, *_: at + 1)
    assert torch.equal(grid(positions), positions + 1)
