"""The point of a scene that is seen along a ray."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.selection.seen import balls_seen, distance_seen
from tests.scenes.splats import splat


def unit(*numbers: float) -> Tensor:
    return torch.nn.functional.normalize(torch.tensor(numbers, dtype=torch.float32), dim=0)


def fill(model: EditSplatModel, means: Tensor, scales: Tensor, opacities: Tensor, quaternion: list[float]) -> None:
    """Let a model consist of some Gaussians."""
    n = len(means)
    for name, values in {
        "means": means,
        "scales": scales.log().expand(n, 3).clone(),
        "opacities": opacities.logit().expand(n, 1).clone(),
        "quats": torch.tensor([quaternion]).repeat(n, 1),
        "features_dc": torch.zeros(n, 3),
        "features_rest": torch.zeros(n, *model.features_rest.shape[1:]),
    }.items():
        model.gauss_params[name] = torch.nn.Parameter(values)
    model.eval()


@pytest.fixture
def model(make_config: Any, prepare: Any) -> EditSplatModel:
    return splat(prepare(make_config("splat", reconstruct=0)))


@pytest.mark.parametrize("aim", [(0.0, 0.0), (0.3, -0.2), (-0.45, 0.4)])
@pytest.mark.parametrize("spread", [0.05, 0.6])
def test_a_plane_is_met_where_the_ray_crosses_it(
    aim: tuple[float, float], spread: float, model: EditSplatModel
) -> None:
    """Of flat Gaussians, small or so large that the one that is met may have its centre far away."""
    tilt = 0.5  # about the axis x: the plane's normal is (0, -sin, cos)
    normal = torch.tensor([0.0, -0.479426, 0.877583])
    line = torch.arange(-1, 1, spread) + spread / 2
    x, y = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="ij"))
    means = torch.stack([x, 0.877583 * y, 0.479426 * y], -1)
    flat = torch.tensor([0.6 * spread, 0.6 * spread, 1e-4])
    fill(model, means, flat, torch.tensor([0.999]), [0.968912, 0.247404, 0.0, 0.0])
    assert tilt == pytest.approx(2 * torch.tensor(0.247404).asin().item(), abs=1e-4)
    origin = torch.tensor([0.2, -0.5, 2.0])
    direction = torch.nn.functional.normalize(torch.tensor([*aim, 0.0]) - origin, dim=0)
    crossing = -(origin @ normal) / (direction @ normal)
    assert distance_seen(model, origin, direction) == pytest.approx(crossing.item(), rel=2e-3)


@pytest.mark.parametrize(("front", "seen"), [(0.3, 3.0), (0.7, 2.0)])
def test_it_is_where_half_of_the_light_has_been_gathered(front: float, seen: float, model: EditSplatModel) -> None:
    means = torch.tensor([[0.0, 0.0, -3.0], [0.0, 0.0, -2.0]])
    fill(model, means, torch.tensor([0.5, 0.5, 0.01]), torch.tensor([[0.9], [front]]), [1.0, 0.0, 0.0, 0.0])
    assert distance_seen(model, torch.zeros(3), unit(0, 0, -1)) == pytest.approx(seen, rel=1e-4)


@pytest.mark.parametrize("opacity", [0.4, 0.9])
def test_what_is_faint_or_aside_is_not_seen(opacity: float, model: EditSplatModel) -> None:
    fill(model, torch.tensor([[0.0, 0.0, -2.0]]), torch.full((3,), 0.1), torch.tensor([opacity]), [1.0, 0.0, 0.0, 0.0])
    seen = distance_seen(model, torch.zeros(3), unit(0, 0, -1))
    assert (seen is None) == (opacity < 0.5)
    assert distance_seen(model, torch.zeros(3), unit(0, 1, -1)) is None


def test_the_brush_grows_with_the_distance(model: EditSplatModel) -> None:
    means = torch.tensor([[0.0, 0.0, -2.0], [3.0, 0.0, 0.0]])
    fill(model, means, torch.full((3,), 0.1), torch.tensor([0.9]), [1.0, 0.0, 0.0, 0.0])
    rays = [[0.0, 0, 0, 0, 0, -5], [0.0, 0, 0, 0, 9, 0], [0.0, 0, 0, 1, 0, 0]]
    assert balls_seen(model, rays, 0.1) == pytest.approx([0, 0, -2, 0.2, 3, 0, 0, 0.3], abs=1e-4)


def test_a_nerf_says_how_far_it_is_seen(make_config: Any, prepare: Any) -> None:
    """A wall of density from a depth on; half of a ray's light is gathered ln 2 / density behind it."""
    model: Any = prepare(make_config("nerf", reconstruct=0)).pipeline.eval().model
    wall, density = 1.5, 40.0

    def densities(points: Tensor) -> Tensor:
        return density * (points[..., 2:] < -wall).float()

    usual = model.field.forward

    def outputs(samples: Any, **options: Any) -> Any:
        found = usual(samples, **options)
        return {
            name: densities(samples.frustums.get_positions()) if v.shape[-1] == 1 else v for name, v in found.items()
        }

    model.density_fns[:], model.field.forward = [densities] * len(model.density_fns), outputs
    model.proposal_sampler.set_anneal(1.0)
    direction = unit(0.1, 0.2, -1)
    expected = wall / -direction[2].item() + 0.693 / density
    assert distance_seen(model, torch.zeros(3), direction) == pytest.approx(expected, abs=0.15)  # its samples are few
    assert distance_seen(model, torch.zeros(3), unit(0, 0, 1)) is None
