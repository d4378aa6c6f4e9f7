"""The hash grid for CPUs: nerfstudio's function, where no gradients are wanted."""

import pytest
import torch
from nerfstudio.field_components.encodings import HashEncoding

from pds_nerfstudio.scenes.cpu_hash_grid import hash_grid, speed_up


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


@pytest.mark.parametrize("shape", [(500,), (7, 3), (), (0,), (0, 4)])
@pytest.mark.parametrize("options", [{}, {"features": 4}, {"levels": 1}, {"log2_size": 17, "max_res": 4000}])
def test_it_is_nerfstudios(shape: tuple[int, ...], options: dict[str, int]) -> None:
    original = encoding(**options)
    positions = torch.rand(*shape, 3)
    expected = original.pytorch_fwd(positions)
    torch.testing.assert_close(
        hash_grid(positions, original.hash_table, original.scalings), expected, atol=1e-6, rtol=1e-5
    )


def test_on_lines_of_the_grid_too() -> None:
    original = encoding(levels=2, max_res=8)
    line = torch.linspace(0, 1, 9)
    positions = torch.cartesian_prod(line, line, line)
    expected = original.pytorch_fwd(positions)
    torch.testing.assert_close(
        hash_grid(positions, original.hash_table, original.scalings), expected, atol=1e-6, rtol=1e-5
    )


def test_gradients_go_nerfstudios_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(
        "pds_nerfstudio.scenes.cpu_hash_grid.hash_grid", lambda *args: calls.append(1) or hash_grid(*args)
    )
    original, fast = encoding(), encoding()
    speed_up(torch.nn.ModuleList([fast]))
    positions = torch.rand(50, 3)
    fast(positions).square().sum().backward()
    original(positions).square().sum().backward()
    assert not calls
    torch.testing.assert_close(fast.hash_table.grad, original.hash_table.grad)
    with torch.no_grad():
        torch.testing.assert_close(fast(positions), original(positions), atol=1e-6, rtol=1e-5)
    assert calls == [1]
