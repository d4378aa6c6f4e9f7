"""The hash grid in Triton beside nerfstudio's in PyTorch. Without a GPU, Triton's interpreter runs it."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor, nn

from pds_nerfstudio.scenes.kernels.hash_encoding import speed_up

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests below run here")
def test_all_below_in_the_interpreter(passes_in_the_interpreter: Callable[[str], None]) -> None:
    passes_in_the_interpreter(__file__)


@pytest.fixture
def triton_grid() -> ModuleType:
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("runs in the interpreter, in a process of its own")
    from pds_nerfstudio.scenes.kernels import hash_grid_triton

    return hash_grid_triton


def encoding(levels: int, features: int, log2_size: int, max_res: int = 64) -> HashEncoding:
    torch.manual_seed(0)
    return HashEncoding(
        num_levels=levels,
        min_res=4,
        max_res=max_res,
        log2_hashmap_size=log2_size,
        features_per_level=features,
        hash_init_scale=1.0,
        implementation="torch",
    ).to(DEVICE)


def positions(n: int) -> Tensor:
    """Of which some lie on the corners, edges and sides of cells, and at both ends."""
    rng = torch.Generator().manual_seed(1)
    drawn = torch.rand(n, 3, generator=rng)
    drawn[0], drawn[1], drawn[2, 0], drawn[3, :2] = 0.0, 1.0, 0.5, 0.25
    return drawn.to(DEVICE)


@pytest.mark.parametrize(
    ("levels", "features", "log2_size", "n"), [(4, 2, 6, 300), (1, 2, 10, 5), (5, 4, 8, 257), (3, 1, 5, 64)]
)
def test_it_is_nerfstudios_encoding(
    triton_grid: ModuleType, levels: int, features: int, log2_size: int, n: int
) -> None:
    reference = encoding(levels, features, log2_size)
    x = positions(n)
    weight = torch.randn(n, levels * features, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    results = []
    for function in (
        reference.pytorch_fwd,
        lambda x: triton_grid.hash_grid(x, reference.hash_table, reference.scalings.float().to(DEVICE)),
    ):
        points = x.clone().requires_grad_()
        out = function(points)
        on_points, on_table = torch.autograd.grad((out * weight).sum(), [points, reference.hash_table])
        results.append((out.detach(), on_table, on_points))
    for theirs, ours in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_table_so_fine_that_hashes_are_large(triton_grid: ModuleType) -> None:
    """Products beyond 32 bits, as in nerfacto's finest levels."""
    reference = encoding(3, 2, 14, max_res=200_000)
    # Of few binary digits: places on the grid are exact, however multiplications and additions are joined.
    x = (64 * positions(200)).round() / 64
    ours = triton_grid.hash_grid(x, reference.hash_table, reference.scalings.float().to(DEVICE))
    torch.testing.assert_close(ours, reference.pytorch_fwd(x), rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for_is_differentiated(triton_grid: ModuleType) -> None:
    reference = encoding(2, 2, 6)
    scalings = reference.scalings.float().to(DEVICE)
    x = positions(8).requires_grad_()
    triton_grid.hash_grid(x, reference.hash_table.detach(), scalings).sum().backward()
    assert x.grad is not None and reference.hash_table.grad is None
    assert triton_grid.hash_grid(x[:0], reference.hash_table, scalings).shape == (0, 4)
    assert triton_grid.hash_grid(x.reshape(2, 4, 3), reference.hash_table, scalings).shape == (2, 4, 4)


def test_points_along_rays_add_up_what_they_ask_of_a_cell_that_they_share(triton_grid: ModuleType) -> None:
    """Neighbours in a cell for a while, on its sides, in it again later, and across the programs' blocks."""
    reference = encoding(3, 2, 7, max_res=16)
    scalings = reference.scalings.float().to(DEVICE)
    along = torch.linspace(0, 1, 150)[:, None]
    ends = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(3))
    rays = [start + along * (end - start) for start, end in ends]
    still = torch.full((70, 3), 0.25)  # on the grid of every level
    x = torch.cat([*rays, still, rays[0].flip(0)]).to(DEVICE)
    weight = torch.randn(len(x), 6, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    weight[20:60] = 0
    on_table = [
        torch.autograd.grad((out * weight).sum(), reference.hash_table)[0]
        for out in (triton_grid.hash_grid(x, reference.hash_table, scalings), reference.pytorch_fwd(x))
    ]
    torch.testing.assert_close(*on_table, rtol=1e-4, atol=1e-4)


def test_points_of_which_nothing_is_asked_are_passed_over_and_broken_gradients_are_not(triton_grid: ModuleType) -> None:
    reference = encoding(2, 2, 6)
    scalings = reference.scalings.float().to(DEVICE)
    x = positions(40)
    weight = torch.zeros(40, 4, device=DEVICE)
    weight[7, 1], weight[21, 2:] = 2.0, torch.tensor([-1.0, 0.5])
    on_table = [
        torch.autograd.grad((out * weight).sum(), reference.hash_table)[0]
        for out in (triton_grid.hash_grid(x, reference.hash_table, scalings), reference.pytorch_fwd(x))
    ]
    torch.testing.assert_close(*on_table, rtol=1e-4, atol=1e-5)
    weight[30, 0] = torch.nan
    out = triton_grid.hash_grid(x, reference.hash_table, scalings)
    assert torch.autograd.grad((out * weight).sum(), reference.hash_table)[0].isnan().any()


def test_a_model_is_sped_up_in_place(triton_grid: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.ModuleDict({"field": encoding(3, 2, 8), "proposal": encoding(2, 2, 6)})
    names, x = set(model.state_dict()), positions(50)
    expected = [module(x) for module in model.values()]
    assert speed_up(model, triton=True) == 2
    assert set(model.state_dict()) == names
    calls: list[int] = []
    usual = triton_grid.hash_grid

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return usual(*arguments)

    monkeypatch.setattr(triton_grid, "hash_grid", counted)
    for module, before in zip(model.values(), expected, strict=True):
        torch.testing.assert_close(module(x), before, rtol=1e-4, atol=1e-4)
    assert len(calls) == 2


def test_a_nerf_has_the_same_weights_and_render(
    triton_grid: ModuleType, config_in: Any, prepare: Any, tmp_path: Any
) -> None:
    options = {"pipeline__model__triton": "on", "pipeline__model__edit_rays_per_chunk": 4096}
    fast, plain = (
        prepare(config_in(tmp_path / name, "nerf", reconstruct=0, **extra)).pipeline.eval()
        for name, extra in (("fast", options), ("plain", {"pipeline__model__triton": "off"}))
    )
    assert fast.state_dict().keys() == plain.state_dict().keys()
    fast.model.to(DEVICE), plain.model.to(DEVICE)
    for ours, theirs in zip(fast.model._for_colors.density_fns, plain.model.density_fns, strict=True):
        points = 2 * torch.randn(3, 100, 3, generator=torch.Generator().manual_seed(4)).to(DEVICE)
        points[0, 0], points[0, 1, 0], points[0, 2] = 0.0, 1.0, 1e9
        densities = ours(points)
        torch.testing.assert_close(densities, theirs(points).detach(), rtol=1e-4, atol=1e-6)
        assert ours is not theirs and densities.std() > 0 and not densities.requires_grad
    camera = plain.views[0].camera
    camera.rescale_output_resolution(1 / 4)
    images = [run.model.get_outputs_for_camera(camera)["rgb"] for run in (fast, plain)]
    torch.testing.assert_close(*images, rtol=1e-4, atol=1e-4)
