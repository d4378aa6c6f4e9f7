"""A splat of random Gaussians, of any degree."""

from collections.abc import Callable

import pytest
import torch

from pds_nerfstudio.scenes.files.splats import Splats


def random_splats(n: int = 30, degree: int = 3, seed: int = 0) -> Splats:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Splats(
        means=0.5 * normal(n, 3),
        scales=-2.5 + 0.5 * normal(n, 3),
        quats=normal(n, 4) * 3,
        opacities=normal(n),
        base=normal(n, 3).clamp(-3, 3),
        rest=0.2 * normal(n, (degree + 1) ** 2 - 1, 3),
    )


@pytest.fixture(scope="session")
def make_splats() -> Callable[..., Splats]:
    return random_splats
