"""From winding numbers to coverage in Triton: `coverage.coverage_of_winding` and its derivative."""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from pds_nerfstudio.vector.raster.triton.device import sign


@triton.jit
def coverage_of(winding, odd):
    """Return the coverage; `odd` says where the even-odd rule holds."""
    return tl.where(odd, tl.abs(_folded(winding)), tl.minimum(tl.abs(winding), 1.0))


@triton.jit
def slope_of(winding, odd):
    """Return the derivative of `coverage_of`; 0 at its kinks."""
    nonzero = tl.where(tl.abs(winding) < 1, sign(winding), 0.0)
    return tl.where(odd, sign(_folded(winding)), nonzero)


@triton.jit
def _folded(winding):
    """Return the signed distance from the nearest even number; halves go to the even number of turns, as in PyTorch."""
    half = winding * 0.5
    near = tl.floor(half + 0.5)
    uneven = near - 2 * tl.floor(near * 0.5) == 1
    near = tl.where((near - half == 0.5) & uneven, near - 1, near)
    return winding - 2 * near
