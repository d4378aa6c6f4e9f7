"""Gaussian-splat rasteriser in plain PyTorch, for machines where gsplat's CUDA kernels cannot run.

:func:`rasterization` takes the arguments and gives the results of ``gsplat.rasterization`` (1.4.0,
``packed=False``) for what nerfstudio's splatfacto asks of it. It renders the same image: same projection,
same thresholds, same tile footprint. Three stages, each a function that can be read alone:

1. :func:`project` turns 3D Gaussians into 2D ones (EWA splatting, Zwicker et al. 2001),
   :func:`spherical_harmonics` into colours. Both are left to autograd: they cost a few operations over N.
2. :func:`_list_blocks` lists, for every block of 8x8 pixels, the Gaussians that reach it, nearest first.
3. :class:`_Composite` blends those lists front to back, and has a backward pass written out by hand.

Speed on a CPU comes from the shape of stage 3. Every block takes its list in segments of equal length, so one
tensor operation serves many blocks; blocks whose pixels are all opaque drop out before their next segment;
and the sums over pixels that the gradients need are matrix products with the monomials of the pixel position.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]

ALPHA_MIN = 1.0 / 255.0
"""A Gaussian fainter than this at a pixel is skipped there."""
ALPHA_MAX = 0.999
"""No Gaussian covers more than this, so that transmittance stays positive."""
TRANSMITTANCE_MIN = 1e-4
"""The Gaussian that would bring a pixel's transmittance down to this ends the pixel, undrawn itself."""

