"""Turning view-dependent colours: what the spherical harmonics of a splat become when the splat is turned."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.splat_rasterizer.projection import spherical_harmonics

C0 = 0.28209479177387814
"""The harmonic of degree 0: a colour is ½ more than its coefficient times this."""

_DIRECTIONS = 64


def degree_of(coefficients: int) -> int | None:
    """Return the degree of harmonics that have so many coefficients beside that of degree 0, None if none has."""
    return {0: 0, 3: 1, 8: 2, 15: 3, 24: 4}.get(coefficients)


def turned_harmonics(rest: Float[Tensor, "n K 3"], turn: Float[Tensor, "3 3"]) -> Float[Tensor, "n K 3"]:
    """Return the coefficients with which a turned splat shows the same colours to a camera that is turned with it.

    Each degree l makes a space of its own that rotations (and reflections) map to itself: the new coefficients c′ are
    the ones for which Σ c′ₖ Yₖ(Qd) = Σ cₖ Yₖ(d) in every direction d. They are solved for in more directions than there
    are coefficients, which has one exact solution.

    Args:
        rest: Coefficients of all degrees but 0, in the order and with the signs of Kerbl et al., 2023.
        turn: Q, an orthogonal matrix.
    """
    if not rest.shape[1]:
        return rest
    degree = degree_of(rest.shape[1])
    assert degree is not None
    directions = _spread_directions()
    before, after = (_basis(degree, d) for d in (directions, directions @ turn.double().T))
    turned = torch.empty_like(rest)
    for band in range(1, degree + 1):
        columns = slice(band * band, (band + 1) ** 2)
        matrix = torch.linalg.lstsq(after[:, columns], before[:, columns]).solution.round(decimals=12).to(rest)
        own = slice(columns.start - 1, columns.stop - 1)
        turned[:, own] = torch.einsum("jk,nkc->njc", matrix, rest[:, own])
    return turned


def _spread_directions() -> Float[Tensor, "d 3"]:
    """Return directions that are spread evenly: a Fibonacci lattice on the sphere."""
    i = torch.arange(_DIRECTIONS, dtype=torch.float64) + 0.5
    height, angle = 1 - 2 * i / _DIRECTIONS, i * torch.pi * (3 - 5**0.5)
    flat = (1 - height.square()).sqrt()
    return torch.stack([flat * angle.cos(), flat * angle.sin(), height], -1)


def _basis(degree: int, directions: Float[Tensor, "d 3"]) -> Float[Tensor, "d K"]:
    """Return all harmonics up to a degree, in each direction."""
    count = (degree + 1) ** 2
    one_of_each = torch.eye(count, dtype=directions.dtype)[:, :, None].expand(-1, -1, 3)
    return spherical_harmonics(degree, directions[:, None], one_of_each)[..., 0]
