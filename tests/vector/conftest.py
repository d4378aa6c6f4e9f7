"""What several tests of the vector package need."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.rasterizer import Rasterizer
from pds_nerfstudio.vector.scene import Scene, SceneParameters

Check = Callable[[Callable[[Tensor], Tensor], Tensor], float]


def _gradient_error(function: Callable[[Tensor], Tensor], at: Tensor) -> float:
    """Relative difference between the gradient of a scalar function and central differences, in float64."""
    at = at.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(function(at), at)
    numeric = torch.zeros_like(exact)
    step = 1e-5
    with torch.no_grad():
        for i in range(at.numel()):
            shift = torch.zeros_like(exact)
            shift.view(-1)[i] = step
            numeric.view(-1)[i] = (function(at + shift) - function(at - shift)) / (2 * step)
    assert numeric.norm() > 0
    return float((exact - numeric).norm() / numeric.norm())


@pytest.fixture
def gradient_error() -> Check:
    """Relative error of a gradient against finite differences."""
    return _gradient_error


@pytest.fixture
def scene_gradient_errors() -> Callable[[Scene, SceneParameters], dict[str, float]]:
    """Relative error of the gradient by each tensor of a scene, for a random loss on a 32 × 32 canvas."""

    def errors(
        scene: Scene, parameters: SceneParameters, view: tuple = (1, 0, 0, 1, 0, 0)
    ) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(3, 32, 32, generator=generator, dtype=torch.float64)
        background = torch.rand(3, 32, 32, generator=generator, dtype=torch.float64)
        rasterizer = Rasterizer(scene, tolerance=1e-3)
        double = parameters.map(lambda t: t.double())
        found = {}
        for name, value in vars(double).items():
            if value.numel() == 0:
                continue

            def loss(changed: Tensor, name: str = name) -> Tensor:
                numbers = SceneParameters(**{**vars(double), name: changed})
                return (rasterizer.render(numbers, 32, 32, view, background) * weight).sum()

            found[name] = _gradient_error(loss, value)
        return found

    return errors
