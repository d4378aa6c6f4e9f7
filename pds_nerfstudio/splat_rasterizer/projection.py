"""3D Gaussians as cameras see them: 2D Gaussians on the image plane, and colours by the direction of view.

Both are left to autograd: they cost a few operations over all Gaussians.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class Projection(NamedTuple):
    """Gaussians as C cameras see them."""

    means: Float[Tensor, "C N 2"]
    """Centres in pixels; the centre of the top left pixel is (0.5, 0.5)."""
    conics: Float[Tensor, "C N 3"]
    """Upper triangle (xx, xy, yy) of the inverse 2D covariance, per square pixel."""
    depths: Float[Tensor, "C N"]
    """z in camera space, scene units."""
    radii: Int[Tensor, "C N"]
    """Three standard deviations along the major axis, rounded up, in pixels; 0 for what is not seen."""
    compensations: Float[Tensor, "C N"]
    """What the screen-space blur leaves of the peak, 0 to 1: the factor on opacity in antialiased mode."""


def project(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
) -> Projection:
    """Project 3D Gaussians through pinhole cameras, to first order around each mean.

    A Gaussian of covariance Σ = R S Sᵀ Rᵀ becomes J W Σ Wᵀ Jᵀ + eps2d·I on the image plane (EWA splatting,
    https://www.cs.umd.edu/~zwicker/publications/EWASplatting-TVCG02.pdf, eq. 31), W the camera's rotation and
    J the Jacobian of the perspective division. Like gsplat, J is taken at a point drawn back to 15 % outside
    the image, where the first-order approximation still holds.

    Args:
        means: Centres in the world, scene units.
        quats: Rotations (w, x, y, z), of any non-zero length.
        scales: Standard deviations along the Gaussians' axes, positive, scene units.
        viewmats: World to camera; x right, y down, z forward.
        Ks: Intrinsics in pixels; skew is ignored.
        width: Image width in pixels.
        height: Image height in pixels.
        near_plane: Nearest depth that is seen, scene units.
        far_plane: Farthest depth that is seen.
        radius_clip: Gaussians whose radius is at most this many pixels are not seen.
        eps2d: Variance of the screen-space blur, square pixels.

    Returns:
        The projected Gaussians. Entries with radius 0 are finite but mean nothing.
    """
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rotation = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).view(-1, 3, 3)  # fmt: skip
    # A square root of the covariance in camera space, [C, N, 3, 3].
    axes = torch.einsum("cij,njk->cnik", viewmats[:, :3, :3], rotation * scales[:, None, :])
    centres = means @ viewmats[:, :3, :3].transpose(1, 2) + viewmats[:, None, :3, 3]
    depths = centres[..., 2]
    seen = (depths >= near_plane) & (depths <= far_plane)
    # What is behind the camera must not send infinities into the gradients of what is before it.
    inverse_z = 1 / torch.where(seen, depths, 1.0)
    u, v = centres[..., 0] * inverse_z, centres[..., 1] * inverse_z

    fx, fy, cx, cy = (Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    means2d = torch.stack([fx * u + cx, fy * v + cy], dim=-1)
    border_x, border_y = 0.15 * width / fx, 0.15 * height / fy
    u = torch.minimum(torch.maximum(u, -cx / fx - border_x), (width - cx) / fx + border_x)
    v = torch.minimum(torch.maximum(v, -cy / fy - border_y), (height - cy) / fy + border_y)
    # The two rows of J W R S; their Gram matrix is the 2D covariance.
    row_x = (fx * inverse_z)[..., None] * (axes[..., 0, :] - u[..., None] * axes[..., 2, :])
    row_y = (fy * inverse_z)[..., None] * (axes[..., 1, :] - v[..., None] * axes[..., 2, :])
    xx, xy, yy = (row_x * row_x).sum(-1), (row_x * row_y).sum(-1), (row_y * row_y).sum(-1)
    # Lagrange's identity: det = |row_x × row_y|², which unlike xx·yy − xy² cannot cancel to nothing or below.
    sharp_det = torch.linalg.cross(row_x, row_y).square().sum(-1)
    det = sharp_det + eps2d * (xx + yy) + eps2d * eps2d
    xx, yy = xx + eps2d, yy + eps2d
    conics = torch.stack([yy, -xy, xx], dim=-1) / det[..., None]
    tiny = torch.finfo(det.dtype).tiny  # the square root has no gradient at 0
    compensations = (sharp_det / det).clamp(min=tiny).sqrt()

    with torch.no_grad():
        middle = 0.5 * (xx + yy)
        radius = (3.0 * (middle + (middle * middle - det).clamp(min=0.01).sqrt()).sqrt()).ceil()
        size = torch.tensor([width, height], dtype=means.dtype, device=means.device)
        inside = ((means2d + radius[..., None] > 0) & (means2d - radius[..., None] < size)).all(-1)
        radii = torch.where(seen & inside & (radius > radius_clip), radius, 0.0).int()
    return Projection(means2d, conics, depths, radii, compensations)


def spherical_harmonics(
    degree: int, directions: Float[Tensor, "*#batch 3"], coefficients: Float[Tensor, "*#batch K 3"]
) -> Float[Tensor, "*#batch 3"]:
    """Evaluate real spherical harmonics in the order and with the signs that Gaussian splatting uses.

    The constants are √((2l+1)/4π · (l−|m|)!/(l+|m|)!) with the usual √2 for m ≠ 0 (Sloan, JCGT 2013,
    https://jcgt.org/published/0002/02/06/).

    Args:
        degree: Highest degree evaluated, 0 to 4.
        directions: Where one looks from the camera, of any non-zero length.
        coefficients: At least (degree + 1)² of them; the rest is not read.

    Raises:
        ValueError: If the degree is out of range or there are too few coefficients.
    """
    if not 0 <= degree <= 4:
        raise ValueError(f"Spherical harmonics of degree {degree} are not supported: 0 to 4 are.")
    count = (degree + 1) ** 2
    if coefficients.shape[-2] < count:
        raise ValueError(f"Degree {degree} needs {count} coefficients, got {coefficients.shape[-2]}.")
    x, y, z = F.normalize(directions, dim=-1).unbind(-1)
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        zz, cos2, sin2 = z * z, x * x - y * y, 2 * x * y  # (sin θ)^m · cos mφ, sin mφ
        basis += [
            0.5462742152960396 * sin2,
            -1.0925484305920792 * y * z,
            0.9461746957575601 * zz - 0.31539156525252005,
            -1.0925484305920792 * x * z,
            0.5462742152960396 * cos2,
        ]
    if degree >= 3:
        cos3, sin3 = x * cos2 - y * sin2, x * sin2 + y * cos2
        linear = 0.4570457994644658 - 2.285228997322329 * zz
        basis += [
            -0.5900435899266435 * sin3,
            1.445305721320277 * z * sin2,
            linear * y,
            z * (1.865881662950577 * zz - 1.1195289977703462),
            linear * x,
            1.445305721320277 * z * cos2,
            -0.5900435899266435 * cos3,
        ]
    if degree >= 4:
        cos4, sin4 = x * cos3 - y * sin3, x * sin3 + y * cos3
        linear = z * (2.0071396306718676 - 4.683325804901025 * zz)
        square = 3.3116114351514603 * zz - 0.47308734787878004
        basis += [
            0.6258357354491761 * sin4,
            -1.7701307697799304 * z * sin3,
            square * sin2,
            linear * y,
            0.10578554691520431 * (35 * zz * zz - 30 * zz + 3),
            linear * x,
            square * cos2,
            -1.7701307697799304 * z * cos3,
            0.6258357354491761 * cos4,
        ]
    return (torch.stack(basis, dim=-1)[..., None] * coefficients[..., :count, :]).sum(-2)