_BLOCK = 8
"""Side of a block in pixels. 8 takes little more than half the time of 16: fewer pixels are out of reach."""
_SEGMENT = 64
"""Gaussians of a block's list that are blended at a time."""
_CHUNK_ELEMENTS = (1 << 18, 1 << 24)
"""Pairs of pixel and Gaussian per tensor operation: what a CPU's caches hold, and what keeps a GPU busy."""
_SAVED_ELEMENTS = 1 << 26
"""Pairs kept for the backward pass (two numbers each, 512 MiB in all); later ones are blended again there."""
_REACH_MARGIN = 1e-2
"""Slack, in the exponent, when a Gaussian is said to miss a block: rounding must not drop a visible one."""
_NEEDLE = 16
"""A Gaussian is a needle if its conic's determinant is under this many rounding errors of its products: the
exponent may then come out positive."""


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
        means: centres in the world, scene units.
        quats: rotations (w, x, y, z), of any non-zero length.
        scales: standard deviations along the Gaussians' axes, positive, scene units.
        viewmats: world to camera; x right, y down, z forward.
        Ks: intrinsics in pixels; skew is ignored.
        width: image width in pixels.
        height: image height in pixels.
        near_plane: nearest depth that is seen, scene units.
        far_plane: farthest depth that is seen.
        radius_clip: Gaussians whose radius is at most this many pixels are not seen.
        eps2d: variance of the screen-space blur, square pixels.

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
    degree: int, directions: Float[Tensor, "*batch 3"], coefficients: Float[Tensor, "*batch K 3"]
) -> Float[Tensor, "*batch 3"]:
    """Evaluate real spherical harmonics in the order and with the signs that Gaussian splatting uses.

    The constants are √((2l+1)/4π · (l−|m|)!/(l+|m|)!) with the usual √2 for m ≠ 0 (Sloan, JCGT 2013,
    https://jcgt.org/published/0002/02/06/).

    Args:
        degree: highest degree evaluated, 0 to 4.
        directions: where one looks from the camera, of any non-zero length.
        coefficients: at least (degree + 1)² of them; the rest is not read.

    Raises:
        ValueError: if the degree is out of range or there are too few coefficients.
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


@dataclass(frozen=True)
class _Blocks:
    """The image plane of all cameras cut into blocks, and who reaches each block.

    Blocks are numbered camera by camera, row by row; Gaussians 0 … C·N − 1 camera by camera.
    """

    cameras: int
    rows: int
    columns: int
    width: int
    height: int
    members: Int[Tensor, " pairs"]
    """Gaussians of the first block, nearest first, then of the second, …"""
    starts: Int[Tensor, " blocks"]
    """Where each block's list begins in `members`."""
    lengths: Int[Tensor, " blocks"]

    def to_image(self, pixels: Float[Tensor, "blocks 64 D"]) -> Float[Tensor, "C H W D"]:
        """Put the blocks' pixels in place; what sticks out of the image is cut off."""
        grid = pixels.view(self.cameras, self.rows, self.columns, _BLOCK, _BLOCK, -1).transpose(2, 3)
        image = grid.reshape(self.cameras, self.rows * _BLOCK, self.columns * _BLOCK, -1)
        return image[:, : self.height, : self.width]

    def from_image(self, image: Float[Tensor, "C H W D"]) -> Float[Tensor, "blocks 64 D"]:
        """The inverse of :meth:`to_image`, with zeros for pixels outside the image."""
        beyond = (0, 0, 0, self.columns * _BLOCK - self.width, 0, self.rows * _BLOCK - self.height)
        grid = F.pad(image, beyond).view(self.cameras, self.rows, _BLOCK, self.columns, _BLOCK, -1)
        return grid.transpose(2, 3).reshape(-1, _BLOCK * _BLOCK, image.shape[-1])

    def centres(self, blocks: Int[Tensor, " b"], like: Tensor) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """x and y of the middle of each block, in pixels."""
        x = (blocks % self.columns).to(like.dtype) * _BLOCK + _BLOCK / 2
        y = (blocks // self.columns % self.rows).to(like.dtype) * _BLOCK + _BLOCK / 2
        return x, y


@torch.no_grad()
def _list_blocks(
    means: Float[Tensor, "C N 2"],
    conics: Float[Tensor, "C N 3"],
    opacities: Float[Tensor, "C N"],
    depths: Float[Tensor, "C N"],
    radii: Int[Tensor, "C N"],
    width: int,
    height: int,
    tile_size: int,
) -> _Blocks:
    """List the Gaussians that reach each block of pixels, nearest first.

    gsplat draws a Gaussian on the tiles that its square of side 2·radius touches. This is that footprint,
    less the blocks on all of whose pixels the Gaussian is fainter than ALPHA_MIN, where drawing it changes
    nothing.
    """
    cameras, count = depths.shape
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    reach = torch.log(opacities.flatten() / ALPHA_MIN)  # in the exponent: beyond it, alpha < ALPHA_MIN
    seen = ((radii.flatten() > 0) & (reach >= 0)).nonzero()[:, 0]
    # Stable, so that Gaussians of equal depth keep their order.
    seen = seen[torch.argsort(depths.flatten()[seen], stable=True)]
    x, y = means.flatten(0, 1)[seen].unbind(-1)
    a, b, c = conics.flatten(0, 1)[seen].unbind(-1)
    radius, reach = radii.flatten()[seen].to(x.dtype), reach[seen] + _REACH_MARGIN

    # Least value that rounding allows the determinant. A needle may have none left, and so no bound of its
    # own: that is NaN or infinity below.
    det = a * c - b * b - _NEEDLE * torch.finfo(a.dtype).eps * a * c
    first, last = [], []
    for centre, variance, size in ((x, c / det, width), (y, a / det, height)):
        half = (2 * reach * variance).sqrt().nan_to_num(nan=math.inf, posinf=math.inf)
        footprint_start = torch.floor(centre / tile_size - radius / tile_size) * tile_size
        footprint_end = torch.ceil(centre / tile_size + radius / tile_size) * tile_size
        low = torch.maximum((centre - half - 0.5).ceil(), footprint_start).clamp(min=0)
        high = torch.minimum((centre + half - 0.5).floor(), footprint_end - 1).clamp(max=size - 1)
        empty = low > high
        first.append(torch.where(empty, 0, low).long() // _BLOCK)
        last.append(torch.where(empty, -1, high).long().div(_BLOCK, rounding_mode="floor"))
    across, down = (end - start + 1 for start, end in zip(first, last, strict=True))

    # One entry for every block of each Gaussian's bounding rectangle…
    areas = across * down
    owner = torch.repeat_interleave(areas)
    place = torch.arange(owner.shape[0], device=owner.device) - (areas.cumsum(0) - areas)[owner]
    row, column = torch.div(place, across[owner], rounding_mode="floor"), place % across[owner]
    column, row = column + first[0][owner], row + first[1][owner]
    # …of which those remain whose pixel centres the ellipse reaches.
    table = torch.stack([x, y, a, b, c, reach])
    px, py, a, b, c, limit = table.index_select(1, owner)
    low_x, low_y = column * _BLOCK + 0.5 - px, row * _BLOCK + 0.5 - py
    reached = _least_exponent(a, b, c, low_x, low_x + (_BLOCK - 1), low_y, low_y + (_BLOCK - 1)) <= limit
    owner, row, column = owner[reached], row[reached], column[reached]

    members = seen[owner]
    block = ((members // count if cameras > 1 else 0) * rows + row) * columns + column
    block, order = torch.sort(block.int(), stable=True)
    lengths = torch.bincount(block, minlength=cameras * rows * columns)
    return _Blocks(cameras, rows, columns, width, height, members[order], lengths.cumsum(0) - lengths, lengths)


def _least_exponent(
    a: Tensor, b: Tensor, c: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor
) -> Float[Tensor, " pairs"]:
    """Least value of ½(a·x² + c·y²) + b·x·y over a rectangle.

    A convex function takes its least value on a side that faces its minimum (0, 0), or at (0, 0) itself. So:
    the nearest x with the best y for it, and the nearest y with the best x for it.
    """
    near_x, near_y = torch.zeros_like(left).clamp(left, right), torch.zeros_like(top).clamp(top, bottom)
    best_y, best_x = (-b / c * near_x).clamp(top, bottom), (-b / a * near_y).clamp(left, right)
    # Errs low, by more than the sums can lose to rounding.
    half = 0.5 - _NEEDLE * torch.finfo(a.dtype).eps
    on_x = half * (a * near_x * near_x + c * best_y * best_y) + b * near_x * best_y
    on_y = half * (a * best_x * best_x + c * near_y * near_y) + b * best_x * near_y
    return torch.minimum(on_x, on_y)


class _Splats(NamedTuple):
    """Flat tables of all cameras' Gaussians, with an invisible one at the end to fill up short segments."""

    shape: Float[Tensor, "6 M1"]
    """Rows x, y, conic xx, xy, yy, log opacity: a CPU gathers fastest along rows."""
    colors: Float[Tensor, "M1 D1"]
    """Colours, and a last channel of ones whose picture is the accumulated opacity."""
    guarded: bool
    """Whether alpha may reach ALPHA_MAX, for a high opacity or a needle among the Gaussians."""


class _Segment(NamedTuple):
    """The next few Gaussians on the lists of some blocks."""

    blocks: Int[Tensor, " b"]
    members: Int[Tensor, "b K"]
    before: Float[Tensor, "b 64"]
    """Transmittance in front of them."""


class _Blend(NamedTuple):
    """How a segment's Gaussians cover the pixels of its blocks."""

    ratios: Float[Tensor, "b 64 K"]
    """α / (1 − α); 0 where a Gaussian is skipped."""
    weights: Float[Tensor, "b 64 K"]
    """α · T, T the transmittance in front of the Gaussian; 0 where it is skipped or the pixel has ended."""
    after: Float[Tensor, "b 64"]
    """Transmittance behind the segment, the Gaussian that ended the pixel included."""


def _segments(
    blocks: _Blocks,
    active: Int[Tensor, " a"],
    start: int,
    transmittance: Float[Tensor, "blocks 64"],
    nobody: int,
) -> list[_Segment]:
    """Segments from place `start` on of the lists of the blocks `active`, some blocks at a time."""
    place = start + torch.arange(_SEGMENT, device=active.device)
    slots = (blocks.starts[active, None] + place).clamp(max=blocks.members.shape[0] - 1)
    members = torch.where(place < blocks.lengths[active, None], blocks.members[slots], nobody)
    size = max(1, _CHUNK_ELEMENTS[active.device.type == "cuda"] // (_SEGMENT * _BLOCK * _BLOCK))
    return [
        _Segment(chosen, ids, transmittance[chosen])
        for chosen, ids in zip(active.split(size), members.split(size), strict=True)
    ]


def _offsets(
    splats: _Splats, blocks: _Blocks, segment: _Segment
) -> tuple[Float[Tensor, "4 b K"], Float[Tensor, "b 8 K"], Float[Tensor, "b 8 K"]]:
    """Conics and log opacities of a segment, and its Gaussians' distances from a block's columns and rows."""
    shape = splats.shape.index_select(1, segment.members.flatten()).view(6, *segment.members.shape)
    x, y = blocks.centres(segment.blocks, shape)
    steps = torch.arange(_BLOCK, dtype=shape.dtype, device=shape.device) - (_BLOCK - 1) / 2
    dx = (shape[0] - x[:, None])[:, None, :] - steps[:, None]
    dy = (shape[1] - y[:, None])[:, None, :] - steps[:, None]
    return shape[2:], dx, dy


def _colors(splats: _Splats, segment: _Segment) -> Float[Tensor, "b K D1"]:
    """Colours of a segment's Gaussians."""
    return splats.colors.index_select(0, segment.members.flatten()).view(*segment.members.shape, -1)


def _blend(splats: _Splats, blocks: _Blocks, segment: _Segment) -> _Blend:
    """Blend a segment front to back.

    With σ = ½ (a·dx² + c·dy²) + b·dx·dy, α = min(ALPHA_MAX, opacity · exp(−σ)), or 0 below ALPHA_MIN; each
    Gaussian's weight is α times the product of 1 − α of those before it (Kerbl et al. 2023, eq. 3,
    https://arxiv.org/abs/2308.04079). Every line is one pass over all pairs of pixel and Gaussian, in place
    where it can be.
    """
    (a, b, c, log_opacity), dx, dy = _offsets(splats, blocks, segment)
    along_x, along_y = -0.5 * a[:, None] * dx * dx, log_opacity[:, None] - 0.5 * c[:, None] * dy * dy
    alpha = along_x[:, None, :, :] + along_y[:, :, None, :]
    alpha.addcmul_((b[:, None] * dx)[:, None, :, :], dy[:, :, None, :], value=-1.0)
    alpha = alpha.flatten(1, 2)
    if splats.guarded:
        alpha.masked_fill_(alpha > log_opacity[:, None], -math.inf)  # σ < 0: gsplat skips it too
    alpha = torch.threshold_(alpha.exp_(), _below(ALPHA_MIN, alpha.dtype), 0.0)
    if splats.guarded:
        alpha.clamp_(max=ALPHA_MAX)
    passed = 1.0 - alpha
    ratios = alpha.div_(passed)
    passed[:, :, 0] *= segment.before
    transmittance = passed.cumprod_(-1)
    after = transmittance[:, :, -1].clone()
    # T·(1 − α) is at hand and T is not: α·T = (α / (1 − α)) · T·(1 − α).
    weights = torch.threshold_(transmittance, TRANSMITTANCE_MIN, 0.0).mul_(ratios)
    return _Blend(ratios, weights, after)


def _below(value: float, dtype: torch.dtype) -> float:
    """The number just below `value` as `dtype` rounds it, so that `> result` means `>= value`."""
    return torch.nextafter(torch.tensor(value, dtype=dtype), torch.zeros((), dtype=dtype)).item()


class _Composite(torch.autograd.Function):
    """Alpha compositing of listed 2D Gaussians.

    With g the gradient on a pixel, c a Gaussian's colour, w = α·T its weight, the loss changes with α as

        ∂L/∂α_i = (g·c_i) T_i − (Σ_{j behind i} (g·c_j) w_j) / (1 − α_i)

    and ∂α/∂ log opacity = α, ∂α/∂σ = −α. So one number per pixel and Gaussian, h = α ∂L/∂α, gives every
    gradient: sums of h times 1, x, y, x², xy, y² over a block's pixels, which one matrix product takes.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means: Float[Tensor, "M 2"],
        conics: Float[Tensor, "M 3"],
        opacities: Float[Tensor, " M"],
        colors: Float[Tensor, "M D"],
        blocks: _Blocks,
        absgrad: Float[Tensor, "M 2"] | None,
    ) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"]]:
        nobody = means.shape[0]
        shape = torch.cat([means, conics, opacities.log()[:, None]], dim=1)
        shape = torch.cat([shape.t(), shape.new_tensor([0.0, 0.0, 0.0, 0.0, 0.0, -math.inf])[:, None]], dim=1)
        table = F.pad(F.pad(colors, (0, 1), value=1.0), (0, 0, 0, 1))
        a, b, c = conics.unbind(-1)
        needle = a * c - b * b < _NEEDLE * torch.finfo(a.dtype).eps * a * c
        guarded = (opacities > ALPHA_MAX - 1e-3) | needle
        splats = _Splats(shape, table, guarded=bool(guarded[blocks.members].any()))

        inside = means.new_ones(blocks.cameras, blocks.height, blocks.width, 1)
        transmittance = blocks.from_image(inside)[..., 0]
        picture = means.new_zeros(*transmittance.shape, table.shape[1])
        kept: list[tuple[_Segment, _Blend | None]] = []
        saved, differentiated = 0, any(ctx.needs_input_grad)
        active, start = (blocks.lengths > 0).nonzero()[:, 0], 0
        while active.shape[0] > 0:
            for segment in _segments(blocks, active, start, transmittance, nobody):
                blend = _blend(splats, blocks, segment)
                picture.index_add_(0, segment.blocks, torch.bmm(blend.weights, _colors(splats, segment)))
                transmittance[segment.blocks] = blend.after
                saved += blend.weights.numel()
                if differentiated:
                    kept.append((segment, blend if saved <= _SAVED_ELEMENTS else None))
            start += _SEGMENT
            unfinished = (transmittance[active] > TRANSMITTANCE_MIN).any(-1)
            active = active[unfinished & (blocks.lengths[active] > start)]
        ctx.splats, ctx.blocks, ctx.kept, ctx.absgrad = splats, blocks, kept, absgrad
        image = blocks.to_image(picture)
        return image[..., :-1].contiguous(), image[..., -1:].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        splats, blocks = ctx.splats, ctx.blocks
        wanted = blocks.from_image(torch.cat(grads, dim=-1))
        behind = wanted.new_zeros(wanted.shape[:2])
        total = wanted.new_zeros(_SUMS + wanted.shape[-1], splats.shape.shape[1])
        for segment, blend in reversed(ctx.kept):
            blend = blend or _blend(splats, blocks, segment)
            sums = _sums(splats, blocks, segment, blend, wanted, behind, ctx.absgrad is not None)
            total.index_add_(1, segment.members.flatten(), sums.transpose(0, 1).flatten(1))
        total = total[:, :-1]  # less the invisible one
        opacity, x, y, xx, xy, yy, abs_x, abs_y = total[:_SUMS]
        _, _, a, b, c, log_opacity = splats.shape[:, :-1]
        if ctx.absgrad is not None:
            ctx.absgrad.copy_(torch.stack([abs_x, abs_y], dim=1))
        grad_means = torch.stack([-(a * x + b * y), -(b * x + c * y)], dim=1)
        grad_conics = torch.stack([-0.5 * xx, -xy, -0.5 * yy], dim=1)
        grad_opacities = torch.where(opacity == 0, 0.0, opacity * (-log_opacity).exp())
        return grad_means, grad_conics, grad_opacities, total[_SUMS:-1].t(), None, None


_SUMS = 8
"""Rows of what :func:`_sums` returns before the gradients on the colours."""


def _sums(
    splats: _Splats,
    blocks: _Blocks,
    segment: _Segment,
    blend: _Blend,
    wanted: Float[Tensor, "blocks 64 D1"],
    behind: Float[Tensor, "blocks 64"],
    absolute: bool,
) -> Float[Tensor, "b R K"]:
    """Sum h = α ∂L/∂α over the pixels of each block, for each Gaussian of a segment.

    Args:
        splats: the Gaussians.
        blocks: the blocks.
        segment: the segment.
        blend: what :func:`_blend` made of it.
        wanted: gradient on colours and accumulated opacity, for all blocks.
        behind: Σ (g·c) w over what lies behind the segment, for all blocks; brought to the segment's front.
        absolute: whether to sum |h (a·dx + b·dy)| and |h (b·dx + c·dy)| too, at twice the cost.

    Returns:
        Rows: the sums of h, and of h times dx, dy, dx², dx·dy, dy² (Gaussian's centre less pixel's); the two
        absolute sums, or zeros; and the gradient on each colour channel.
    """
    gradient = wanted[segment.blocks]
    on_colors = torch.bmm(gradient.transpose(1, 2), blend.weights)
    pulls = torch.bmm(gradient, _colors(splats, segment).transpose(1, 2)).mul_(blend.weights)
    upto = pulls.cumsum(-1)
    beyond = behind[segment.blocks] + upto[:, :, -1]
    behind[segment.blocks] = beyond
    h = pulls.addcmul_(blend.ratios, upto.sub_(beyond[:, :, None]))
    if splats.guarded:  # a clamped alpha does not move
        alpha_max = torch.tensor(ALPHA_MAX, dtype=h.dtype)
        h.masked_fill_(blend.ratios >= (alpha_max / (1 - alpha_max)).item(), 0.0)

    (a, b, c, _), dx, dy = _offsets(splats, blocks, segment)
    steps = torch.arange(_BLOCK, dtype=h.dtype, device=h.device) - (_BLOCK - 1) / 2
    py, px = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    monomials = torch.stack([torch.ones_like(px), px, py, px * px, px * py, py * py])
    one, x, y, xx, xy, yy = torch.matmul(monomials, h).unbind(1)
    # From the block's middle to the Gaussian's: dx = mx − px.
    mx, my = dx[:, 0] + steps[0], dy[:, 0] + steps[0]
    rows = [
        one,
        mx * one - x,
        my * one - y,
        mx * (mx * one - 2 * x) + xx,
        mx * (my * one - y) - my * x + xy,
        my * (my * one - 2 * y) + yy,
    ]
    if absolute:
        h = h.view(-1, _BLOCK, _BLOCK, h.shape[-1])
        for along_x, along_y in ((a, b), (b, c)):
            slope = (along_x[:, None] * dx)[:, None, :, :] + (along_y[:, None] * dy)[:, :, None, :]
            per_pixel = slope.mul_(h).abs_().flatten(1, 2)
            rows.append(torch.matmul(monomials[:1], per_pixel)[:, 0])  # faster than sum
    else:
        rows += [torch.zeros_like(one)] * 2
    return torch.cat([torch.stack(rows, dim=1), on_colors], dim=1)


def rasterization(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "*C N D"] | Float[Tensor, "*C N K 3"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    tile_size: int = 16,
    backgrounds: Float[Tensor, "C D"] | None = None,
    render_mode: RenderMode = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
) -> tuple[Float[Tensor, "C H W X"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Render 3D Gaussians from C cameras; a stand-in for ``gsplat.rasterization`` with ``packed=False``.

    Gradients flow to means, quats, scales, opacities, colors, viewmats, Ks and backgrounds. On a CPU the same
    inputs give the same bits, image and gradients alike.

    Args:
        means: centres in the world, scene units.
        quats: rotations (w, x, y, z), of any non-zero length.
        scales: standard deviations along the Gaussians' axes, positive, scene units.
        opacities: peak opacities, 0 to 1.
        colors: without `sh_degree`, any D channels for each Gaussian (and camera); with it, K harmonic
            coefficients of three channels, K ≥ (sh_degree + 1)², of which colour − ½ is made.
        viewmats: world to camera; x right, y down, z forward.
        Ks: intrinsics in pixels; skew is ignored.
        width: image width in pixels.
        height: image height in pixels.
        near_plane: nearest depth that is drawn, scene units.
        far_plane: farthest depth that is drawn.
        radius_clip: Gaussians whose radius is at most this many pixels are not drawn.
        eps2d: variance of the screen-space blur, square pixels.
        sh_degree: degree of the harmonics, 0 to 4; None if `colors` are colours.
        packed: must be False.
        tile_size: side of gsplat's tiles, a multiple of 8. It decides where Gaussians are cut off: each is
            drawn on the tiles that its three-sigma square touches, as gsplat does.
        backgrounds: colour behind the Gaussians; depth channels have 0 there.
        render_mode: what the channels are: RGB the colours, D accumulated depth Σ w z, ED expected depth
            Σ w z / Σ w, or both.
        sparse_grad: no effect, as in gsplat when not packed.
        absgrad: whether to leave, at `info["means2d"].absgrad` after the backward pass, the sums of the
            absolute values of each pixel's gradient on the 2D means (AbsGS,
            https://arxiv.org/abs/2404.10484). Zeros before.
        rasterize_mode: "antialiased" multiplies opacities by what the blur leaves of the peak (Mip-Splatting,
            https://arxiv.org/abs/2311.16493).

    Returns:
        The rendered channels, the accumulated opacity (0 to 1), and what densification strategies read:
        `means2d` (call `retain_grad()` on it), `radii`, `depths`, `conics`, `opacities`, `width`, `height`,
        `tile_size`, `tile_width`, `tile_height`, `n_cameras`, and None for `camera_ids` and `gaussian_ids`.

    Raises:
        NotImplementedError: if `packed`.
        ValueError: if a mode is unknown, `tile_size` is not a multiple of 8, or the harmonics do not fit.
    """
    if packed:
        raise NotImplementedError("Packed rasterization needs gsplat's CUDA kernels; pass packed=False.")
    if render_mode not in get_args(RenderMode):
        raise ValueError(f"Unknown render_mode {render_mode!r}: one of {', '.join(get_args(RenderMode))}.")
    if rasterize_mode not in ("classic", "antialiased"):
        raise ValueError(f"Unknown rasterize_mode {rasterize_mode!r}: classic or antialiased.")
    if tile_size <= 0 or tile_size % _BLOCK != 0:
        raise ValueError(f"tile_size must be a positive multiple of {_BLOCK}, got {tile_size}.")
    cameras, count = viewmats.shape[0], means.shape[0]
    view = project(means, quats, scales, viewmats, Ks, width, height, near_plane, far_plane, radius_clip, eps2d)
    visible = opacities.expand(cameras, count)
    if rasterize_mode == "antialiased":
        visible = visible * view.compensations

    channels = []
    if render_mode not in ("D", "ED"):
        if sh_degree is not None:
            eyes = torch.linalg.inv(viewmats)[:, None, :3, 3]
            colors = (spherical_harmonics(sh_degree, means - eyes, colors) + 0.5).clamp(min=0.0)
        channels.append(colors.expand(cameras, count, -1))
    if render_mode != "RGB":
        channels.append(view.depths[..., None])
    features = torch.cat(channels, dim=-1)

    blocks = _list_blocks(view.means, view.conics, visible, view.depths, view.radii, width, height, tile_size)
    absolute = torch.zeros_like(view.means) if absgrad else None
    image, alpha = _Composite.apply(
        view.means.flatten(0, 1),
        view.conics.flatten(0, 1),
        visible.flatten(),
        features.flatten(0, 1),
        blocks,
        None if absolute is None else absolute.flatten(0, 1),
    )
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha.clamp(min=1e-10)], dim=-1)
    if backgrounds is not None and render_mode not in ("D", "ED"):
        shown = backgrounds[:, None, None, :] * (1.0 - alpha)
        image = image + (shown if render_mode == "RGB" else F.pad(shown, (0, 1)))
    if absolute is not None:
        view.means.absgrad = absolute  # type: ignore[attr-defined]
    info = {
        "camera_ids": None,
        "gaussian_ids": None,
        "means2d": view.means,
        "radii": view.radii,
        "depths": view.depths,
        "conics": view.conics,
        "opacities": visible,
        "width": width,
        "height": height,
        "tile_size": tile_size,
        "tile_width": -(-width // tile_size),
        "tile_height": -(-height // tile_size),
        "n_cameras": cameras,
    }
    return image, alpha, info
