import math

import pytest
import torch

from pds_nerfstudio.vector.raster import affine

MATRIX = (1.5, 0.4, -0.7, 2.0, 3.0, -1.0)


def test_composition_applies_the_inner_map_first() -> None:
    both = affine.compose(affine.translation(1, 2), affine.scaling(3, 4))
    assert affine.apply(both, 1, 1) == (4, 6)


def test_scales() -> None:
    singular = torch.linalg.svdvals(torch.tensor([[1.5, -0.7], [0.4, 2.0]], dtype=torch.float64))
    assert affine.largest_scale(MATRIX) == pytest.approx(float(singular[0]))
    assert affine.mean_scale(MATRIX) == pytest.approx(math.sqrt(float(singular.prod())))
    assert affine.determinant(MATRIX) == pytest.approx(float(singular.prod()))


def test_the_inverse_leads_back() -> None:
    maps = torch.tensor([MATRIX, affine.translation(3, -2)], dtype=torch.float64)
    (a, b, c, d, e, f), moved_back = affine.inverse(maps).tolist()
    assert affine.compose((a, b, c, d, e, f), MATRIX) == pytest.approx(affine.IDENTITY)
    assert tuple(moved_back) == affine.translation(-3, 2)


def test_a_singular_map_has_an_inverse_without_infinities() -> None:
    assert affine.inverse(torch.tensor([1.0, 2, 2, 4, 5, 6], dtype=torch.float64)).isfinite().all()
